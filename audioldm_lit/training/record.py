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
    coverage: Mapping[Split, FoundClips],
    *,
    held_out_clips: int,
    judged_by: str,
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
        coverage: Of each split, how many of the listed clips were there.
        held_out_clips: How many clips its checks judged.
        judged_by: What the held-out loss is an error of.
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
        "held_out_loss_of": judged_by,
        "held_out_loss_before": outcome.base_loss,
        "held_out_losses_before": outcome.base_losses,  # by timestep, or by its other parts
        "best_step": best.step,
        "held_out_loss_after": best.loss,
        "average": best.average,
        "held_out_clips": held_out_clips,
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


def judged(clips: int, batch_size: int, limit: int | float) -> int:
    """How many held-out clips a check judges.

    Args:
        clips: How many there are.
        batch_size: Clips of a batch, over all processes.
        limit: Lightning's `limit_val_batches`, which `overfit_batches` sets too: a number of batches, or as a float their share.
    """
    batches = -(-clips // batch_size)
    return min(clips, batch_size * (int(batches * limit) if isinstance(limit, float) else limit))


def evaluation_record(outcome: Outcome, clips: EncodedDataset, base: str, judged_at: int | str, seed: int) -> dict[str, Any]:
    """The content of `test.json`: the loss of the test clips with its interval, beside the scores where there are any.

    Args:
        outcome: What the test found.
        clips: The test clips.
        base: Fingerprint of the base's UNet, and of its decoder where that trains.
        judged_at: At how many timesteps every clip's loss was taken, or what it is an error of where that is not the noise.
        seed: Seed of the interval's resampling.
    """
    assert outcome.test_loss is not None
    count = len(outcome.test_loss.influence[0])
    judged = [clips.fingerprint(), *([count] if count < len(clips) else [])]  # `limit_test_batches` leaves some out
    under = json.dumps([base, judged_at, *judged], sort_keys=True)
    loss = {
        "value": outcome.test_loss.value,
        "interval": outcome.test_loss.interval(seed),
        "n_clips": count,
        "higher_is_better": False,
        "passport": hashlib.sha256(under.encode()).hexdigest(),  # of what it may be compared under
    }
    scores = outcome.evaluation.as_dict() if outcome.evaluation else {"metrics": {}, "not_computed": {}, "passport": {}}
    return {"loss": loss, **scores}
