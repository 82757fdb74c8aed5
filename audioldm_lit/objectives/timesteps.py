"""How training timesteps are drawn.

Timestep 0 has the least noise, the last one is almost nothing but noise.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.diffusion import Prediction
from audioldm_lit.errors import InputError
from audioldm_lit.objectives.weighting import Weighting

GOLDEN = (5**0.5 - 1) / 2


class TimestepSampling(ABC):
    """A way to draw training timesteps that keeps no state: a resumed run and several processes draw what one would have drawn."""

    @abstractmethod
    def __call__(self, generators: Sequence[torch.Generator], scheduler: DDIMScheduler, prediction: Prediction) -> Tensor:
        """Draw a timestep for every sample.

        Args:
            generators: One a sample, on the CPU; one number is drawn from each.
            scheduler: Noise schedule.
            prediction: What the model predicts.

        Returns:
            Timesteps (B,) from 0 to below `num_train_timesteps`, int64, on the CPU.
        """


class Uniform(TimestepSampling):
    """Every timestep as often as any other, as AudioLDM was trained."""

    def __call__(self, generators: Sequence[torch.Generator], scheduler: DDIMScheduler, prediction: Prediction) -> Tensor:
        """Timesteps (B,); see `TimestepSampling.__call__`."""
        return (seeding.uniform(generators) * scheduler.config["num_train_timesteps"]).long()


class LowDiscrepancy(TimestepSampling):
    """Every timestep as often as any other, and every few samples spread evenly: less noise in the gradient at no cost.

    Kingma et al. 2021 (arXiv 2107.00630, appendix I.1) divide the schedule by the size of the batch and draw one time in each
    part. Here sample n of the run has the time frac(u + n g), with one random u for the run and the golden ratio's g = 0.618...,
    whose n-fold parts are as evenly spread as can be for all stretches at once: so too in a batch that is split among processes or
    micro-batches.
    """

    def __call__(self, generators: Sequence[torch.Generator], scheduler: DDIMScheduler, prediction: Prediction) -> Tensor:
        """Timesteps (B,); see `TimestepSampling.__call__`. The generators must be `seeding.Placed`; nothing is drawn from them."""
        count = scheduler.config["num_train_timesteps"]
        return torch.tensor([int(count * _kronecker(generator)) for generator in generators], dtype=torch.int64)


class LogitNormal(TimestepSampling):
    """Timesteps in the middle of the schedule more often than at its ends: Esser et al. 2024 (arXiv 2403.03206, Eq. 19).

    The place in the schedule, from 0 (no noise) to 1 (nothing but noise), is sigmoid(mean + std n) with a standard normal n. The
    paper draws the time of a rectified flow this way, which has another amount of noise at a given place; its ends and its middle
    are the same.

    Args:
        mean: Above 0 draws more often where there is much noise, below 0 where there is little.
        std: Width, above 0; the smaller, the closer to the middle.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        if std <= 0:
            raise InputError("LogitNormal.std", f"is {std}", "give a number above 0, such as 1")
        self.mean = mean
        self.std = std

    def __call__(self, generators: Sequence[torch.Generator], scheduler: DDIMScheduler, prediction: Prediction) -> Tensor:
        """Timesteps (B,); see `TimestepSampling.__call__`."""
        place = torch.sigmoid(self.mean + self.std * seeding.normal(generators, ()).double())
        last = scheduler.config["num_train_timesteps"] - 1
        return (place * (last + 1)).long().clamp(max=last)  # far out, the sigmoid rounds to 1


class Importance(TimestepSampling):
    """Timesteps in proportion to a weighting, which then must not weight the loss as well.

    The expected gradient is that of uniform timesteps with a weighted loss, divided by the mean weight. It is less noisy where a
    few timesteps have most of the weight, noisier where those of little weight have much larger gradients: on audioldm-nano the
    mean square of the gradient is 0.33 times that of the weighted loss for `Debiased`, 1.1 times for `MinSNR` and `P2`.

    Args:
        weighting: How often each timestep is drawn.
    """

    def __init__(self, weighting: Weighting) -> None:
        self.weighting = weighting

    def __call__(self, generators: Sequence[torch.Generator], scheduler: DDIMScheduler, prediction: Prediction) -> Tensor:
        """Timesteps (B,); see `TimestepSampling.__call__`."""
        weights = self.weighting(scheduler, torch.arange(scheduler.config["num_train_timesteps"]), prediction).double()
        cumulative = weights.cumsum(0) / weights.sum()
        # The first timestep up to which the probability exceeds a uniform number.
        return torch.searchsorted(cumulative, seeding.uniform(generators).double(), right=True)


def _kronecker(generator: torch.Generator) -> float:
    """The place's member in [0, 1) of the run's sequence frac(u + n g)."""
    if not isinstance(generator, seeding.Placed):
        raise TypeError("LowDiscrepancy needs generators that know their place: seeding.placed(seed, place)")
    return (_offset(generator.seed_of_stream) + generator.place * GOLDEN) % 1.0


@cache
def _offset(seed: int) -> float:
    """u, uniform over seeds."""
    return torch.rand((), generator=seeding.generator("timesteps", seed), dtype=torch.float64).item()
