"""How far a run is."""

from collections.abc import Sequence
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import ProgressBar

from audioldm_lit.console.stages import Stage
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.training.lightning_internals import steps_between_logs


class RunProgress(ProgressBar):
    """Shows training, checks, test and prediction as stages, in place of Lightning's bar, which counts epochs and is mute in a log.

    It comes first among the callbacks, so that its bars are gone before another one prints a table.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[Stage] = []  # training, and a check within it

    def enable(self) -> None:
        """Nothing to do: what a process shows is the stages' matter."""

    disable = enable

    def on_train_start(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Count steps, those before a resume included."""
        self._open("training", trainer.max_steps, trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LitAudioLDM, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count, and read the losses as often as they are logged: reading makes a GPU wait."""
        self.stages[-1].done = trainer.global_step
        if trainer.global_step % steps_between_logs(trainer) == 0:
            self._note(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """End."""
        self._close()

    def on_validation_start(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Count the batches of a check."""
        if trainer.sanity_checking:
            self._open("held-out loss of the base", _count(trainer.num_sanity_val_batches))
        else:
            where = f", step {trainer.global_step}" if trainer.state.fn == "fit" else ""
            self._open(f"held-out loss{where}", _count(trainer.num_val_batches))

    def on_validation_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Say what a check within training found."""
        if self.stages:
            self._note(trainer)
            self.stages[-1].tell()

    def on_test_start(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Count the batches of the test."""
        self._open("test", _count(trainer.num_test_batches))

    def on_predict_start(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Count the batches of captions."""
        self._open("generating", _count(trainer.num_predict_batches))

    def on_validation_batch_end(self, *_: Any) -> None:
        """Count."""
        self.stages[-1].advance()

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end  # type: ignore[assignment]  # these ignore their arguments

    def on_validation_epoch_end(self, *_: Any) -> None:
        """End before others use the checked weights, as stages of their own."""
        self._close()

    # After scores were computed, before anything is printed.
    on_test_end = on_predict_end = on_validation_epoch_end  # type: ignore[assignment]  # these ignore their arguments

    def on_exception(self, trainer: Trainer, pl_module: LitAudioLDM, exception: BaseException) -> None:
        """End all."""
        while self.stages:
            self._close()

    def _note(self, trainer: Trainer) -> None:
        """Read the losses."""
        self.stages[-1].note = ", ".join(f"{name} {value:.4g}" for name, value in trainer.progress_bar_metrics.items())

    def _open(self, name: str, total: int, done: int = 0) -> None:
        self.stages.append(Stage(name, total, done).open())

    def _close(self) -> None:
        self.stages.pop().close()


def _count(batches: Sequence[float]) -> int:
    """Batches of all loaders, each of which has a number: no loader here is endless."""
    return int(sum(batches))
