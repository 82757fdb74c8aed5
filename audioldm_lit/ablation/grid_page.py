"""The report of a grid: which arm is best and how sure that is, the tables, the learning curves, and the best arm's sounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from markupsafe import Markup

from audioldm_lit.ablation.curve_arms import SIZE, Arm, arms, read_results, sheet
from audioldm_lit.ablation.plot import drawn
from audioldm_lit.ablation.sheets import sheets
from audioldm_lit.ablation.statistics import axes_of, comparisons, summary
from audioldm_lit.ablation.trial_folder import TrialFolder, newest
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.tables import number
from audioldm_lit.report.charts import STYLE, Chart, figure_chart
from audioldm_lit.report.page import sounds_of
from audioldm_lit.report.run_files import RunFiles
from audioldm_lit.report.shell import render
from audioldm_lit.report.texts import Texts
from audioldm_lit.report.verdict import metric_name, word
from audioldm_lit.storage.atomic_write import atomic_write

TURNED = {"better": "worse", "worse": "better", "higher": "lower", "lower": "higher"}


@dataclass(frozen=True)
class Best:
    """The best arm of a grid.

    Attributes:
        levels: By axis.
        value: Mean over seeds.
        seeds: How many.
        other: The level of the first axis that comes next, at the same levels of the others; None where there is none.
        said: Verdict on the best against it.
    """

    levels: Mapping[str, str]
    value: float
    seeds: int
    other: str | None
    said: str


def is_grid(folder: Path) -> bool:
    """Whether a folder holds the results of a grid."""
    return (folder / "results.csv").is_file()


def write_grid_report(path: Path, folder: Path, metric: str = "loss", language: str = "en") -> None:
    """Write the report of a grid's results folder as one HTML file.

    Raises:
        InputError: If there are no results, no such metric, or the file cannot be written.
    """
    texts, results = Texts(language), read_results(folder)
    found, gaps = _arms(results, metric)
    best = best_arm(results, metric)
    runs = _runs_of(folder, results, best)
    content: dict[str, Any] = {
        "title": folder.resolve().name,
        "verdict": _verdict(texts, best, metric),
        "kind": {"better": "good", "worse": "bad"}.get(best.said, "unsure"),
        "arm": _named(best.levels),
        "pages": [*sheets(results, metric, narrow=False), *([_numbers(found, metric)] if found else [])],
        "chart": _chart(texts, found, results, metric),
        **sounds_of(texts, runs[:1]),
    }
    content["gaps"] = [*gaps, *content["gaps"]]
    page = render(
        "report/grid.html", texts, styles=["report/report.css"], scripts=["report/player.js", "report/report.js"], **content
    )
    with atomic_write(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def best_arm(results: pd.DataFrame, metric: str) -> Best:
    """The trained arm with the best mean, and whether the next one is told from it.

    Raises:
        InputError: If no run that trained has the metric.
    """
    rows = results[(results["metric"] == metric) & (results["steps"] > 0)].dropna(subset=["value"])
    if rows.empty:
        known = ", ".join(results.dropna(subset=["value"])["metric"].unique())
        raise InputError("--metric", f"is '{metric}', which no trained run has", f"give one of {known}")
    axes = axes_of(rows)
    means = summary(rows).sort_values("mean", ascending=not bool(rows["higher_is_better"].iloc[0]))
    first = means.iloc[0]
    levels = {axis: str(first[axis]) for axis in axes}
    value, seeds = float(first["mean"]), int(first["seeds"])
    axis, *others = axes or [""]
    try:
        pairs = comparisons(results, metric, axis) if axis else pd.DataFrame()
    except InputError:  # without seeds nothing is paired; the table says so
        pairs = pd.DataFrame()
    rivals = {}
    for _, pair in pairs.iterrows():
        if all(str(pair[name]) == levels[name] for name in others) and levels[axis] in (pair["first"], pair["second"]):
            mine = pair["second"] == levels[axis]
            rival = pair["first"] if mine else pair["second"]
            rivals[rival] = abs(pair["difference"]), pair["verdict"] if mine else TURNED.get(pair["verdict"], pair["verdict"])
    other = min(rivals, key=lambda name: rivals[name][0], default=None)
    return Best(levels, value, seeds, other, rivals[other][1] if other is not None else "cannot tell")


def _verdict(texts: Texts, best: Best, metric: str) -> Markup:
    shown = {"metric": metric_name(texts, metric), "value": number(best.value), "seeds": best.seeds, "arm": _named(best.levels)}
    if best.other is None:
        return texts("grid.alone", word=word(texts, "cannot tell"), **shown)
    key = "grid.cannot_tell" if best.said == "cannot tell" else "grid.verdict"
    return texts(key, word=word(texts, best.said), other=best.other, **shown)


def _arms(results: pd.DataFrame, metric: str) -> tuple[Sequence[Arm], list[str]]:
    """Arms with their curves; none, and the reason, where the grid has none."""
    if results[SIZE].dropna().nunique() < 2:
        return [], []
    try:
        found = arms(results, metric)
    except InputError as reason:
        return [], [str(reason)]
    return found, [f"{_named(arm.levels)}: {arm.why_not}" for arm in found if arm.why_not is not None]


def _numbers(found: Sequence[Arm], metric: str) -> Any:
    largest = max((arm.curve.largest for arm in found if arm.curve), default=None)
    return sheet(found, metric, [largest, 2 * largest] if largest else [], None)


def _chart(texts: Texts, found: Sequence[Arm], results: pd.DataFrame, metric: str) -> Chart | None:
    if not found:
        return None
    with matplotlib.rc_context(STYLE):
        return figure_chart(drawn(found, results, metric), texts.plain("grid.curves"))


def _runs_of(folder: Path, results: pd.DataFrame, best: Best) -> list[RunFiles]:
    """Trained runs of the best arm whose folders are there, an ended one first."""
    mine = results[results["steps"] > 0]
    for axis, level in best.levels.items():
        mine = mine[mine[axis].astype(str) == level]
    records = [newest(TrialFolder(folder / "runs" / name).attempts, "result.json") for name in mine["run"].unique()]
    return [RunFiles.read(record.parent) for record in records if record is not None and (record.parent / "config.yaml").is_file()]


def _named(levels: Mapping[str, str]) -> str:
    return ", ".join(f"{axis} {level}" for axis, level in levels.items())
