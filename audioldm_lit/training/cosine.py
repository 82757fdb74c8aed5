"""A learning rate that falls along half a cosine."""

import math

from torch.optim import Optimizer

from audioldm_lit.training.over_the_run import OverTheRun


class CosineToEnd(OverTheRun):
    """Half a cosine from the optimizer's rate, after warm-up, to a share of it at the run's last step.

    Loshchilov and Hutter 2016 (arXiv 1608.03983, Eq. 5) without restarts.

    Args:
        optimizer: Whose rates fall, each from its own.
        final_share: Share of the rate, in [0, 1], that it ends with.
    """

    def __init__(self, optimizer: Optimizer, final_share: float = 0.0) -> None:
        if not 0 <= final_share <= 1:
            raise ValueError(f"final_share is {final_share}, give a number from 0 to 1")
        self.final_share = final_share
        super().__init__(optimizer)

    def share(self, done: float) -> float:
        """From 1 to `final_share`."""
        return self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * done)) / 2
