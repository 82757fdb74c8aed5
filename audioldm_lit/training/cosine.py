"""A learning rate that falls over the steps of the run, however many these are."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class CosineToEnd(LRScheduler):
    """Half a cosine from the optimizer's rate, after warm-up, to a share of it at the run's last step.

    Loshchilov and Hutter 2016 (arXiv 1608.03983, Eq. 5) without restarts. A resumed run with another `trainer.max_steps` follows
    the curve of that length.

    Args:
        optimizer: Whose rates fall, each from its own.
        final_share: Share of the rate, in [0, 1], that it ends with.
    """

    steps = 1  # after warm-up; set by the training, and that of the present run when it is resumed

    def __init__(self, optimizer: Optimizer, final_share: float = 0.0) -> None:
        if not 0 <= final_share <= 1:
            raise ValueError(f"final_share is {final_share}, give a number from 0 to 1")
        self.final_share = final_share
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """The rate of every group at this step."""
        done = min(1.0, self.last_epoch / self.steps)
        share = self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * done)) / 2
        return [rate * share for rate in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the length of the run."""
        return {name: value for name, value in super().state_dict().items() if name != "steps"}
