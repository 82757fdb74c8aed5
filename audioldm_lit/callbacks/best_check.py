"""Which check is the best one: a declared policy over the held-out loss and the dials."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from audioldm_lit.errors import InputError
from audioldm_lit.training.run_folder import run_folder


class BestCheck(ModelCheckpoint):
    """Keeps the check with the lowest held-out loss among those that neither copy nor forget too much.

    Args:
        max_copied: Largest share of near-copies, in [0, 1], that a check may have, as the dials read it.
        max_forgot: How far the CLAP score of general prompts may fall below the base's, in [0, 2].
        **kwargs: See `lightning.pytorch.callbacks.ModelCheckpoint`.
    """

    def __init__(self, max_copied: float = 0.25, max_forgot: float = 0.1, **kwargs: Any) -> None:
        if not 0 <= max_copied <= 1:
            raise InputError("checkpoint.max_copied", f"is {max_copied}", "give a share from 0 to 1")
        if not 0 <= max_forgot <= 2:
            raise InputError("checkpoint.max_forgot", f"is {max_forgot}", "give a difference of CLAP scores from 0 to 2")
        super().__init__(**kwargs)
        self.max_copied = max_copied
        self.max_forgot = max_forgot

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether a check is among the best; one that breaks a bound never is, and without dials there are no bounds."""
        values = trainer.callback_metrics
        within = values.get("val/copied", 0) <= self.max_copied and values.get("val/forgot", 0) <= self.max_forgot
        return bool(within) and super().check_monitor_top_k(trainer, current)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a run of which no check is within the bounds; every process comes here."""
        if self.best_model_path or trainer.fast_dev_run:
            return
        raise InputError(
            run_folder(trainer) / "metrics.csv",
            f"no check stayed within checkpoint.max_copied={self.max_copied:g} and checkpoint.max_forgot={self.max_forgot:g}",
            "train fewer steps or at a lower rate, or allow more",
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best check so far: a resumed run has a folder of its own, for which Lightning would forget the score."""
        if Path(state_dict["best_model_path"]).is_file():  # a run that was killed between two files may have none
            super().load_state_dict({**state_dict, "dirpath": self.dirpath, "last_model_path": ""})
