"""A grid's learning curves as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audioldm_lit.ablation.curve_arms import SIZE, Arm
from audioldm_lit.ablation.statistics import interval
from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import atomic_write

POINTS = 60  # of a drawn curve


def plot(found: Sequence[Arm], results: pd.DataFrame, metric: str, path: Path) -> None:
    """Write what `drawn` draws.

    Args:
        found: Arms of `results`.
        results: One row a run and metric.
        metric: Metric whose values are drawn.
        path: PNG, SVG or PDF, by its suffix.
    """
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise InputError("--plot", f"{path} is no .png, .svg or .pdf", "choose one of these")
    with atomic_write(path) as unfinished:
        drawn(found, results, metric).savefig(unfinished, format=path.suffix[1:], dpi=150)


def drawn(found: Sequence[Arm], results: pd.DataFrame, metric: str) -> Figure:
    """Every arm's means over seeds with their 95 % intervals, its power law where it has one, and the untrained arms as lines."""
    rows = results[results["metric"] == metric].dropna(subset=["value"])
    better = "higher" if rows["higher_is_better"].iloc[0] else "lower"
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="training clips", ylabel=f"{metric}, {better} is better")
    for number, arm in enumerate(found):
        mine = rows[(rows["steps"] > 0) & np.logical_and.reduce([rows[axis] == level for axis, level in arm.levels.items()])]
        _draw(axes, arm, mine, _name(arm.levels) or metric, f"C{number}")
    for number, (name, group) in enumerate(_untrained(rows, found).items()):
        low, high = interval(group["value"])
        axes.axhline(
            group["value"].mean(),
            color="0.3",
            linestyle=("-", "--", ":")[number % 3],
            label=f"{name}, untrained".removeprefix(", "),
        )
        axes.axhspan(low, high, color="0.3", alpha=0.12)
    sizes = sorted(rows.loc[rows["steps"] > 0, SIZE].unique())
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes], minor=False)
    axes.minorticks_off()
    axes.legend(frameon=False)
    return figure


def _draw(axes: Axes, arm: Arm, rows: pd.DataFrame, name: str, colour: str) -> None:
    means = rows.groupby(SIZE)["value"].mean()
    low, high = np.transpose([interval(group["value"]) for _, group in rows.groupby(SIZE)])
    reach = np.nan_to_num([means - low, high - means])  # a single seed has none
    axes.errorbar(means.index, means, reach, fmt="o", capsize=3, color=colour, label=name)
    if arm.curve is None:
        axes.plot(means.index, means, linestyle=":", color=colour)
        return
    clips = np.unique(np.geomspace(arm.curve.smallest, arm.curve.largest, POINTS).round().astype(int))
    drawn = [arm.curve.at(int(number)) for number in clips]
    axes.plot(clips, [np.nan if point.value is None else point.value for point in drawn], color=colour)
    axes.fill_between(clips, [point.low for point in drawn], [point.high for point in drawn], color=colour, alpha=0.15)


def _untrained(rows: pd.DataFrame, found: Sequence[Arm]) -> dict[str, pd.DataFrame]:
    """Runs that did not train, by the levels of the arms' axes."""
    axes = list(found[0].levels) if found else []
    rows = rows[rows["steps"] == 0]
    if rows.empty:
        return {}
    groups = rows.groupby(axes, sort=False) if axes else [((), rows)]
    return {_name(dict(zip(axes, key, strict=True))): group for key, group in groups}


def _name(levels: Mapping[str, str]) -> str:
    return ", ".join(map(str, levels.values()))
