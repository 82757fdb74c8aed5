"""Scores as tables: for the terminal, as CSV and as LaTeX. Systems that were scored differently are refused."""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping
from itertools import zip_longest

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audioldm_lit.metrics.evaluation import Evaluation, check_comparable, compare_systems
from audioldm_lit.metrics.score import Score

FIELDS = (
    "system", "metric", "class", "extractor", "value", "low", "high", "debiased", "floor", "floor_clips", "n_clips", "n_rows",
    "caution", "passport",
)  # fmt: skip


def show(evaluations: Mapping[str, Evaluation], console: Console) -> None:
    """Print the table, how the second system compares with the first, and what to mind."""
    first, *others = evaluations
    passport, scores = evaluations[first].passport, evaluations[first].scores
    protocol, count = passport["protocol"], passport["target"]["n_clips"]
    sizes = f"{passport['n_generated']} clips each" if others else f"{passport['n_generated']} clips"
    console.print(f"protocol {protocol['name']} v{protocol['version']}: {sizes} against {count} recordings", highlight=False)
    console.print(terminal(evaluations))
    if others:
        for metric, verdict in compare_systems(evaluations[first], evaluations[others[0]]).items():
            console.print(f"{metric}: {others[0]} against {first}: {verdict}", soft_wrap=True, highlight=False)
    for caution, names in _grouped({name: score.caution for name, score in scores.items() if score.caution}).items():
        console.print(f"[yellow]{', '.join(names)}[/]: {caution}", soft_wrap=True, highlight=False)
    for reason, names in _grouped(evaluations[first].not_computed).items():
        console.print(f"[yellow]{', '.join(names)}[/] not computed: {reason}", soft_wrap=True, highlight=False)


def _grouped(remarks: Mapping[str, str]) -> dict[str, list[str]]:
    """Metrics by what is remarked of them."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, remark in remarks.items():
        groups[remark].append(name)
    return groups


def terminal(evaluations: Mapping[str, Evaluation]) -> Table:
    """A row for every metric and system, and one for recordings against recordings where the metric is a distance."""
    check_comparable({name: one.passport for name, one in evaluations.items()})
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("metric", "system"):
        table.add_column(column, no_wrap=True)
    for column in ("value", "95 % interval", "debiased"):
        table.add_column(column, justify="right", no_wrap=True)
    for name in next(iter(evaluations.values())).scores:
        systems = {system: one.scores[name] for system, one in evaluations.items() if name in one.scores}
        first = next(iter(systems.values()))
        arrow = {True: " ↑", False: " ↓", None: ""}[first.higher_is_better]
        rows = [
            (
                escape(system),
                _number(score.value),
                escape(_interval(score)),
                "" if score.debiased is None else _number(score.debiased),
            )
            for system, score in systems.items()
        ]
        if first.floor.num_clips:
            rows.append((f"[dim]real vs real ({first.floor.num_clips})[/]", f"[dim]{_number(first.floor.value)}[/]"))
        for head, row in zip_longest((f"{name}{arrow}", f"[dim]{first.extractor}[/]"), rows, fillvalue=""):
            table.add_row(head, *row)
        table.add_section()
    return table


def _interval(score: Score) -> str:
    return "" if score.interval is None else f"[{_number(score.interval[0])}, {_number(score.interval[1])}]"


def to_csv(evaluations: Mapping[str, Evaluation]) -> str:
    """One line a system, metric and class."""
    check_comparable({name: one.passport for name, one in evaluations.items()})
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    for system, one in evaluations.items():
        for metric, score in one.scores.items():
            shared = {"system": system, "metric": metric, "passport": one.passport["sha256"]}
            writer.writerow({**shared, **_row(score)})
            apart = {name: part for name, part in score.classes.items() if isinstance(part, Score)}
            writer.writerows({**shared, "class": name, **_row(part)} for name, part in apart.items())
    return text.getvalue()


def to_latex(evaluations: Mapping[str, Evaluation]) -> str:
    """A booktabs table, one row a system, the intervals beneath the values; the passport stands in a comment."""
    check_comparable({name: one.passport for name, one in evaluations.items()})
    first = next(iter(evaluations.values()))
    arrows = {True: r"$\uparrow$", False: r"$\downarrow$", None: ""}
    heads = [f"{name.replace('_', ' ').upper()} {arrows[score.higher_is_better]}" for name, score in first.scores.items()]
    count = next(iter(first.scores.values())).sides[0].num_clips
    lines = [
        f"% passport {first.passport['sha256']}, {count} clips; needs \\usepackage{{booktabs}}",
        rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
        r"\toprule",
        " & ".join(["", *heads]) + r" \\",
        r"\midrule",
    ]
    for system, one in evaluations.items():
        present = [one.scores.get(name) for name in first.scores]
        values = ["--" if score is None else _number(score.value) for score in present]
        spans = [_interval(score) if score else "" for score in present]
        below = [span and rf"{{\scriptsize {span}}}" for span in spans]
        lines += [" & ".join([_escaped(system), *values]) + r" \\", " & ".join(["", *below]) + r" \\"]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _row(score: Score) -> dict[str, object]:
    low, high = score.interval or ("", "")
    figures = {name: value for name, value in score.as_dict().items() if name in FIELDS}
    return {**figures, "low": low, "high": high}


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "&%$#_{}" else letter for letter in text)


def _number(value: float) -> str:
    """Three significant digits, without an exponent where that reads well; rounding errors are 0."""
    if abs(value) < 1e-9:
        return "0"
    if abs(value) < 0.01:
        return f"{value:.4f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
