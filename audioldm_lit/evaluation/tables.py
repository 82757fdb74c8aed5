"""Scores as tables: for the terminal, as CSV and as LaTeX. Systems that were scored differently are refused."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from audioldm_lit.console.markup import escape
from audioldm_lit.evaluation.evaluation import Evaluation, compare_systems
from audioldm_lit.evaluation.passport import check_comparable
from audioldm_lit.evaluation.score import Comparison, Score
from audioldm_lit.storage.csv_cell import to_cell

FIELDS = (
    "system", "metric", "class", "extractor", "value", "low", "high", "debiased", "floor", "floor_clips", "n_clips", "n_rows",
    "caution", "passport",
)  # fmt: skip

SIGNS = {
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$", "<": "$<$", "†": r"$\dagger$", "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip
SHOWN = 5  # near-copies named in the terminal; the JSON has all


def show(evaluations: Mapping[str, Evaluation], console: Console) -> None:
    """Print the table, how the second system compares with the first, what to keep in mind, and of two systems a verdict."""
    first, *others = evaluations
    passport = evaluations[first].passport
    protocol, count = passport["protocol"], passport["target"]["n_clips"]
    sizes = f"{passport['n_generated']} clips each" if others else f"{passport['n_generated']} clips"
    if passport.get("num_candidates", 1) > 1:
        sizes = f"{passport['num_candidates']} times {sizes}, values are means,"
    title = f"protocol {protocol['name']} v{protocol['version']}: {sizes} against {count} recordings"
    console.print(escape(title), highlight=False)
    console.print(terminal(evaluations))
    if others:
        console.print(escape(f"{others[0]} against {first}:"), soft_wrap=True, highlight=False)
        verdicts = compare_systems(evaluations[first], evaluations[others[0]])
        for verdict, names in _grouped((name, str(comparison)) for name, comparison in verdicts.items()).items():
            console.print(escape(f"  {', '.join(names)}: {verdict}"), soft_wrap=True, highlight=False)
        both = evaluations[first].scores.keys() & evaluations[others[0]].scores.keys()
        if apart := sorted(both - verdicts.keys()):
            line = f"  {', '.join(apart)}: not compared, each is from what the system's own decoder makes of recordings"
            console.print(escape(line), soft_wrap=True, highlight=False)
    cautions = [
        (name, score.caution) for evaluation in evaluations.values() for name, score in evaluation.scores.items() if score.caution
    ]
    for system, evaluation in evaluations.items():
        for line in _copies(evaluation):
            console.print(f"[red]copies[/] of {escape(system)}: {escape(line)}", soft_wrap=True, highlight=False)
    for caution, names in _grouped(cautions).items():
        console.print(f"[yellow]{escape(', '.join(names))}[/]: {escape(caution)}", soft_wrap=True, highlight=False)
    missing = [
        (system, (", ".join(names), reason))
        for system, evaluation in evaluations.items()
        for reason, names in _grouped((name, str(error)) for name, error in evaluation.not_computed.items()).items()
    ]
    for (names, reason), systems in _grouped(missing).items():
        remark = escape(f"{', '.join(systems)}: {reason}")
        console.print(f"[yellow]{escape(names)}[/] not computed for {remark}", soft_wrap=True, highlight=False)
    if others and verdicts:
        console.print(f"[bold]{escape(_verdict(evaluations, others[0], verdicts))}[/]", soft_wrap=True, highlight=False)


def _verdict(evaluations: Mapping[str, Evaluation], second: str, comparisons: Mapping[str, Comparison]) -> str:
    """What the protocol's first metric says of the second system, in one sentence with its evidence."""
    (first, *_), (metric, comparison) = evaluations, next(iter(comparisons.items()))
    before, after = (number(evaluations[system].scores[metric].value) for system in (first, second))
    claim = f"{second} is {comparison.verdict} than {first}"
    if comparison.verdict == "cannot tell":
        claim = f"cannot tell whether {second} is better than {first}"
    if comparison.interval is None:
        return f"Verdict: {claim}: {metric} {before} and {after}, without interval at so few clips."
    low, high = comparison.interval
    evidence = f"{metric} {before} and {after}, difference {number(comparison.difference)} [{number(low)}, {number(high)}]"
    needed = f"; about {comparison.clips_needed:,} clips would tell" if comparison.clips_needed else ""
    return f"Verdict: {claim}: {evidence}{needed}."


def _copies(evaluation: Evaluation) -> list[str]:
    """The closest near-copies of training clips, in words."""
    near = evaluation.suspected_copies
    return [f"'{clip}' is a near-copy of '{other}' (similarity {value:.2f})" for clip, other, value, *_ in near[:SHOWN]]


def _grouped(remarks: Iterable[tuple[str, Any]]) -> dict[Any, dict[str, None]]:
    """Names, each once, by what is remarked of them."""
    groups: dict[Any, dict[str, None]] = defaultdict(dict)
    for name, remark in remarks:
        groups[remark][name] = None
    return groups


def _metrics(evaluations: Mapping[str, Evaluation]) -> dict[str, Score]:
    """Every metric that any system has, with the first score of it."""
    scores: dict[str, Score] = {}
    for evaluation in evaluations.values():
        for name, score in evaluation.scores.items():
            scores.setdefault(name, score)
    return scores


def terminal(evaluations: Mapping[str, Evaluation]) -> Table:
    """A row for every metric and system, and one for recordings against recordings where the metric is a distance."""
    check_comparable({name: evaluation.passport for name, evaluation in evaluations.items()})
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("metric", no_wrap=True)
    table.add_column("system", overflow="fold")  # a long name is broken before a figure is cut
    for column in ("value", "95 % interval", "debiased"):
        table.add_column(column, justify="right", no_wrap=True)
    # Two metrics of one value, such as a Frechet distance on clips and on blocks as long as the clips, are one row.
    for (arrow, extractor, *rows), names in _grouped((name, _rows(evaluations, name)) for name in _metrics(evaluations)).items():
        below = [f"[dim]{escape(extractor)}[/]"] if extractor and extractor not in names else []
        for head, row in zip_longest([escape(f"{', '.join(names)}{arrow}"), *below], rows, fillvalue=""):
            table.add_row(head, *row)
        table.add_section()
    return table


def _rows(evaluations: Mapping[str, Evaluation], metric: str) -> tuple[Any, ...]:
    """A metric's arrow, extractor, and row of every system and of the floor."""
    systems = {system: evaluation.scores[metric] for system, evaluation in evaluations.items() if metric in evaluation.scores}
    first = next(iter(systems.values()))
    rows: list[tuple[str, ...]] = [(escape(system), *_cells(score)) for system, score in systems.items()]
    if first.floor.num_clips:
        count = first.floor.num_clips
        rows.append((f"[dim]recordings, {count} v {count}[/]", f"[dim]{number(first.floor.value)}[/]"))
    return {True: " ↑", False: " ↓", None: ""}[first.higher_is_better], first.extractor, *rows


def _cells(score: Score) -> tuple[str, str, str]:
    """Value, interval and debiased value."""
    debiased = "" if score.debiased is None else number(score.debiased)
    return number(score.value), escape(_interval(score)), debiased


def _interval(score: Score) -> str:
    return "" if score.interval is None else f"[{number(score.interval[0])}, {number(score.interval[1])}]"


def to_csv(evaluations: Mapping[str, Evaluation]) -> str:
    """One line a system, metric and class."""
    check_comparable({name: evaluation.passport for name, evaluation in evaluations.items()})
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    for system, evaluation in evaluations.items():
        for metric, score in evaluation.scores.items():
            shared = {"system": system, "metric": metric, "passport": evaluation.passport["sha256"]}
            writer.writerow(_cellwise({**shared, **_row(score)}))
            apart = {name: part for name, part in score.classes.items() if isinstance(part, Score)}
            writer.writerows(_cellwise({**shared, "class": name, **_row(part)}) for name, part in apart.items())
    return text.getvalue()


def _cellwise(row: Mapping[str, object]) -> dict[str, object]:
    return {name: to_cell(value) if isinstance(value, str) else value for name, value in row.items()}


def to_latex(evaluations: Mapping[str, Evaluation]) -> str:
    """A booktabs table, one row a system, the intervals beneath the values; the passport stands in a comment."""
    check_comparable({name: evaluation.passport for name, evaluation in evaluations.items()})
    passport, metrics = next(iter(evaluations.values())).passport, _metrics(evaluations)
    arrows = {True: r"$\uparrow$", False: r"$\downarrow$", None: ""}
    heads = [f"{name.replace('_', ' ').upper()} {arrows[score.higher_is_better]}" for name, score in metrics.items()]
    lines = [
        f"% passport {passport['sha256']}, {passport['n_generated']} clips; needs \\usepackage{{booktabs}}",
        rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
        r"\toprule",
        " & ".join(["", *heads]) + r" \\",
        r"\midrule",
    ]
    for system, evaluation in evaluations.items():
        present = [evaluation.scores.get(name) for name in metrics]
        values = ["--" if score is None else number(score.value) for score in present]
        spans = [_interval(score) if score else "" for score in present]
        below = [span and rf"{{\scriptsize {span}}}" for span in spans]
        lines += [" & ".join([latex_text(system), *values]) + r" \\", " & ".join(["", *below]) + r" \\"]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _row(score: Score) -> dict[str, object]:
    low, high = score.interval or ("", "")
    figures = {name: value for name, value in score.as_dict().items() if name in FIELDS}
    return {**figures, "low": low, "high": high}


def latex_text(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(f"\\{letter}" if letter in "&%$#_{}" else SIGNS.get(letter, letter) for letter in text)


def number(value: float) -> str:
    """Three significant digits, with an exponent only below 0.0001; rounding errors are 0."""
    if abs(value) < 1e-9:
        return "0"
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
