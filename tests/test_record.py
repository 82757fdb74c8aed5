"""The record of a run is a pure function of it."""

import json
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from audioldm_lit.callbacks.result_table import show
from audioldm_lit.data.clips import Clip, ClipDataset, FoundClips
from audioldm_lit.inference.effect import Effect
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.storage.shards import Shards
from audioldm_lit.training.cache import EncodedDataset
from audioldm_lit.training.outcome import BestWeights, Outcome, Reading
from audioldm_lit.training.record import evaluation_record, judged, run_record

touched: list[str] = []
sys.addaudithook(lambda event, _: touched.append(event) if event == "open" or event.startswith(("os.", "shutil.")) else None)


def encoded(folder: Path, *names: str) -> EncodedDataset:
    clips = ClipDataset([Clip(name, Path(f"{name}.wav"), f"a {name}") for name in names], 16000, 10240, "repeat")
    return EncodedDataset(clips, [f"key of {name}" for name in names], Shards(folder), {}, waveforms=False)


def test_a_record_says_what_the_run_does_and_touches_no_file(tmp_path):
    base, best = Reading(42.0, 0.0, 0.25, 0.0), Reading(40.0, 0.125, 0.5, -0.25)
    outcome = Outcome(
        base_losses=[1.0, 3.0],
        readings={0: base, 2: Reading(41.0, 0.0, 0.25, 0.0), 4: best},
        best=BestWeights("best.ckpt", 4, 1.5, ", average of sigma_rel 0.1"),
        effect=Effect({"conv_in": 0.5}, {}, {900: 0.01, 700: 0.03}),
    )
    train = encoded(tmp_path, "bell", "dog")
    coverage = {"train": FoundClips(2, 2), "val": FoundClips(1, 3)}
    costs = {
        "held_out_clips": 1,
        "judged_by": "noise",
        "steps": 6,
        "trained_weights": 7,
        "seconds": 8.5,
        "peak_device_memory_gb": None,
    }

    def record() -> dict:
        return run_record(outcome, train, coverage, **costs, adapter=Path("a.safetensors"), auditions=None)

    first = record()
    touched.clear()
    assert (
        json.dumps(record())
        == json.dumps(first)
        == json.dumps(
            {
                "held_out_loss_of": "noise",
                "held_out_loss_before": 2.0,
                "held_out_losses_before": [1.0, 3.0],
                "best_step": 4,
                "held_out_loss_after": 1.5,
                "average": ", average of sigma_rel 0.1",
                "held_out_clips": 1,
                "training_clips": 2,
                "training_clips_sha256": train.fingerprint(),
                "coverage": {"train": "2 of 2 clips, 100.0 %", "val": "1 of 3 clips, 33.3 %"},
                "steps": 6,
                "trained_weights": 7,
                "seconds": 8.5,
                "peak_device_memory_gb": None,
                "adapter": "a.safetensors",
                "auditions": None,
                "checkpoint": "best.ckpt",
                "dials": {
                    "base": {"learned": 42.0, "copied": 0.0, "general": 0.25, "forgot": 0.0},
                    "best": {"learned": 40.0, "copied": 0.125, "general": 0.5, "forgot": -0.25},
                },
                "effect": {
                    "verdict": "moderate",
                    "distance": 0.02,
                    "blocks": {"conv_in": 0.5},
                    "added": {},
                    "distances": {"900": 0.01, "700": 0.03},
                    "sound": None,
                },
            }
        )
    )
    assert not touched


@pytest.mark.parametrize(("limit", "seen"), [(1.0, 10), (0.5, 4), (0.99, 8), (0, 0), (1, 4), (2, 8), (3, 10), (99, 10)])
def test_the_first_batches_are_judged_as_lightning_limits_them(limit, seen):
    assert judged(10, 4, limit) == seen


def test_test_losses_of_fewer_clips_are_counted_and_not_comparable(tmp_path):
    clips = encoded(tmp_path, "bell", "dog", "rain")
    parts = [evaluation_record(Outcome(test_loss=Estimate.of_mean(torch.ones(n))), clips, "base", 4, 0)["loss"] for n in (2, 3)]
    assert [part["n_clips"] for part in parts] == [2, 3]
    assert parts[0]["passport"] != parts[1]["passport"]


@pytest.mark.parametrize(("after", "said"), [(0.99999, "equal to 0.1%"), (1.0, "equal to 0.1%"), (0.999, "-0.1%")])
def test_a_change_that_rounds_to_zero_has_no_sign(after, said, capsys):
    shown = {"held_out_loss_before": 1.0, "held_out_loss_after": after, "held_out_clips": 2, "trained_weights": 1, "steps": 1}
    shown |= {"training_clips": 1, "coverage": {}, "best_step": 1, "average": "", "auditions": None, "adapter": "a", "seconds": 1.0}
    show(shown, Console(width=200))
    assert f"({said}); 2 clips" in capsys.readouterr().out
