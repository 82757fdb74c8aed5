"""Exponential moving average of the trainable weights."""

import torch
from torch import Tensor, nn


class EMA:
    """Average of the trainable weights over training, used for validation, listening and the adapter file.

    Only trainable weights are copied, so a LoRA run pays kilobytes where a copy of the module would pay gigabytes.

    Args:
        decay: Weight in [0, 1) of the old average a step. While steps are few it is (1 + n) / (10 + n), so that short runs are
            not held back by their start.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = decay
        self.num_updates = 0
        self.average: dict[str, Tensor] = {}

    def start(self, weights: dict[str, nn.Parameter]) -> None:
        """Begin the average at the present weights, unless one was restored."""
        if not self.average:
            self.average = {name: weight.detach().clone().float() for name, weight in weights.items()}
        self.average = {name: average.to(weights[name].device) for name, average in self.average.items()}

    @torch.no_grad()
    def update(self, weights: dict[str, nn.Parameter]) -> None:
        """Take one step towards the present weights."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        torch._foreach_lerp_([self.average[name] for name in weights], [weight.data for weight in weights.values()], 1 - decay)

    @torch.no_grad()
    def swap(self, weights: dict[str, nn.Parameter]) -> None:
        """Exchange weights and average; a second call undoes the first."""
        for name, weight in weights.items():
            weight.data, self.average[name] = self.average[name], weight.data
