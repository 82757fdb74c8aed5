"""The end of a run: the adapter as one file, and a table that says whether it helped."""

import json
import time
from typing import Any

import torch
from lightning import Callback, Trainer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from audioldm_lit.adapters.file import save_adapter
from audioldm_lit.callbacks.audition import Audition, rank_zero_folder
from audioldm_lit.module import LitAudioLDM


class Result(Callback):
    """Writes `adapter.safetensors` (the best check by held-out loss) and `result.json`, and prints both."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def setup(self, trainer: Trainer, pl_module: LitAudioLDM, stage: str) -> None:
        """Start the clock, encoding included."""
        self.began = time.monotonic()

    def on_fit_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Export and report on the first process."""
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if not trainer.is_global_zero or not best:
            return
        folder = rank_zero_folder(trainer)
        checkpoint = torch.load(best, weights_only=True, map_location="cpu")
        weights = final_weights(checkpoint)
        adapter = folder / "adapter.safetensors"
        prediction_type = pl_module.objective.prediction_type
        save_adapter(adapter, pl_module.adapter, weights, pl_module.base_fingerprint, prediction_type)
        auditions = Audition.folder(trainer)
        result = {
            "held_out_loss_before": pl_module.base_loss,
            "held_out_loss_after": float(trainer.checkpoint_callback.best_model_score),
            "held_out_clips": len(pl_module.data.datasets["val"]),
            "training_clips": len(pl_module.data.datasets["train"]),
            "best_step": checkpoint["global_step"],
            "steps": trainer.global_step,
            "trained_weights": sum(weight.numel() for weight in weights.values()),
            "seconds": round(time.monotonic() - self.began, 1),
            "adapter": str(adapter),
            "auditions": str(auditions) if auditions.is_dir() else None,
            "checkpoint": best,
        }
        (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        show(result, Console())


def final_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """What a checkpoint is used with after training: the averaged weights where there are any."""
    average = checkpoint["audioldm_lit"]["ema"]
    return average["average"] if average else checkpoint["state_dict"]


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
    table.add_row("best check", f"step {result['best_step']}")
    table.add_row("adapter", result["adapter"])
    if result["auditions"]:
        table.add_row("listen", f"{result['auditions']}/*/step-000000.wav is the base, the highest step the adapter")
    table.add_row("time", f"{result['seconds'] / 60:.1f} min")
    console.print(table, soft_wrap=True)
