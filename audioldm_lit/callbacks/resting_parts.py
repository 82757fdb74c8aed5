"""Memory for training: what only encodes and decodes stays out of it between checks."""

from typing import Any

from lightning import Callback, Trainer

from audioldm_lit.backbone import SOUND_SIDE
from audioldm_lit.module import LitAudioLDM


class RestingParts(Callback):
    """Frees VAE, CLAP and vocoder once everything is encoded; a check that needs them reads them from their folder again."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LitAudioLDM, batch: Any, batch_idx: int) -> None:
        """Before a step, whatever a check has called back goes, but what makes the sound that an objective hears."""
        pl_module.backbone.rest(but=SOUND_SIDE if pl_module.objective.needs_waveform else ())
