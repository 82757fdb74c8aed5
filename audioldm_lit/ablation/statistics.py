"""Statistics over seeds: means with intervals, paired tests, and how much of the variance each axis explains."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from audioldm_lit.ablation.columns import NAMES
from audioldm_lit.ablation.grid import REPETITION
from audioldm_lit.errors import InputError

LEVEL = 0.95  # of intervals; 1 - LEVEL is the size of tests


def axes_of(results: pd.DataFrame) -> list[str]:
    """Axes other than the seed."""
    return [name for name in results.columns if name not in (*NAMES, REPETITION)]


def interval(values: pd.Series) -> tuple[float, float]:
    """The 95 % interval of a mean over seeds, Student's t; not a number for one value."""
    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.sem() if len(values) > 1 else float("nan")
    return values.mean() - half, values.mean() + half


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """A row for every arm, metric and passport: `seeds`, `mean`, `low`, `high`, and mean costs."""
    rows = []
    computed = results.dropna(subset=["value"])
    for key, group in computed.groupby([*axes_of(results), "metric", "passport"], sort=False):
        low, high = interval(group["value"])
        costs = {name: group[name].mean() for name in ("seconds", "trained_weights", "training_clips", "peak_memory_gb")}
        named = dict(zip([*axes_of(results), "metric", "passport"], key, strict=True))
        rows.append({**named, "seeds": len(group), "mean": group["value"].mean(), "low": low, "high": high, **costs})
    return pd.DataFrame(rows)


def comparisons(
    results: pd.DataFrame, metric: str, axis: str, untrained: Sequence[Mapping[str, str]] | None = None
) -> pd.DataFrame:
    """Every pair of an axis' levels, at equal levels of the other axes, paired by seed.

    An arm that is not trained is compared at the levels of the other axes that it was run on, and everywhere along the axes for
    whose levels the grid has no run of it: those it does not depend on. `p` is that of the paired t test,
    `p_holm` of the same after Holm's correction (1979, Scandinavian Journal of Statistics 6:65) over all pairs of the table.

    Args:
        results: Of `collect`.
        metric: Metric to compare.
        axis: Axis whose levels to compare.
        untrained: Levels of every run of the grid that does not train, done or not; by default of those in `results`.

    Returns:
        Columns: the other axes, `first`, `second`, `seeds`, `difference` (second minus first), `low`, `high`, `p`, `p_holm`,
        `verdict` on the second.
    """
    rows = _rows(results, metric)
    if REPETITION not in rows:
        raise InputError(metric, "runs are compared by seed", f"give the grid an axis `{REPETITION}`")
    if untrained is None:
        untrained = rows.loc[rows["steps"] == 0, axes_of(rows)].to_dict("records")
    found = pd.DataFrame([_paired(*pair) for pair in _pairs(rows, axis, untrained)])
    if found.empty:
        return found
    tested = found["p"].notna()
    found["p_holm"] = float("nan")
    if tested.any():
        found.loc[tested, "p_holm"] = multipletests(found.loc[tested, "p"], method="holm")[1]
    apart = found["p_holm"] < 1 - LEVEL
    higher = rows["higher_is_better"].iloc[0]
    up, down = ("higher", "lower") if higher is None or pd.isna(higher) else ("better", "worse") if higher else ("worse", "better")
    found["verdict"] = "cannot tell"
    found.loc[apart & (found["difference"] > 0), "verdict"] = up
    found.loc[apart & (found["difference"] < 0), "verdict"] = down
    return found


def _rows(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Computed values of a metric, all under one passport."""
    rows = results[results["metric"] == metric].dropna(subset=["value"])
    if rows["passport"].nunique() > 1:
        problem = f"was measured under {rows['passport'].nunique()} passports"
        raise InputError(metric, problem, "compare one test set at a time")
    return rows


def _pairs(
    rows: pd.DataFrame, axis: str, planned: Sequence[Mapping[str, str]]
) -> Iterator[tuple[dict[str, Any], pd.Series, pd.Series]]:
    """Where, first and second arm, each a series of values by seed whose name is its level."""
    others = [name for name in axes_of(rows) if name != axis]
    untrained = {level: group for level, group in rows.groupby(axis, sort=False) if (group["steps"] == 0).all()}
    trained = rows[rows["steps"] > 0]
    for key, cell in trained.groupby(others, sort=False) if others else [((), trained)]:
        where = dict(zip(others, key, strict=True))
        bases = {
            level: _at(group, where, [trial for trial in planned if trial[axis] == level]) for level, group in untrained.items()
        }
        here = bases | dict(list(cell.groupby(axis, sort=False)))
        arms = {level: _by_seed(group) for level, group in here.items() if len(group)}
        for first, second in combinations(arms, 2):
            yield where, arms[first].rename(first), arms[second].rename(second)


def _at(group: pd.DataFrame, where: Mapping[str, Any], planned: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """Rows of an untrained arm at the levels of those axes that it is run on; it does not depend on the others."""
    for axis, level in where.items():
        if any(trial[axis] == level for trial in planned):
            group = group[group[axis] == level]
    return group


def _by_seed(group: pd.DataFrame) -> pd.Series:
    return group.groupby(REPETITION)["value"].mean()


def _paired(where: Mapping[str, Any], first: pd.Series, second: pd.Series) -> dict[str, Any]:
    difference = (second - first).dropna()  # on the seeds that both have
    low, high = interval(difference)
    varies = len(difference) > 1 and difference.std() > 1e-9 * difference.abs().max()  # else rounding alone is tested
    p = stats.ttest_1samp(difference, 0).pvalue if varies else float("nan")
    figures = {"seeds": len(difference), "difference": difference.mean(), "low": low, "high": high, "p": p}
    return {**where, "first": first.name, "second": second.name, **figures}


def importance(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """How much of a metric's variance over trained runs each axis and each pair of axes explains.

    Functional ANOVA of a full factorial grid is its analysis of variance, here with sums of squares of type II (statsmodels).

    Returns:
        Index: axes, `axis × axis`, `seed` and `rest`. Columns: `share` in [0, 1] of their sum, and `p` of the F test.

    Raises:
        InputError: If some combinations of levels have no run, or none has a second.
    """
    rows = _rows(results, metric)
    rows = rows[rows["steps"] > 0]
    if len(rows) > 1 and rows["value"].nunique() == 1:
        problem = f"all runs have the same value, {rows['value'].iloc[0]:g}"
        raise InputError(f"importance of {metric}", problem, "take a metric that tells them apart")
    axes = [axis for axis in axes_of(rows) if rows[axis].nunique() > 1]
    if not axes or len(rows) < 3:
        problem = "needs trained runs at two levels of an axis and more"
        raise InputError(f"importance of {metric}", problem, "let the grid go on")
    factors = {axis: f"C(Q('{axis}'))" for axis in axes}
    terms = dict(factors)
    terms |= {f"{axis} × {other}": f"{factors[axis]}:{factors[other]}" for axis, other in combinations(axes, 2)}
    if REPETITION in rows and rows[REPETITION].nunique() > 1:
        terms[REPETITION] = f"C(Q('{REPETITION}'))"
    model = ols(f"value ~ {' + '.join(terms.values())}", rows)
    rank = np.linalg.matrix_rank(model.exog)
    if rank < model.exog.shape[1] or rank == len(rows):
        problem = "some combinations of levels have no run, or none has a second"
        raise InputError(f"importance of {metric}", problem, "let the grid go on, or give it every combination and two seeds")
    table = anova_lm(model.fit(), typ=2)
    names = {term: name for name, term in terms.items()} | {"Residual": "rest"}
    table.index = [names[term] for term in table.index]
    return pd.DataFrame({"share": table["sum_sq"] / table["sum_sq"].sum(), "p": table["PR(>F)"]})
