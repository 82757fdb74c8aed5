"""Learning rates that change over the steps of the run, however many these are."""

from abc import ABC, abstractmethod
from typing import Any

from torch.optim.lr_scheduler import LRScheduler


class OverTheRun(LRScheduler, ABC):
    """A share of the optimizer's rate that depends on how much of the run after warm-up is done.

    Subclasses implement `share`; what it needs is set before `super().__init__(optimizer)`. A resumed run with another
    `trainer.max_steps` follows the curve of that length.
    """

    steps = 1
    """Of the run after warm-up; set by the training, and that of the present run when it is resumed."""

    @abstractmethod
    def share(self, done: float) -> float:
        """The share of the rate when a part `done`, in [0, 1], of the steps is done."""

    def get_lr(self) -> list[Any]:
        """The rate of every group at this step."""
        share = self.share(min(1.0, self.last_epoch / self.steps))
        return [rate * share for rate in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the length of the run."""
        return {name: value for name, value in super().state_dict().items() if name != "steps"}
