"""What listeners said, as it is printed."""

from rich.console import Console
from rich.table import Table

from audioldm_lit.console.markup import escape
from audioldm_lit.evaluation.opinion import Opinion


def show(said: Opinion, console: Console) -> None:
    """Print ratings, pairs of systems, agreement, metrics, and who was left out."""
    console.print(escape(f"{said.title}: {len(said.raters)} raters, {len(said.left_out)} left out"), highlight=False)
    _print(console, ("question", "system", "mean", "95 % interval"), [
        (one.question, one.system, f"{one.value:.3g}", _span(one.low, one.high)) for one in said.means
    ])  # fmt: skip
    _print(console, ("question", "pair", "difference", "95 % interval", "verdict of the second"), [
        (one.question, f"{one.second} - {one.first}", f"{one.difference:+.3g}", _span(one.low, one.high), one.verdict)
        for one in said.preferences
    ])  # fmt: skip
    known = {name: value for name, value in said.alpha.items() if value is not None}
    if known:
        alphas = ", ".join(f"{name} {value:.2f}" for name, value in known.items())
        console.print(escape(f"Krippendorff's alpha: {alphas}"), soft_wrap=True, highlight=False)
    if said.metrics:
        _print(console, ("metric", "rank correlation with the raters", "95 % interval", "verdict"), [
            (one.metric, f"{one.correlation:+.2f}", _span(one.low, one.high), one.verdict) for one in said.metrics
        ])  # fmt: skip
    for name, reason in [*said.not_compared.items(), *((f"left out: {rater}", why) for rater, why in said.left_out.items())]:
        console.print(escape(f"{name}: {reason}"), soft_wrap=True, highlight=False)
    for one in said.preferences:
        if one.question == said.main:
            verdict = f"is {one.verdict}" if one.verdict != "cannot tell" else "cannot be told from it"
            sentence = f"Verdict of the listeners: {one.second} against {one.first}: {verdict}, by {one.question}."
            console.print(escape(sentence), soft_wrap=True, highlight=False)


def _print(console: Console, titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, title in enumerate(titles):
        table.add_column(title, justify="left" if place < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    if rows:
        console.print(table, highlight=False)
        console.print()


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.3g}, {high:.3g}]"
