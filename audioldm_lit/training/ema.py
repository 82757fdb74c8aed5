"""Running averages of the trainable weights."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from audioldm_lit.errors import InputError

WIDEST = 12**-0.5  # relative standard deviation of the flat profile, gamma = 0


class RunningAverage(ABC):
    """Average of the trainable weights over training, one update an optimizer step.

    Only trainable weights are copied, so a LoRA run pays kilobytes where a copy of the module would pay gigabytes.
    """

    def __init__(self) -> None:
        self.num_updates = 0
        self.average: dict[str, Tensor] = {}

    @abstractmethod
    def beta(self, t: int) -> float:
        """Weight in [0, 1) that the old average keeps at update t, counted from 1."""

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from."""
        return {"average": self.average, "num_updates": self.num_updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.average, self.num_updates = state["average"], state["num_updates"]

    def start(self, weights: dict[str, nn.Parameter]) -> None:
        """Start the average at the current weights, unless one was restored."""
        if not self.average:
            self.average = {name: weight.detach().clone().float() for name, weight in weights.items()}
        self.average = {name: average.to(weights[name].device) for name, average in self.average.items()}

    @torch.no_grad()
    def update(self, weights: dict[str, nn.Parameter]) -> None:
        """Take one step towards the current weights."""
        self.num_updates += 1
        averages = [self.average[name] for name in weights]
        towards = get_ema_multi_avg_fn(self.beta(self.num_updates))
        towards(averages, [weight.data.float() for weight in weights.values()], self.num_updates)


class EMA(RunningAverage):
    """Exponential moving average, used for validation, listening and the adapter file.

    Args:
        decay: Weight in [0, 1) of the old average a step. While steps are few it is (1 + n) / (10 + n), so that short runs are
            not held back by where they started.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise InputError("model.ema_decay", f"is {decay}", "give a number from 0 to below 1, or null for no average")
        self.decay = decay

    def beta(self, t: int) -> float:
        """The decay, less while steps are few."""
        return min(self.decay, (1 + t) / (10 + t))

    @torch.no_grad()
    def swap(self, weights: dict[str, nn.Parameter]) -> None:
        """Exchange weights and average; a second call undoes the first."""
        for name, weight in weights.items():
            weight.data, self.average[name] = self.average[name], weight.data


class PowerAverage(RunningAverage):
    """Average over the whole run in which the weights of step t count as t^gamma (Karras et al. 2023, arXiv 2312.02696, Eq. 1).

    The profile stretches with the run, and the weights before the first step are not part of it.

    Args:
        sigma_rel: Standard deviation of the profile as a share of the steps so far, above 0 and below 12^(-1/2) = 0.2887: the
            larger, the further back the average reaches.
    """

    def __init__(self, sigma_rel: float) -> None:
        super().__init__()
        self.gamma = gamma_of(sigma_rel)

    def beta(self, t: int) -> float:
        """Eq. 2; exact for weights that are constant from one step to the next (Eq. 127)."""
        return (1 - 1 / t) ** (self.gamma + 1)


def gamma_of(sigma_rel: float) -> float:
    """The exponent of the profile of a relative standard deviation.

    Args:
        sigma_rel: (gamma + 1)^(1/2) (gamma + 2)^(-1) (gamma + 3)^(-1/2), above 0 and below 12^(-1/2); Karras et al. 2023 (arXiv
            2312.02696), Eq. 123.

    Raises:
        InputError: If no such profile exists.
    """
    if not 0 < sigma_rel < WIDEST:
        raise InputError("sigma_rel", f"is {sigma_rel}", f"give a relative standard deviation above 0 and below {WIDEST:.4f}")
    squared = sigma_rel**-2
    # The one positive root of gamma^3 + 7 gamma^2 + (16 - sigma_rel^-2) gamma + 12 - sigma_rel^-2 = 0, Eq. 126
    return float(np.roots([1, 7, 16 - squared, 12 - squared]).real.max())
