"""Scores as tables: for the terminal, as CSV and as LaTeX. Systems that were scored differently are refused."""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from audioldm_lit.metrics.evaluation import Evaluation, check_comparable
from audioldm_lit.metrics.score import Score, compare

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
    for metric in scores if others else ():
        if metric in evaluations[others[0]].scores:
            verdict = compare(scores[metric], evaluations[others[0]].scores[metric])
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
    """One row a metric, a column a system."""
    check_comparable({name: one.passport for name, one in evaluations.items()})
    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("metric", no_wrap=True)
    table.add_column("features", no_wrap=True)
    for system in evaluations:
        table.add_column(f"{system} [95 %]", justify="right", no_wrap=True)
    table.add_column("real vs real", justify="right", no_wrap=True)
    first = next(iter(evaluations.values()))
    for name, score in first.scores.items():
        floor = "" if score.floor is None else f"{_number(score.floor)} at {score.floor_clips}"
        arrow = "" if score.higher_is_better is None else (" ↑" if score.higher_is_better else " ↓")
        values = [cell(one.scores[name]) if name in one.scores else "–" for one in evaluations.values()]
        table.add_row(f"{name}{arrow}", score.extractor, *values, floor)
    return table


def cell(score: Score) -> str:
    """Value and interval."""
    if score.interval is None:
        return f"{_number(score.value)} [no interval]"
    return f"{_number(score.value)} [{_number(score.interval[0])}, {_number(score.interval[1])}]"


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
        spans = [score and score.interval for score in present]
        below = ["" if span is None else rf"{{\scriptsize [{_number(span[0])}, {_number(span[1])}]}}" for span in spans]
        lines += [" & ".join([_escaped(system), *values]) + r" \\", " & ".join(["", *below]) + r" \\"]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _row(score: Score) -> dict[str, object]:
    low, high = score.interval or ("", "")
    figures = {name: value for name, value in score.as_dict().items() if name in FIELDS}
    return {**figures, "low": low, "high": high}


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "&%$#_{}" else letter for letter in text)


def _number(value: float) -> str:
    """Three significant digits, without an exponent where that reads well."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
