"""What is kept of a run as plain data, ready for JSON. Pure: no file, clock or device is asked for anything."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audioldm_lit.data.clips import FoundClips, Split
from audioldm_lit.training.cache import EncodedDataset
from audioldm_lit.training.outcome import Outcome


def run_record(
    outcome: Outcome,
    train: EncodedDataset,
    held_out: EncodedDataset,
    coverage: Mapping[Split, FoundClips],
    *,
    steps: int,
    trained_weights: int,
    seconds: float,
    peak_device_memory_gb: float | None,
    adapter: Path,
    auditions: Path | None,
) -> dict[str, Any]:
    """The content of `result.json`.

    Args:
        outcome: What the training found, with the best weights and their effect.
        train: Its training clips.
        held_out: The clips of its checks.
        coverage: Of each split, how many of the listed clips were there.
        steps: Optimizer steps.
        trained_weights: How many numbers were trained.
        seconds: What it took, encoding included.
        peak_device_memory_gb: The most that tensors took of a GPU; None elsewhere.
        adapter: File of the adapter.
        auditions: Folder of what was heard, where there is one.
    """
    best, dials = outcome.best, outcome.dials
    assert best is not None
    assert outcome.effect is not None
    return {
        "held_out_loss_before": outcome.base_loss,
        "best_step": best.step,
        "held_out_loss_after": best.loss,
        "average": best.average,
        "held_out_clips": len(held_out),
        "training_clips": len(train.clips.clips),
        "training_clips_sha256": train.fingerprint(),
        "coverage": {split: str(found) for split, found in coverage.items()},
        "steps": steps,
        "trained_weights": trained_weights,
        "seconds": seconds,
        "peak_device_memory_gb": peak_device_memory_gb,
        "adapter": str(adapter),
        "auditions": auditions and str(auditions),
        "checkpoint": best.checkpoint,
        **({"dials": {"base": asdict(dials[0]), "best": asdict(dials[1])}} if dials else {}),
        "effect": outcome.effect.as_dict(),
    }


def evaluation_record(outcome: Outcome, clips: EncodedDataset, base: str, val_timesteps: int, seed: int) -> dict[str, Any]:
    """The content of `test.json`: the loss of the test clips with its interval, beside the scores where there are any.

    Args:
        outcome: What the test found.
        clips: The test clips.
        base: Fingerprint of the base's UNet.
        val_timesteps: Timesteps at which every clip's loss was taken.
        seed: Seed of the interval's resampling.
    """
    under = json.dumps([base, val_timesteps, clips.fingerprint()], sort_keys=True)
    assert outcome.test_loss is not None
    loss = {
        "value": outcome.test_loss.value,
        "interval": outcome.test_loss.interval(seed),
        "n_clips": len(clips),
        "higher_is_better": False,
        "passport": hashlib.sha256(under.encode()).hexdigest(),  # of what it may be compared under
    }
    scores = outcome.evaluation.as_dict() if outcome.evaluation else {"metrics": {}, "not_computed": {}, "passport": {}}
    return {"loss": loss, **scores}
