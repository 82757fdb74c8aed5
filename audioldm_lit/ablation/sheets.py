"""Tables of results for the terminal, Markdown and LaTeX."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from audioldm_lit.ablation.statistics import axes_of, comparisons, importance, summary
from audioldm_lit.ablation.trial_folder import State
from audioldm_lit.console.markup import escape, legible
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.tables import latex_text

ARROWS = {True: " ↑", False: " ↓", None: ""}


@dataclass(frozen=True)
class Sheet:
    """Cells of text in rows and columns; the first `heads` columns name the row. A cell's second line is its interval.

    `notes` go beneath the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    heads: int
    notes: Sequence[str] = ()


def sheets(
    results: pd.DataFrame,
    metric: str,
    narrow: bool,
    untrained: Sequence[Mapping[str, str]] | None = None,
    searched: Collection[str] = (),
) -> list[Sheet]:
    """Tables of all arms with all metrics or, if `narrow`, with one.

    For one metric, also how the first axis' levels compare and what each axis explains. `untrained` is for `comparisons`. Of a
    search the arms are sorted, the best first; no two share the levels of its ranges, the `searched` axes, and so none compare.
    """
    notes = [*unfinished(results), *(chosen(results) if searched else ())]
    results = best_first(results, metric) if searched else results
    rows = results[results["metric"] == metric]
    pages = [arms(rows if narrow else results, notes)]
    if searched:
        return pages
    parts = [part for _, part in rows.groupby("passport", sort=False)]
    for number, part in enumerate(parts, 1):
        name = f"{metric} ({number})" if len(parts) > 1 else metric
        if axes_of(part):
            pages += [compared(part, metric, name, untrained), explained(part, metric, name)]
    return pages


def best_first(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rows of the arm with the best mean of a metric first."""
    rows = results[results["metric"] == metric]
    means = rows.groupby(axes_of(results), sort=False)["value"].transform("mean").groupby(rows["run"]).first()
    order = results["run"].map(means)
    rising = rows["higher_is_better"].dropna().eq(True).any()
    return results.loc[order.sort_values(ascending=not rising, kind="stable").index]


def chosen(results: pd.DataFrame) -> list[str]:
    """The arm to choose: test clips that choose have nothing left to say."""
    runs = results.drop_duplicates("run").dropna(subset=["held_out_loss"])
    if runs.empty:
        return []
    if runs["held_out_loss_of"].nunique() > 1:
        kinds = ", ".join(runs["held_out_loss_of"].unique())
        return [f"held-out losses are errors of {kinds}, which do not compare: none is the lowest"]
    means = runs.groupby(axes_of(results), sort=False)["held_out_loss"].mean()
    words = ", ".join(f"{name} {level}" for name, level in zip(means.index.names, np.atleast_1d(means.idxmin()), strict=True))
    return [f"the lowest held-out loss in training, {_number(means.min())}, has {words}; choose by it, not by the test's figures"]


def arms(results: pd.DataFrame, notes: Sequence[str] = ()) -> Sheet:
    """A row for each arm; values of different passports never share a column. Notes go before those on its own values."""
    results = results.dropna(subset=["metric"])
    axes, means = axes_of(results), summary(results)
    measured = means[["metric", "passport"]].drop_duplicates().values.tolist()
    numbers = {key: _number_of(key, measured) for key in map(tuple, measured)}
    better = dict(zip(results["metric"], results["higher_is_better"], strict=True))
    heads = [f"{metric}{numbers[metric, passport]}{ARROWS.get(better[metric], '')}" for metric, passport in measured]
    rows = []
    for key, arm in means.groupby(axes, sort=False) if axes else [((), means)]:
        most = arm["seeds"].max()
        cells = {
            (row.metric, row.passport): _cell(row.mean, row.low, row.high) + (f" (n = {row.seeds})" if row.seeds < most else "")
            for row in arm.itertuples()
        }
        costs = f"{arm['seconds'].mean() / 60:.1f}", f"{arm['trained_weights'].mean():,.0f}", str(most)
        rows.append([*map(str, key), *(cells.get(tuple(column), "") for column in measured), *costs])
    columns = [*axes, *heads, "minutes", "trained weights", "seeds"]
    return Sheet("mean over seeds [95 %]", columns, rows, len(axes), [*notes, *_remarks(results)])


def unfinished(results: pd.DataFrame) -> list[str]:
    """How many runs of how many these results are of, and why others failed; nothing where all are done."""
    runs = results.drop_duplicates("run")
    left = runs[runs["metric"].isna()]
    if left.empty:
        return []
    counted = ", ".join(f"{count} {state}" for state, count in left["state"].value_counts().items())
    failed = left[left["state"] == State.FAILED.value].groupby("error", sort=False)["run"]
    why = [f"{', '.join(names)} failed: {error}" for error, names in failed]
    return [f"{len(runs) - len(left)} of {len(runs)} runs are done, {counted}", *why]


def _remarks(results: pd.DataFrame) -> list[str]:
    """What to keep in mind: metrics that could not be computed, and runs of different code."""
    notes = []
    for (metric, reason), missing in results[results["value"].isna()].groupby(["metric", "caution"], sort=False):
        notes.append(f"{metric} was not computed in {missing['run'].nunique()} runs: {reason}")
    commits = results.groupby("commit")["run"].nunique()
    if len(commits) > 1:
        counted = ", ".join(f"{count} of {commit or 'no commit'}" for commit, count in commits.items())
        notes.append(f"runs of different code: {counted}")
    return notes


def compared(results: pd.DataFrame, metric: str, name: str, untrained: Sequence[Mapping[str, str]] | None) -> Sheet:
    """Pairs of the first axis' levels, paired by seed."""
    axis, *others = axes_of(results)
    columns = [*others, axis, "verdict", "difference", "p (Holm)", "seeds"]
    title = f"{name}: {axis}, paired by seed"
    try:
        found = comparisons(results, metric, axis, untrained)
    except InputError as reason:
        return Sheet(title, columns, [], len(others) + 1, [str(reason)])
    rows = [
        [*(str(row[name]) for name in others), f"{row['second']} against {row['first']}", str(row["verdict"]),
         _cell(row["difference"], row["low"], row["high"]), _p(row["p_holm"]), str(row["seeds"])]
        for _, row in found.iterrows()
    ]  # fmt: skip
    note = "Intervals are of one pair alone; p and verdict are corrected for all pairs of the table."
    return Sheet(title, columns, rows, len(others) + 1, [note] if len(rows) > 1 else [])


def explained(results: pd.DataFrame, metric: str, name: str) -> Sheet:
    """Shares of the variance, or why there are none."""
    title, columns = f"{name}: share of the variance of trained runs (ANOVA)", ["axis", "share", "p"]
    try:
        table = importance(results, metric)
    except InputError as reason:
        return Sheet(title, columns, [], 1, [str(reason)])
    rows = [[str(axis), f"{100 * effect.share:.1f} %", _p(effect.p)] for axis, effect in table.iterrows()]
    return Sheet(title, columns, rows, 1)


def terminal(page: Sheet, console: Console) -> None:
    """Print."""
    table = Table(title=escape(page.title), box=box.SIMPLE_HEAD, title_justify="left")
    for number, column in enumerate(page.columns):
        table.add_column(escape(column), justify="left" if number < page.heads else "right", overflow="fold")
    for row in page.rows:
        table.add_row(*(escape(cell.replace("\n", " ")) for cell in row))
    if page.rows:
        console.print(table)
    for note in page.notes:
        console.print(escape(note), soft_wrap=True, highlight=False)


def markdown(page: Sheet) -> str:
    """A table of GitHub's Markdown."""
    rule = "".join("|---" if number < page.heads else "|---:" for number in range(len(page.columns))) + "|"
    lines = [f"**{page.title}**", ""]
    if page.rows:
        lines += [f"| {' | '.join(map(_markdown_cell, page.columns))} |", rule]
    lines += [f"| {' | '.join(map(_markdown_cell, row))} |" for row in page.rows]
    return "\n".join([*lines, *(line for note in page.notes for line in ("", note))])


def _markdown_cell(text: str) -> str:
    """Text in one cell of a table, which neither ends the cell nor becomes HTML."""
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", legible(text.replace("\n", " ")).replace("|", "&#124;"))


def latex(page: Sheet) -> str:
    """A booktabs table, intervals beneath their values."""
    lines = [f"% {page.title}; needs \\usepackage{{booktabs}}"]
    if not page.rows:
        return "\n".join([*lines, *map(latex_text, page.notes)])
    lines += [rf"\begin{{tabular}}{{{'l' * page.heads}{'r' * (len(page.columns) - page.heads)}}}", r"\toprule"]
    lines += [" & ".join(map(latex_text, page.columns)) + r" \\", r"\midrule"]
    for row in page.rows:
        first, second = zip(*(cell.split("\n") if "\n" in cell else (cell, "") for cell in row), strict=True)
        lines.append(" & ".join(map(latex_text, first)) + r" \\{}")
        if any(second):
            lines.append(" & ".join(span and rf"{{\scriptsize {span}}}" for span in second) + r" \\{}")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *(rf"\par {latex_text(note)}" for note in page.notes)])


def _number_of(key: tuple[str, str], measured: Sequence[Sequence[str]]) -> str:
    """` (2)` for the second passport of a metric, nothing where it has one."""
    passports = [passport for metric, passport in measured if metric == key[0]]
    return f" ({passports.index(key[1]) + 1})" if len(passports) > 1 else ""


def _cell(value: float, low: float, high: float) -> str:
    return _number(value) if math.isnan(low) else f"{_number(value)}\n[{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    """Four significant digits; nothing for not a number."""
    return "" if math.isnan(value) else f"{value:.4g}" if abs(value) >= 1e-9 else "0"


def _p(value: float) -> str:
    """Three significant digits; an F or t test of few runs means nothing further down than 0.0001."""
    return "" if math.isnan(value) else "< 0.0001" if value < 1e-4 else f"{value:.3g}"
