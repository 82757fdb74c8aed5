"""A mean over raters and clips, both drawn from many: its interval is for other raters and other clips, not for these alone."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

LEVEL = 0.95
FEWEST = 3  # raters, and clips, from which on an interval covers


@dataclass(frozen=True)
class CrossedMean:
    """A mean with its 95 % interval.

    Attributes:
        value: The mean; of several questions the sum of their weighted means.
        low: Lower end; not a number where there are fewer than three raters or three clips.
        high: Upper end.
        raters: How many raters answered.
        clips: How many clips they heard.
        error: Standard error; not a number where there is no interval.
    """

    value: float
    low: float
    high: float
    raters: int
    clips: int
    error: float = math.nan

    def within(self, lowest: float, highest: float) -> "CrossedMean":
        """The same with the interval cut off at what the scale allows."""
        return replace(self, low=max(lowest, self.low), high=min(self.high, highest)) if math.isfinite(self.error) else self


def crossed_mean(ratings: pd.DataFrame) -> CrossedMean:
    """The mean of ratings, which are mean + rater + clip + rest (Searle, Casella and McCulloch 1992, Variance Components).

    Its variance is that of the raters' means and of the clips' means, less that of the rest, which both contain, estimated by
    moments; degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2:110). Sums over clusters make it hold where answers
    are missing (Cameron, Gelbach and Miller 2011, J. Business and Economic Statistics 29:238). Resampling raters and clips instead
    would count the rest three times (Owen 2007, Annals of Applied Statistics 1:386).

    Args:
        ratings: Columns `rater`, `clip`, `value`; optional `question` and `weight`, the share of a question in a score.
    """
    table = ratings.assign(question=ratings.get("question", ""), weight=ratings.get("weight", 1.0))
    share = table["weight"] / table.groupby("question")["value"].transform("size")
    means = table.groupby("question")["value"].transform("mean")
    of_questions = table.groupby("question").agg({"weight": "first", "value": "mean"})
    value = float((of_questions["weight"] * of_questions["value"]).sum())
    moved = share * (table["value"] - means)
    rater, clip = pd.factorize(table["rater"])[0], pd.factorize(table["clip"])[0]
    count = int(rater.max()) + 1, int(clip.max()) + 1
    if min(count) < FEWEST:
        return CrossedMean(value, math.nan, math.nan, *count)
    by_rater, by_clip = (_cluster_variance(moved.to_numpy(), code) for code in (rater, clip))
    rest, freedom = _rest(table, share, rater, clip)
    parts = (by_rater, count[0] - 1), (by_clip, count[1] - 1), (rest, freedom)
    variance = max(by_rater + by_clip - rest, rest)  # which neither of them can be below
    spread = sum(part**2 / free for part, free in parts)
    degrees = variance**2 / spread if spread else 1.0
    half = stats.t.ppf((1 + LEVEL) / 2, degrees) * math.sqrt(variance)
    return CrossedMean(value, value - half, value + half, *count, math.sqrt(variance))


def crossed_share(ratings: pd.DataFrame) -> CrossedMean:
    """The mean of ratings between 0 and 1, with Wilson's interval (1927, J. American Statistical Association 22:209).

    It is that of as many independent answers as would have this standard error; where all answers are alike, which tells no error,
    of one answer a rater or a clip, whichever are fewer.
    """
    mean = crossed_mean(ratings)
    if not math.isfinite(mean.error):
        return mean
    spread = round(mean.value * (1 - mean.value), 12)
    alone = float(min(mean.raters, mean.clips))
    answers = min(float(len(ratings)), spread / mean.error**2) if mean.error > 0 and spread > 0 else alone
    low, high = proportion_confint(mean.value * answers, answers, 1 - LEVEL, method="wilson")
    return replace(mean, low=float(low), high=float(high))


def _cluster_variance(moved: NDArray[np.float64], code: NDArray[np.intp]) -> float:
    """Variance of a sum of deviations that are independent between clusters only."""
    sums = np.bincount(code, moved)
    return float(np.square(sums).sum() * len(sums) / (len(sums) - 1))


def _rest(table: pd.DataFrame, share: pd.Series, rater: NDArray[np.intp], clip: NDArray[np.intp]) -> tuple[float, float]:
    """Variance of the mean that is neither of raters nor of clips, and its degrees of freedom.

    Answers of one rater to several questions about one clip go together.
    """
    left = np.zeros(len(table))
    freedom = 0
    for _, rows in table.reset_index(drop=True).groupby("question"):
        places = rows.index.to_numpy()
        design = np.concatenate([_indicators(code[places]) for code in (rater, clip)], axis=1)
        values = rows["value"].to_numpy(float)
        solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
        free = len(places) - rank
        if free > 0:
            left[places] = (values - design @ solution) * math.sqrt(len(places) / free)
            freedom += free
    cells = pd.Series(left * share.to_numpy()).groupby([rater, clip]).sum()
    return float(np.square(cells).sum()), float(max(1, freedom))


def _indicators(code: NDArray[np.intp]) -> NDArray[np.float64]:
    """(N, K): which of the K levels that occur each row has."""
    return (code[:, None] == np.unique(code)).astype(float)
