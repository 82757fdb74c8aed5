"""Folders of finished runs, written without a training: what is in them is what `fit` writes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from audioldm_lit import seeding
from audioldm_lit.audio.waveform import write
from audioldm_lit.evaluation.evaluation import Evaluation
from audioldm_lit.evaluation.kept import write_evaluations
from audioldm_lit.evaluation.passport import stamp
from audioldm_lit.evaluation.score import Floor, Score
from audioldm_lit.inference.manifest import file_stem
from audioldm_lit.metrics.base import Rows
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.storage.atomic_write import write_json

RATE = 16_000
CLIPS = tuple((f"{label}/{number}.wav", f"a {label}", label) for label in ("dog", "rain") for number in range(4))
PITCH = {"recordings": 440.0, "base": 220.0, "adapted": 330.0, "reconstructed": 430.0, "training": 330.0}


def finished_run(
    folder: Path, clips: Sequence[tuple[str, str, str]] = CLIPS, gain: float = 1.0, copied: bool = False, heard: int = 2
) -> Path:
    """A run whose adapted model is better by `gain` and less for the first clips than for the last.

    Args:
        folder: Of the run.
        clips: Id, caption and class of every held-out clip.
        gain: Mean difference of the score.
        copied: Whether its first clip is a suspected copy.
        heard: How many of the clips have sounds.
    """
    settings = {"seed_everything": 0, "trainer": {"max_steps": 20}, "scores": {"num_candidates": 1}}
    settings |= {"model": {"backbone": "checkpoints/audioldm-nano", "optimizer": {"init_args": {"lr": 0.001}}}}
    settings |= {"data": {"class_path": "audioldm_lit.data.folder.Folder", "init_args": {"root": "dogs 'n' rain"}}}
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    effect = {"verdict": "moderate", "blocks": {"conv_in": 0.01, "mid_block": 0.2}, "distance": 0.05, "distances": {}, "added": {}}
    dials = {name: {"learned": 3.0, "copied": 0.0, "general": 0.2, "forgot": 0.0} for name in ("base", "best")}
    result: dict[str, Any] = {"best_step": 20, "steps": 20, "seconds": 90.0, "training_clips": 2, "trained_weights": 1000}
    result |= {"held_out_losses_before": [0.2, 0.1], "peak_device_memory_gb": None, "effect": effect, "dials": dials}
    write_json(folder / "result.json", result)
    header = "epoch,step,train/loss,val/change,val/loss,val/loss_t250,val/loss_t750\n"
    (folder / "metrics.csv").write_text(
        f"{header}0,9,0.1,,,,\n0,9,,-0.2,0.12,0.18,0.06\n0,19,,-0.3,0.1,0.16,0.04\n", encoding="utf-8"
    )
    listed = {name: {"caption": caption, "audio_sha256": str(seeding.number(name))} for name, caption, _ in clips}
    write_json(folder / "clips.json", {"train": {"sha256": "", "clips": {"t.wav": {"caption": "a dog", "audio_sha256": "t"}}},
                                       "val": {"sha256": "", "clips": listed}})  # fmt: skip
    _sounds(folder / "scores", clips[:heard])
    write_evaluations(folder / "scores", _evaluations([name for name, _, _ in clips], gain, copied))
    return folder


def _sounds(folder: Path, clips: Sequence[tuple[str, str, str]]) -> None:
    times = torch.arange(round(0.5 * RATE)) / RATE
    for kind, pitch in PITCH.items():
        shown = [("t.wav", "a dog", "dog")] if kind == "training" else clips
        rows = [{"file": f"{file_stem(name)}.wav", "id": name, "prompt": caption, "label": label} for name, caption, label in shown]
        for number, row in enumerate(rows):
            write(folder / kind / row["file"], 0.4 * torch.sin(2 * torch.pi * pitch * (1 + number / 20) * times), RATE)
        (folder / kind / "manifest.json").write_text(json.dumps({"system": kind, "clips": rows}), encoding="utf-8")


def _evaluations(names: Sequence[str], gain: float, copied: bool) -> dict[str, Evaluation]:
    order = sorted(names, key=seeding.number)
    ids = torch.tensor([seeding.number(name) for name in order])
    side = {"n_clips": len(names), "ids_sha256": "", "audio_sha256": ""}
    passport = stamp({"protocol": {"name": "made", "version": 1}, "n_generated": len(names)}, {"target": side, "preds": side})
    spread = torch.tensor([names.index(name) / len(names) for name in order], dtype=torch.float64)
    values = {"base": 5 + 0.1 * spread, "adapted": 5 - gain - 0.2 * spread, "reconstructed": 1 + 0 * spread}
    evaluations = {}
    for system, each in values.items():
        estimate = Estimate.of_mean(each)
        rows = Rows(torch.empty(len(names), 0), torch.arange(len(names)), ids)
        score = Score(estimate, [rows], ("preds",), False, "made", estimate.interval(), Floor(0.5, 1.0, len(names)))
        evaluations[system] = Evaluation({"kl": score}, passport)
    if copied:
        near = Estimate.of_share(torch.ones(len(names)), threshold=0.9, nearest=[(names[0], "t.wav", 0.97)])
        evaluations["adapted"].scores["copies"] = Score(near, [rows], ("preds",), False, "made", near.interval())  # type: ignore[index]
    return evaluations
