"""Which check is the best one: a declared policy over the held-out loss and the dials."""

from typing import Any

from lightning import LightningModule, Trainer

from audioldm_lit.errors import InputError
from audioldm_lit.training.lightning_internals import SelectiveCheckpoint, only_tried
from audioldm_lit.training.run_folder import run_folder


class BestCheck(SelectiveCheckpoint):
    """Keeps the check with the lowest held-out loss among those that neither copy nor forget too much.

    Args:
        max_copied: Largest share of near-copies, in [0, 1], that a check may have, as the dials read it.
        max_forgot: How far the CLAP score of general prompts may fall below the base's, in [0, 2].
        **kwargs: See `lightning.pytorch.callbacks.ModelCheckpoint`.
    """

    def __init__(self, max_copied: float = 0.25, max_forgot: float = 0.15, **kwargs: Any) -> None:
        if not 0 <= max_copied <= 1:
            raise InputError("checkpoint.max_copied", f"is {max_copied}", "give a share from 0 to 1")
        if not 0 <= max_forgot <= 2:
            raise InputError("checkpoint.max_forgot", f"is {max_forgot}", "give a difference of CLAP scores from 0 to 2")
        super().__init__(**kwargs)
        self.max_copied = max_copied
        self.max_forgot = max_forgot

    def accepts(self, trainer: Trainer) -> bool:
        """Whether a check is within the bounds; without dials there are none."""
        values = trainer.callback_metrics
        return bool(values.get("val/copied", 0) <= self.max_copied and values.get("val/forgot", 0) <= self.max_forgot)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a run of which no check is within the bounds; every process comes here."""
        if self.best_model_path or only_tried(trainer):
            return
        raise InputError(
            run_folder(trainer) / "metrics.csv",
            f"no check stayed within checkpoint.max_copied={self.max_copied:g} and checkpoint.max_forgot={self.max_forgot:g}",
            "train fewer steps or at a lower rate, or allow more",
        )
