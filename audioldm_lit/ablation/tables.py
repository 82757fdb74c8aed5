"""Tables of results for the terminal, Markdown and LaTeX."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audioldm_lit.ablation.statistics import axes_of, comparisons, importance, summary

ARROWS = {True: " ↑", False: " ↓", None: ""}


@dataclass(frozen=True)
class Sheet:
    """Cells of text in rows and columns; the first `heads` columns name the row. A cell's second line is its interval.

    `notes` stand beneath the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    heads: int
    notes: Sequence[str] = ()


def sheets(results: pd.DataFrame, metric: str, narrow: bool) -> list[Sheet]:
    """All arms, with all metrics or, `narrow`, with one; of one, how the first axis' levels compare and what each axis does."""
    rows = results[results["metric"] == metric]
    pages = [arms(rows if narrow else results)]
    if axes_of(rows) and rows["passport"].nunique() == 1:
        pages += [compared(results, metric, axes_of(rows)[0]), explained(results, metric)]
    return [page for page in pages if page.rows]


def arms(results: pd.DataFrame) -> Sheet:
    """A row an arm; values under different passports never share a column."""
    axes, means = axes_of(results), summary(results)
    measured = means[["metric", "passport"]].drop_duplicates().values.tolist()
    numbers = {key: _number_of(key, measured) for key in map(tuple, measured)}
    better = dict(zip(results["metric"], results["higher_is_better"], strict=True))
    heads = [f"{metric}{numbers[metric, passport]}{ARROWS[better[metric]]}" for metric, passport in measured]
    rows = []
    for key, arm in means.groupby(axes, sort=False) if axes else [((), means)]:
        cells = {(one.metric, one.passport): _cell(one.mean, one.low, one.high) for one in arm.itertuples()}
        costs = f"{arm['seconds'].mean() / 60:.1f}", f"{arm['trained_weights'].mean():,.0f}", str(arm["seeds"].max())
        rows.append([*map(str, key), *(cells.get(tuple(one), "") for one in measured), *costs])
    return Sheet("mean over seeds [95 %]", [*axes, *heads, "minutes", "trained weights", "seeds"], rows, len(axes))


def compared(results: pd.DataFrame, metric: str, axis: str) -> Sheet:
    """Pairs of an axis' levels, paired by seed."""
    found = comparisons(results, metric, axis)
    others = [name for name in axes_of(results) if name != axis]
    rows = [
        [*(str(row[name]) for name in others), f"{row['second']} against {row['first']}", str(row["verdict"]),
         _cell(row["difference"], row["low"], row["high"]), _number(row["p_holm"]), str(row["seeds"])]
        for _, row in found.iterrows()
    ]  # fmt: skip
    columns = [*others, axis, "verdict", "difference", "p (Holm)", "seeds"]
    return Sheet(f"{metric}: {axis}, paired by seed", columns, rows, len(others) + 1)


def explained(results: pd.DataFrame, metric: str) -> Sheet:
    """Shares of the variance."""
    trained = results[(results["metric"] == metric) & (results["steps"] > 0)]
    if not any(trained[axis].nunique() > 1 for axis in axes_of(trained)) or len(trained) < 3:
        return Sheet("", [], [], 0)
    table = importance(results, metric)
    rows = [[str(name), f"{100 * one.share:.1f} %", _number(one.p)] for name, one in table.iterrows()]
    return Sheet(f"{metric}: share of the variance of trained runs (ANOVA)", ["axis", "share", "p"], rows, 1)


def terminal(page: Sheet, console: Console) -> None:
    """Print."""
    table = Table(title=escape(page.title), box=box.SIMPLE_HEAD, title_justify="left")
    for number, column in enumerate(page.columns):
        table.add_column(escape(column), justify="left" if number < page.heads else "right", overflow="fold")
    for row in page.rows:
        table.add_row(*(escape(cell.replace("\n", " ")) for cell in row))
    console.print(table)
    for note in page.notes:
        console.print(escape(note), soft_wrap=True, highlight=False)


def markdown(page: Sheet) -> str:
    """A table of GitHub's Markdown."""
    rule = "".join("|---" if number < page.heads else "|---:" for number in range(len(page.columns))) + "|"
    lines = [f"**{page.title}**", "", f"| {' | '.join(page.columns)} |", rule]
    lines += [f"| {' | '.join(cell.replace(chr(10), ' ') for cell in row)} |" for row in page.rows]
    return "\n".join([*lines, *(line for note in page.notes for line in ("", note))])


def latex(page: Sheet) -> str:
    """A booktabs table, intervals beneath their values."""
    lines = [f"% {page.title}; needs \\usepackage{{booktabs}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * page.heads}{'r' * (len(page.columns) - page.heads)}}}", r"\toprule"]
    lines += [" & ".join(map(_escaped, page.columns)) + r" \\", r"\midrule"]
    for row in page.rows:
        first, second = zip(*(cell.split("\n") if "\n" in cell else (cell, "") for cell in row), strict=True)
        lines.append(" & ".join(map(_escaped, first)) + r" \\")
        if any(second):
            lines.append(" & ".join(span and rf"{{\scriptsize {span}}}" for span in second) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *(rf"\par {_escaped(note)}" for note in page.notes)])


def _number_of(key: tuple[str, str], measured: Sequence[Sequence[str]]) -> str:
    """` (2)` for the second passport of a metric, nothing where it has one."""
    passports = [passport for metric, passport in measured if metric == key[0]]
    return f" ({passports.index(key[1]) + 1})" if len(passports) > 1 else ""


def _cell(value: float, low: float, high: float) -> str:
    return _number(value) if math.isnan(low) else f"{_number(value)}\n[{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    """Four significant digits; nothing for not a number."""
    return "" if math.isnan(value) else f"{value:.4g}" if abs(value) >= 1e-9 else "0"


def _escaped(text: str) -> str:
    signs = {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$"}
    return "".join(f"\\{letter}" if letter in "&%$#_{}" else signs.get(letter, letter) for letter in text)
