"""The end of a run: the adapter as one file, and a table that says whether it helped."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from audioldm_lit.adapters.file import save_adapter
from audioldm_lit.callbacks.audition import Audition, rank_zero_folder
from audioldm_lit.callbacks.best_check import BestCheck
from audioldm_lit.callbacks.dials import Dials
from audioldm_lit.callbacks.scores import report, score_systems
from audioldm_lit.errors import InputError
from audioldm_lit.module import LitAudioLDM


class Result(Callback):
    """Writes `adapter.safetensors` (the best check by held-out loss), `result.json`, `scores.json` and `clips.json`.

    The last proves what was trained and validated on: every clip's id, caption and hash. The others are printed too.

    Args:
        scores: Whether `fit` ends with scores of base, adapted model and real recordings, for which both models generate a clip for
            every held-out clip; needs `model.protocol`. `test` writes its scores in any case.
    """

    def __init__(self, scores: bool = False) -> None:
        self.scores = scores
        self.began = time.monotonic()

    def setup(self, trainer: Trainer, pl_module: LitAudioLDM, stage: str) -> None:
        """Start the clock, encoding included."""
        if self.scores and pl_module.protocol is None:
            raise InputError("result.scores needs metrics; set model.protocol, for example to configs/protocol/embedded.yaml.")
        if self.scores and not pl_module.data.captioned:
            raise InputError("result.scores needs captions to generate from, and data.init_args.caption is null; set it to false.")
        self.began = time.monotonic()

    def on_fit_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Export and report, on the first process, then score, on all."""
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # a collective call: every process makes it
        if not best and isinstance(trainer.checkpoint_callback, BestCheck) and not trainer.fast_dev_run:
            raise _none_good_enough(trainer.checkpoint_callback, folder)
        if not best:
            return
        checkpoint = torch.load(best, weights_only=True, map_location="cpu")
        average = checkpoint["audioldm_lit"]["ema"]
        weights = average["average"] if average else checkpoint["state_dict"]
        if trainer.is_global_zero:
            self._export(trainer, pl_module, checkpoint["global_step"], weights)
        if self.scores:
            evaluations = score_systems(trainer, pl_module, weights, folder / "scores")
            if trainer.is_global_zero:
                report(evaluations, folder)

    def on_test_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Write what `test` found."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        if pl_module.evaluation is not None and trainer.is_global_zero:
            report({"generated": pl_module.evaluation}, folder)

    def _export(self, trainer: Trainer, pl_module: LitAudioLDM, best_step: int, weights: dict[str, Tensor]) -> None:
        folder = rank_zero_folder(trainer)
        adapter = folder / "adapter.safetensors"
        prediction_type = pl_module.objective.prediction_type
        save_adapter(adapter, pl_module.adapter, weights, pl_module.base_fingerprint, prediction_type)
        auditions = Audition.folder(trainer)
        result = {
            "held_out_loss_before": pl_module.base_loss,
            "held_out_loss_after": float(trainer.checkpoint_callback.best_model_score),
            "held_out_clips": len(pl_module.data.datasets["val"]),
            "training_clips": len(pl_module.data.datasets["train"].clips.clips),
            "best_step": best_step,
            "steps": trainer.global_step,
            "trained_weights": sum(weight.numel() for weight in weights.values()),
            "seconds": round(time.monotonic() - self.began, 1),
            "adapter": str(adapter),
            "auditions": str(auditions) if auditions.is_dir() else None,
            "checkpoint": trainer.checkpoint_callback.best_model_path,
        }
        encoded = {split: pl_module.data.datasets[split] for split in ("train", "val")}
        clips = {split: {"sha256": one.fingerprint(), "clips": one.contents()} for split, one in encoded.items()}
        readings = next(one for one in trainer.callbacks if isinstance(one, Dials)).readings
        if readings:
            result["dials"] = {"base": asdict(readings[0]), "best": asdict(readings[best_step])}
        result["training_clips_sha256"] = clips["train"]["sha256"]
        result["coverage"] = {split: str(one) for split, one in pl_module.data.coverage.items()}
        (folder / "clips.json").write_text(json.dumps(clips, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        show(result, Console())


def _none_good_enough(policy: BestCheck, folder: Path) -> InputError:
    return InputError(
        f"no check stayed within checkpoint.max_copied={policy.max_copied:g} and checkpoint.max_forgot={policy.max_forgot:g}; "
        f"train fewer steps or at a lower rate, or allow more. {folder / 'metrics.csv'} has the dials of every check."
    )


def show(result: dict[str, Any], console: Console) -> None:
    """Print the result for people."""
    before, after = result["held_out_loss_before"], result["held_out_loss_after"]
    table = Table(title="Result", show_header=False, title_justify="left")
    table.add_row("trained", f"{result['trained_weights']:,} weights on {result['training_clips']} clips, {result['steps']} steps")
    if before is None:
        table.add_row("held-out loss", f"{after:.4f} (the base was not measured: trainer.num_sanity_val_steps is not -1)")
    else:
        verdict = "better" if after < before else "not better than the base"
        change = f"{(after - before) / before:+.1%}, {verdict}"
        table.add_row(
            "held-out loss", f"{before:.4f} before, {after:.4f} after ({change}); {result['held_out_clips']} clips, same noise"
        )
    if "dials" in result:
        base, now = result["dials"]["base"], result["dials"]["best"]
        table.add_row(
            "learned", f"KAD of few clips to the held-out recordings {base['learned']:.1f} before, {now['learned']:.1f} after"
        )
        table.add_row("copied", f"{now['copied']:.0%} of them are near-copies of training clips")
        table.add_row("forgot", f"CLAP score of general prompts {base['general']:.3f} before, {now['general']:.3f} after")
    for split, coverage in result["coverage"].items():
        if not coverage.endswith(" 100.0 %"):  # rounded down, so that it means all
            table.add_row(f"{split} audio", coverage)
    table.add_row("best check", f"step {result['best_step']}")
    table.add_row("adapter", result["adapter"])
    if result["auditions"]:
        table.add_row("listen", f"{result['auditions']}/*/step-000000.wav is the base, the highest step the adapter")
    table.add_row("time", f"{result['seconds'] / 60:.1f} min")
    console.print(table, soft_wrap=True)
