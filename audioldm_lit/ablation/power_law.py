"""How many clips are needed: a power law through runs on training sets of several sizes.

y(n) = a + b n^-c with c > 0 is the form of learning curves that Hestness et al. 2017 (arXiv 1712.00409) found and, for a given
model, Rosenfeld et al. 2020 (arXiv 1909.12673). At a given c it is linear in a and b: the fit is exact least squares on a fine
grid of c.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audioldm_lit.ablation.statistics import LEVEL
from audioldm_lit.errors import InputError

FURTHEST = 2  # times the largest measured size; see `Curve`
EXPONENTS = np.geomspace(0.02, 3, 300)  # at the smallest the curve is a straight line in log n for all that runs can show
SIZES = 1500  # that a search for a number of clips looks at
RUNS = "the runs"  # where it is wrong


@dataclass(frozen=True)
class CurveValue:
    """A value with its interval; no value where the interval is wider than the whole gain over the measured sizes."""

    value: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Needed:
    """A number of clips with its interval.

    Attributes:
        clips: The number; None where it is beyond `furthest`.
        low: Smallest number that may do, at least the smallest measured; None where it is beyond `furthest`.
        high: Largest number that may be needed; None where it is beyond `furthest`.
        furthest: Largest number that the curve holds for.
        never: Whether the curve levels off before the target.
    """

    clips: int | None
    low: int | None
    high: int | None
    furthest: int
    never: bool

    def __str__(self) -> str:
        beyond = f"more than {self.furthest}"
        if self.never or self.low is None:
            return "never" if self.never else beyond
        span = f"[{self.low}, {self.high or beyond}]"
        return f"{self.clips} {span}" if self.clips else span


class Curve:
    """The power law of least squares through the values of runs.

    Intervals are those of the profile likelihood with the t quantile: all v such that a curve through v has a sum of squares of at
    most SSE (1 + F / (N - 3)), F the 95 % quantile of F(1, N - 3) (Bates and Watts 1988, Nonlinear Regression Analysis, chapter
    6). They are of the mean over seeds, not of a single run.

    Measured on simulated runs, 2 to 5 seeds at 4 to 6 sizes, noise 2 to 40 % of the gain, c from 0.25 to 2: intervals at half,
    once and twice the largest size and of the clips needed cover the truth 94 to 98 % of the time. Where noise falls with size as
    n^-0.25 or faster they cover 98 % and more, where it grows as n^0.25, 87 to 91 %; where half of its variance is a seed's own at
    all sizes, 84 to 91 % at the largest and 77 % at half of it. Where the truth is another smooth curve that passes the test of
    lack of fit, they cover 77 to 100 % at the largest size, but at twice that size miss by up to a tenth of the gain (0.15 for an
    exponential), at four times by a fifth (0.3): hence `FURTHEST`. A second test, in which
    the largest size has a mean of its own, did not find more of those. The level is right only if the power law goes on for ever.

    Args:
        clips: Number of training clips of every run (N,).
        values: Its value of a metric (N,).
        higher_is_better: Whether a higher value of the metric is better.
    """

    def __init__(self, clips: Sequence[float], values: Sequence[float], higher_is_better: bool) -> None:
        self.clips = np.asarray(clips, np.float64)
        self.values = np.asarray(values, np.float64)
        self.higher_is_better = higher_is_better
        self._centre = np.exp(np.log(self.clips).mean())
        shapes = self._shape(self.clips)  # (N, exponents)
        self._mean_shape = shapes.mean(axis=0)
        shapes, values_left = shapes - self._mean_shape, self.values - self.values.mean()
        self._spread = np.square(shapes).sum(axis=0)
        self._slope = values_left @ shapes / self._spread
        self._error = np.square(values_left[:, None] - self._slope * shapes).sum(axis=0)  # sum of squares for every exponent
        self._best = int(self._error.argmin())
        self._freedom = len(self.clips) - 3
        self._allowed = self._error[self._best] * (1 + stats.f.ppf(LEVEL, 1, self._freedom) / self._freedom)

    @property
    def exponent(self) -> float:
        """The fitted c."""
        return float(EXPONENTS[self._best])

    @property
    def smallest(self) -> int:
        """Smallest measured size."""
        return int(self.clips.min())

    @property
    def largest(self) -> int:
        """Largest measured size."""
        return int(self.clips.max())

    @property
    def furthest(self) -> int:
        """Largest size that the curve holds for."""
        return FURTHEST * self.largest

    def speaks_of(self, clips: int) -> bool:
        """Whether a size is near enough to the measured ones."""
        return self.smallest <= clips <= self.furthest

    @property
    def gain(self) -> float:
        """By how much the metric improves from the smallest measured size to the largest; negative where it gets worse."""
        first, last = self._fitted(self._shape(np.array([self.smallest, self.largest])))[:, self._best]
        return float((last - first) if self.higher_is_better else (first - last))

    def at(self, clips: int) -> CurveValue:
        """What runs on this many clips would give on average.

        Raises:
            InputError: Below the smallest measured size or beyond `FURTHEST` times the largest.
        """
        if not self.speaks_of(clips):
            problem = f"the runs speak of {self.smallest} to {self.furthest} clips, {FURTHEST} times the largest size"
            raise InputError(f"{clips} clips", problem, "measure a size nearer to it")
        return self._estimate(self._shape(np.array([clips])))

    @cached_property
    def level(self) -> CurveValue:
        """Where the curve levels off, a; an interval without an end where the runs do not show that it does."""
        found = self._estimate(-1 / EXPONENTS[None])
        if self._error[0] > self._allowed:
            return found
        return CurveValue(None, found.low, np.inf) if self.higher_is_better else CurveValue(None, -np.inf, found.high)

    def needed(self, target: float) -> Needed:
        """How many clips would take the metric to a target: the numbers at which the curve's value and interval reach it."""
        sizes = np.unique(np.geomspace(self.smallest, self.furthest, SIZES).round())
        shapes = self._shape(sizes)
        low, high = self._band(shapes)
        edges = (high, low) if self.higher_is_better else (low, high)  # the hopeful one first
        value = self._fitted(shapes)[:, self._best]
        clips, first, last = (self._first(sizes, edge, target) for edge in (value, *edges))
        hopeful = self.level.high if self.higher_is_better else self.level.low
        return Needed(clips, first, last, self.furthest, never=first is None and not self._reached(hopeful, target))

    @property
    def p_gain(self) -> float:
        """P value of the F test that more clips change nothing: two parameters fewer."""
        constant = np.square(self.values - self.values.mean()).sum()
        best = self._error[self._best]
        return float(stats.f.sf((constant - best) / 2 / (best / self._freedom), 2, self._freedom))

    @property
    def p_fit(self) -> float:
        """P value of the F test of lack of fit: how far the curve misses each size's mean, against the spread within sizes."""
        sizes, pure = len(np.unique(self.clips)), _within(self.clips, self.values)
        misses, freedom = self._error[self._best] - pure, len(self.clips) - sizes
        return float(stats.f.sf(misses / (sizes - 3) / (pure / freedom), sizes - 3, freedom))

    def _shape(self, clips: NDArray[np.float64]) -> NDArray[np.float64]:
        """((n / centre)^-c - 1) / c for sizes and exponents (S, exponents): n^-c, but well conditioned down to c = 0."""
        return np.expm1(-EXPONENTS * np.log(clips / self._centre)[:, None]) / EXPONENTS

    def _fitted(self, shapes: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.values.mean() + self._slope * (shapes - self._mean_shape)

    def _band(self, shapes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper ends (S,): the widest of the ends over all exponents that the runs allow."""
        allowed = self._error <= self._allowed
        leverage = 1 / len(self.clips) + np.square(shapes - self._mean_shape) / self._spread
        half = np.sqrt(leverage * np.where(allowed, self._allowed - self._error, 0))
        fitted = self._fitted(shapes)
        return (fitted - half)[:, allowed].min(axis=1), (fitted + half)[:, allowed].max(axis=1)

    def _estimate(self, shape: NDArray[np.float64]) -> CurveValue:
        low, high = (float(end[0]) for end in self._band(shape))
        value = float(self._fitted(shape)[0, self._best])
        return CurveValue(value if high - low <= abs(self.gain) else None, low, high)

    def _reached(self, values: NDArray[np.float64] | float, target: float) -> NDArray[np.bool_]:
        return np.asarray(values) >= target if self.higher_is_better else np.asarray(values) <= target

    def _first(self, sizes: NDArray[np.float64], values: NDArray[np.float64], target: float) -> int | None:
        reached = self._reached(values, target)
        return int(sizes[reached.argmax()]) if reached.any() else None


def fit_curve(clips: Sequence[float], values: Sequence[float], higher_is_better: bool) -> Curve:
    """Fit a power law; refused where the runs do not show one.

    Args:
        clips: Number of training clips of every run (N,), at least 4 different ones, most of them with several runs.
        values: What a metric was for it (N,).
        higher_is_better: Whether more of the metric is better.

    Raises:
        InputError: If the runs do not show a power law, or could not; the sentence says why.
    """
    sizes, runs = np.unique(np.asarray(clips), return_counts=True)
    if len(sizes) < 4:
        raise InputError(RUNS, f"there are {len(sizes)} different sizes", "add sizes, a curve needs 4")
    if not (sizes >= 1).all() or not np.isfinite(values).all():
        raise InputError(RUNS, "a run has no clips or no finite value", "leave it out")
    if 2 * (runs > 1).sum() <= len(sizes):
        problem = f"only {(runs > 1).sum()} of {len(sizes)} sizes have more than one run, so noise is unknown"
        raise InputError(RUNS, problem, "add seeds")
    if len(set(zip(clips, values, strict=True))) == len(sizes):
        raise InputError(RUNS, "runs of one size are all equal, so noise is unknown", "give them different seeds")
    curve = Curve(clips, values, higher_is_better)
    span = f"from {sizes[0]:.0f} to {sizes[-1]:.0f} clips"
    if curve.p_gain > 1 - LEVEL:
        raise InputError(RUNS, f"more clips change nothing that these runs can show, {span}", "add seeds or a larger size")
    if curve.gain < 0:
        raise InputError(RUNS, f"more clips make it worse, {span}", "look at the training before at its data")
    if curve.p_fit < 1 - LEVEL:
        problem = f"no power law goes through these runs, {span} (lack of fit, p = {curve.p_fit:.2g})"
        raise InputError(RUNS, problem, "measure the size you ask about")
    return curve


def _within(clips: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Sum of squares within sizes."""
    return float(sum(np.square(values[clips == size] - values[clips == size].mean()).sum() for size in np.unique(clips)))
