"""How far raters agree with each other, and an automatic metric with them."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from audioldm_lit.listening.crossed import LEVEL

SURE = 0.999  # correlations beyond count as this on Fisher's z scale, where 1 is infinite
UNITS = 5  # clips and judged sounds from which on a correlation has an interval


def alpha(ratings: pd.DataFrame) -> float | None:
    """Krippendorff's alpha on the interval scale: 1 where raters agree, 0 where chance would agree as much.

    One minus the variance within sounds, each weighed by its ratings, over that of all ratings of sounds that several raters heard
    (Krippendorff 2011, "Computing Krippendorff's alpha-reliability"). None where nobody heard what another did, or all gave one and
    the same rating.

    Args:
        ratings: Columns `rater`, `system`, `clip`, `value`, of one question.
    """
    table = ratings.pivot_table(index="rater", columns=["system", "clip"], values="value").to_numpy()
    counts = np.isfinite(table).sum(axis=0)
    table, counts = table[:, counts > 1], counts[counts > 1]
    values = table[np.isfinite(table)]
    if len(np.unique(values)) < 2:
        return None
    within = counts @ np.nanvar(table, axis=0, ddof=1) / len(values)
    return float(1 - within / np.var(values, ddof=1))


@dataclass(frozen=True)
class Correlation:
    """How a metric orders sounds, beside how listeners do.

    Attributes:
        value: Spearman's rank correlation, 1 where both orders are the same.
        interval: 95 % over raters and clips; None at so few that it would not cover.
        sounds: How many sounds were compared.
    """

    value: float
    interval: tuple[float, float] | None
    sounds: int

    @property
    def verdict(self) -> Literal["follows", "against", "cannot tell"]:
        """`follows` the listeners, goes `against` them, or `cannot tell`."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "cannot tell"
        return "follows" if self.interval[0] > 0 else "against"


def correlation(ratings: pd.DataFrame, metric: pd.Series) -> Correlation | None:
    """Spearman's correlation between a metric and the mean rating of every sound that both have.

    The interval is the jackknife's on Fisher's z scale (1915, Biometrika 10:507): leaving out raters one by one, and clips, with
    all systems' sounds of them, since these are no independent draws. None where a side is constant.

    Args:
        ratings: Columns `rater`, `system`, `clip`, `value`, of one question.
        metric: A number, larger for better, for every system and clip, its index.
    """
    table = ratings.assign(value=ratings["value"] - ratings.groupby("rater")["value"].transform("mean"))  # raters differ in level
    wide = table.pivot_table(index=["system", "clip"], columns="rater", values="value")
    wide = wide.loc[wide.index.isin(metric.index)]
    numbers, rated = metric.loc[wide.index].to_numpy(float), wide.to_numpy()
    whole = _spearman(rated, numbers)
    if whole is None:
        return None
    clip = pd.factorize(wide.index.get_level_values("clip"))[0]
    without_rater = [
        _spearman(np.delete(rated, rater, axis=1), numbers) for rater in range(rated.shape[1] if rated.shape[1] > 1 else 0)
    ]
    without_clip = [_spearman(rated[clip != one], numbers[clip != one]) for one in range(clip.max() + 1)]
    if clip.max() + 1 < UNITS or len(without_rater) < 2 or None in [*without_rater, *without_clip]:
        return Correlation(whole, None, len(numbers))
    parts = [_jackknife(np.array(values, dtype=float)) for values in (without_rater, without_clip)]
    variance = sum(part for part, _ in parts)
    spread = sum(part**2 / free for part, free in parts)
    half = stats.t.ppf((1 + LEVEL) / 2, variance**2 / spread) * math.sqrt(variance) if variance else 0.0
    middle = float(_z(whole))
    return Correlation(whole, (math.tanh(middle - half), math.tanh(middle + half)), len(numbers))


def _spearman(rated: NDArray[np.float64], numbers: NDArray[np.float64]) -> float | None:
    """Correlation of mean ratings (S,) from (S, R) with numbers (S,); None where either is constant."""
    heard = np.isfinite(rated).any(axis=1)
    means, numbers = np.nanmean(rated[heard], axis=1).round(9), numbers[heard]  # rounded, or sums in another order untie ties
    if len(means) < 3 or np.ptp(means) == 0 or np.ptp(numbers) == 0:
        return None
    return float(stats.spearmanr(means, numbers).statistic)


def _jackknife(values: NDArray[np.float64]) -> tuple[float, float]:
    """Variance by leaving out each of so many units, on the z scale, and its degrees of freedom."""
    z = _z(values)
    count = len(z)
    return float((count - 1) / count * np.square(z - z.mean()).sum()), count - 1.0


def _z(values: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.arctanh(np.clip(values, -SURE, SURE))
