"""What `predict` writes: one WAV for each test caption, and a manifest."""

from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from audioldm_lit.audio.waveform import write
from audioldm_lit.inference.manifest import Entry, write_manifest
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.storage.gather import gather
from audioldm_lit.training.run_folder import run_folder


class Predictions(Callback):
    """Writes the clips that `predict` generates to `predictions/` in the run's folder, with `manifest.json` beside them."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.folder = Path()

    def on_predict_start(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Agree on the folder, on every process."""
        self.folder = run_folder(trainer) / "predictions"

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LitAudioLDM, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Write the batch's clips."""
        entries = pl_module.entries([row["id"] for row in outputs], [row["prompt"] for row in outputs])
        for entry, row in zip(entries, outputs, strict=True):
            write(self.folder / entry.file, row["waveform"], pl_module.backbone.sample_rate)
        self.entries += entries

    def on_predict_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Gather what every process wrote into one manifest."""
        gathered = gather(self.entries)
        if trainer.is_global_zero:
            model = {"backbone": pl_module.backbone_name, "base": pl_module.base_fingerprint, "adapter": pl_module.adapter.spec()}
            settings = {**model, "sampler": pl_module.sampler.spec(), "sample_rate": pl_module.backbone.sample_rate}
            write_manifest(self.folder, settings, {entry for part in gathered for entry in part})
