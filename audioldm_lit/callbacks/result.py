"""The end of a run: a record of it, and a table that says whether it helped."""

import time

import torch
from lightning import Callback, Trainer
from rich.console import Console

from audioldm_lit.callbacks.audition import Audition
from audioldm_lit.callbacks.export import ADAPTER
from audioldm_lit.callbacks.result_table import show
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.training.encoding import encoded
from audioldm_lit.training.held_out_loss import error_of
from audioldm_lit.training.record import evaluation_record, judged, run_record
from audioldm_lit.training.run_folder import rank_zero_folder


class Result(Callback):
    """Writes and prints `result.json` when training is over, and `test.json` after `test`."""

    def setup(self, trainer: Trainer, pl_module: LitAudioLDM, stage: str) -> None:
        """Start the clock, encoding included."""
        self.began = time.monotonic()

    def on_fit_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Write and print, on the first process; nothing where no check was kept."""
        if pl_module.outcome.best is None or not trainer.is_global_zero:
            return
        folder, data = rank_zero_folder(trainer), pl_module.data
        auditions = Audition.folder(trainer)
        record = run_record(
            pl_module.outcome,
            encoded(data, "train"),
            data.coverage,
            held_out_clips=judged(len(encoded(data, "val")), data.batch_size, trainer.limit_val_batches),
            judged_by=error_of(pl_module.objective),
            steps=trainer.global_step,
            trained_weights=sum(weight.numel() for weight in pl_module.weights.values()),
            seconds=round(time.monotonic() - self.began, 1),
            peak_device_memory_gb=_device_memory(pl_module.device),
            adapter=folder / ADAPTER,
            auditions=auditions if auditions.is_dir() else None,
        )
        write_json(folder / "result.json", record)  # a grid takes it for the end of a run
        show(record, Console(emoji=False))

    def on_test_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Write what `test` found, on the first process."""
        if not trainer.is_global_zero:
            return
        module, folder = pl_module, rank_zero_folder(trainer)
        own = error_of(module.objective) if module.objective.judged_by else None
        under = module.origin, own or module.val_timesteps, module.seed
        record = evaluation_record(module.outcome, encoded(module.data, "test"), *under)
        write_json(folder / "test.json", record)


def _device_memory(device: torch.device) -> float | None:
    """The most that tensors took of a GPU, in GB; None elsewhere."""
    return round(torch.cuda.max_memory_allocated(device) / 1e9, 3) if device.type == "cuda" else None
