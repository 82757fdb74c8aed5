"""A metric's own uncertainty: one number of influence for each clip, and from these intervals and comparisons.

A value computed from few clips is worth little without its interval. Every metric states by how much each clip moves it (Tukey's
jackknife pseudo-values, as deviations); the interval is the studentised bootstrap over clips of these deviations (Efron 1979, The
Annals of Statistics 7:1; Hall 1988, The Annals of Statistics 16:927). Resampling deviations instead of clips keeps duplicates out
of covariances and kernels, where they would bias every distance upward, and costs milliseconds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from audioldm_lit import seeding

LEVEL = 0.95
Z = 1.959964  # normal quantile of that level
RESAMPLES = 1999
MIN_CLIPS = 5  # below, a resample may hold one clip alone and the quantiles mean nothing
ROUNDING = 1e-12  # of a standard error, far more than float64's
AT_ONCE = 20_000_000  # resampled numbers held in memory


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value with everything that is needed to judge it.

    Attributes:
        value: The metric as the field defines it, without the bias correction that the interval has.
        influence: Deviations (N,) float64 of each side's clips, in the order of the metric's sides: the value would move by about
            -influence[i] / N if clip i were left out. Empty for a side that the value does not depend on.
        debiased: The value with its sample-size bias removed, the centre of the interval; `value` where not given.
        log: Whether `influence` is that of the value's logarithm; the interval is then taken there and is positive.
        caution: Why there is no interval, or what to keep in mind when reading the value, in one sentence.
        covers: Whether an interval can be relied upon.
        limits: What the true value cannot be below or above; the interval ends there.
        bounds: The interval, where a rule other than the bootstrap gives it.
        details: Further figures, plain values by name.
    """

    value: float
    influence: Sequence[Tensor] = ()
    debiased: float | None = None
    log: bool = False
    caution: str = ""
    covers: bool = True
    limits: tuple[float, float] = (-math.inf, math.inf)
    bounds: tuple[float, float] | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_mean(cls, values: Tensor) -> "Estimate":
        """The mean of one number for each clip, (N,)."""
        values = values.double()
        mean = values.mean()
        return cls(mean.item(), (values - mean,))

    @classmethod
    def of_share(cls, hits: Tensor, **details: Any) -> "Estimate":
        """The share of clips (N,) that are hits, with Wilson's interval (1927, J. American Statistical Association 22:209).

        For 0 hits of 20 clips resampling would say exactly 0; Wilson's interval reaches up to 16 %.
        """
        hits = hits.double()
        count, share = len(hits), hits.mean().item()
        middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
        half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
        bounds = (max(0.0, middle - half), min(1.0, middle + half))
        return cls(share, (hits - share,), bounds=bounds, details=details)

    @classmethod
    def mean(cls, estimates: "Sequence[Estimate]") -> "Estimate":
        """The mean of one metric's estimates from the same clips, each time generated anew; of logarithms where intervals are.

        The clips are the sample, however often each was generated: a clip's influence is the mean of its influences.
        """
        if len(estimates) == 1:
            return estimates[0]
        first = estimates[0]
        sides = zip(*(estimate.influence for estimate in estimates), strict=True)
        debiased = [estimate.debiased for estimate in estimates if estimate.debiased is not None]
        bounds = [estimate.bounds for estimate in estimates if estimate.bounds is not None]
        return replace(
            first,
            value=_mean([estimate.value for estimate in estimates], first.log),
            influence=[torch.stack(side).mean(dim=0) for side in sides],
            debiased=_mean(debiased, first.log) if debiased else None,
            bounds=(_mean([low for low, _ in bounds]), _mean([high for _, high in bounds])) if bounds else None,
            covers=all(estimate.covers for estimate in estimates),
        )

    @property
    def centre(self) -> float:
        """Centre of the interval on the value's own scale, logarithmic if `log`."""
        centre = self.value if self.debiased is None else self.debiased
        return math.log(centre) if self.log else centre

    def interval(self, seed: int = 0) -> tuple[float, float] | None:
        """The 95 % interval over clips; None where it would not cover."""
        if self.bounds is not None:
            return self.bounds
        if not self.covers or not math.isfinite(self.centre):
            return None
        span = bootstrap_t(self.influence, seed)
        if span is None:
            return None
        ends = [self.centre - span[1], self.centre - span[0]]
        if self.log:
            ends = [math.exp(end) for end in ends]
        lowest, highest = self.limits
        if ends[1] < lowest or ends[0] > highest:  # the bias correction overshot; cut off at the limit it would read as certainty
            return None
        return max(lowest, ends[0]), min(ends[1], highest)


def bootstrap_t(influence: Sequence[Tensor], seed: int) -> tuple[float, float] | None:
    """Quantiles of the estimate's error, from the deviations of each side's clips; None with fewer than `MIN_CLIPS` clips.

    The error is the sum of the sides' mean deviations. Its standard error is taken anew in every resample, which is what makes
    intervals of skewed values cover at 20 clips.
    """
    sides = [side.double() for side in influence if len(side)]
    if not sides or min(map(len, sides)) < MIN_CLIPS:
        return None
    error, variance = torch.zeros(RESAMPLES, dtype=torch.float64), torch.zeros(RESAMPLES, dtype=torch.float64)
    for number, side in enumerate(sides):
        mean, spread = _resampled(side.cpu(), seeding.generator(seed, "bootstrap", number))
        error, variance = error + mean, variance + spread
    scale = standard_error(sides)
    if scale == 0.0:
        return 0.0, 0.0
    t = (error / variance.sqrt())[variance > (ROUNDING * scale) ** 2]  # a clip drawn every time says nothing of the spread
    tail = (1 - LEVEL) / 2
    low, high = torch.quantile(t, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low * scale, high * scale


def _mean(values: Sequence[float], log: bool = False) -> float:
    """Arithmetic mean, or the geometric one."""
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if log else math.fsum(values) / len(values)


def standard_error(influence: Sequence[Tensor]) -> float:
    """Standard error of the sum of the sides' mean deviations; clips are independent of each other."""
    return math.sqrt(sum((side.double().var() / len(side)).item() for side in influence if len(side)))


def _resampled(side: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean, and variance of the mean, of every resample of one side's deviations (N,)."""
    count = len(side)
    means, variances = [], []
    for rows in torch.arange(RESAMPLES).split(max(1, AT_ONCE // count)):
        drawn = side.take(torch.randint(count, (len(rows), count), generator=generator))  # (rows, N)
        means.append(drawn.mean(dim=1))
        drawn -= means[-1][:, None]
        variances.append(drawn.square_().sum(dim=1) / (count * (count - 1)))
    return torch.cat(means), torch.cat(variances)
