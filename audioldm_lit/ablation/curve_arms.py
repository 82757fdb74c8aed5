"""The learning curves in a grid's results: a curve for every arm, or the reason why it has none."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from audioldm_lit.ablation.columns import NAMES
from audioldm_lit.ablation.power_law import Curve, CurveValue, fit_curve
from audioldm_lit.ablation.sheets import Sheet
from audioldm_lit.ablation.statistics import axes_of
from audioldm_lit.errors import InputError

SIZE = "training_clips"


@dataclass(frozen=True)
class Arm:
    """The runs of a grid that differ only in size and seed.

    Attributes:
        levels: Level of each axis that is not the same in all arms.
        runs: How many.
        curve: None where none can be fitted.
        why_not: The reason; None where there is a curve.
    """

    levels: Mapping[str, str]
    runs: int
    curve: Curve | None
    why_not: InputError | None = None


def read_results(folder: Path) -> pd.DataFrame:
    """A grid's `results.csv`, its levels as text."""
    path = folder / "results.csv"
    if not path.is_file():
        raise InputError(path, "is not there", "give the folder of a grid that has been run with `ablate`")
    names = _table(path, nrows=0).columns
    missing = [name for name in ("run", "metric", "value", "higher_is_better", "passport", "steps", SIZE) if name not in names]
    if missing:
        raise InputError(path, f"has no column {missing[0]}", "run `ablate` again to write it")
    levels = {name: str for name in names if name not in NAMES}
    read = _table(path, dtype=levels, keep_default_na=False, na_values={name: [""] for name in NAMES})  # "None" is a level
    if read["value"].isna().all():
        raise InputError(path, "no run is done yet", "let the grid go on")
    return read


def _table(path: Path, **how: Any) -> pd.DataFrame:
    try:
        return pd.read_csv(path, **how)
    except ValueError as error:  # of which all of pandas' own are kinds
        raise InputError(path, f"is no table of results ({error})", "run `ablate --table terminal` to write it again") from error


def chosen(results: pd.DataFrame, where: Sequence[str]) -> pd.DataFrame:
    """The runs at certain levels; where several levels of one axis are named, at any of them.

    Args:
        results: One row a run and metric, as `collect` gives it.
        where: `axis=level`.

    Raises:
        InputError: If there is no such axis or level.
    """
    wanted: dict[str, list[str]] = {}
    for choice in where:
        axis, _, level = choice.partition("=")
        axes = [name for name in results.columns if name not in NAMES]
        if axis not in axes:
            raise InputError("--where", f"'{choice}' names no axis", f"write axis=level with one of {', '.join(axes)}")
        if level not in set(results[axis]):
            raise InputError("--where", f"{axis} has no level '{level}' here", f"use one of {', '.join(results[axis].unique())}")
        wanted.setdefault(axis, []).append(level)
    for axis, levels in wanted.items():
        results = results[results[axis].isin(levels)]
    return results


def arms(results: pd.DataFrame, metric: str) -> list[Arm]:
    """Fit a curve to every arm, without runs that did not train or whose metric could not be computed.

    Args:
        results: One row a run and metric, as `collect` gives it.
        metric: Metric whose curve is fitted.

    Raises:
        InputError: If there is no such metric, or values of different passports would share a curve.
    """
    computed = results.dropna(subset=["value"])
    if metric not in set(computed["metric"]):
        known = ", ".join(computed["metric"].unique())
        raise InputError("--metric", f"is '{metric}', but the runs have {known}", "give one of these")
    rows = computed[(computed["metric"] == metric) & (computed["steps"] > 0)]
    if rows.empty:
        raise InputError(metric, "none of these runs trained", "choose others with --where")
    passports = rows["passport"].unique()
    if len(passports) > 1:
        raise InputError(metric, f"has values of the passports {passports[0]} and {passports[1]}", "choose one with --where")
    if rows["higher_is_better"].isna().any():
        raise InputError(metric, "has no better direction, so nothing can improve", "choose another metric")
    axes = [axis for axis in axes_of(rows) if rows[axis].nunique() > 1 and not _is_size(rows, axis)]
    groups = rows.groupby(axes, sort=False) if axes else [((), rows)]
    return [_arm(dict(zip(axes, key, strict=True)), group) for key, group in groups]


def sheet(found: Sequence[Arm], metric: str, clips: Sequence[int], reach: float | None) -> Sheet:
    """A row an arm: its value at numbers of clips, the clips it needs to reach a value, the exponent, where it levels off."""
    heads = list(found[0].levels)
    columns = [*heads, "runs", *(f"{number} clips" for number in clips)]
    columns += [] if reach is None else [f"clips for {reach:g}"]
    columns += ["c", "levels off at"]
    rows = []
    for arm in found:
        cells = [_value(arm.curve, number) for number in clips] if arm.curve else [""] * len(clips)
        cells += [] if reach is None else [str(arm.curve.needed(reach)) if arm.curve else ""]
        cells += [f"{arm.curve.exponent:.2f}", _text(arm.curve.level)] if arm.curve else ["", ""]
        rows.append([*arm.levels.values(), str(arm.runs), *cells])
    return Sheet(f"{metric} over training clips, mean over seeds [95 %]", columns, rows, len(heads))


def as_dict(arm: Arm, clips: Sequence[int], reach: float | None) -> dict[str, Any]:
    """The same for JSON; null beyond the reach of the curve."""
    about: dict[str, Any] = {"levels": dict(arm.levels), "runs": arm.runs, "why_not": arm.why_not and vars(arm.why_not)}
    curve = arm.curve
    if curve is None:
        return about
    about["measured"], about["furthest"] = [curve.smallest, curve.largest], curve.furthest
    about["exponent"], about["level"] = curve.exponent, _finite(curve.level)
    about["at"] = {number: _finite(curve.at(number)) if curve.speaks_of(number) else None for number in clips}
    about["needed"] = None if reach is None else {"target": reach, **asdict(curve.needed(reach))}
    return about


def _is_size(rows: pd.DataFrame, axis: str) -> bool:
    """Whether, at equal levels of the other axes, a level and a number of clips determine each other, as with shots."""
    others = [name for name in axes_of(rows) if name != axis]
    pairs = rows[[*others, axis, SIZE]].drop_duplicates()
    return not pairs.duplicated([*others, axis]).any() and not pairs.duplicated([*others, SIZE]).any()


def _arm(levels: Mapping[str, str], rows: pd.DataFrame) -> Arm:
    try:
        curve = fit_curve(rows[SIZE], rows["value"], bool(rows["higher_is_better"].iloc[0]))
    except InputError as refusal:
        return Arm(levels, len(rows), None, refusal)
    return Arm(levels, len(rows), curve)


def _value(curve: Curve, clips: int) -> str:
    if not curve.speaks_of(clips):
        return f"below {curve.smallest}" if clips < curve.smallest else f"beyond {curve.furthest}"
    return _text(curve.at(clips))


def _finite(estimate: CurveValue) -> dict[str, float | None]:
    """For JSON, which knows no infinity."""
    return {name: value if value is not None and isfinite(value) else None for name, value in vars(estimate).items()}


def _text(estimate: CurveValue) -> str:
    span = f"[{estimate.low:.4g}, {estimate.high:.4g}]"
    return span if estimate.value is None else f"{estimate.value:.4g}\n{span}"
