"""The state of a grid on the terminal."""

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table

from audioldm_lit.ablation.runner import Runner
from audioldm_lit.ablation.trial_folder import State
from audioldm_lit.console.markup import escape
from audioldm_lit.console.stages import duration


def board(runner: Runner) -> RenderableType:
    """How far the grid is, what runs now, and what failed."""
    given_up = runner.given_up
    counts = Counter(State.FAILED if name in given_up else state for name, state in runner.states.items())
    done, total = counts[State.DONE], len(runner.states)
    head = Table.grid(padding=(0, 2))
    flying = len(runner.flights) + len(runner.elsewhere)
    pruned = f", {counts[State.PRUNED]} pruned" if counts[State.PRUNED] else ""
    words = f"{done} of {total} done, {flying} running, {counts[State.FAILED]} failed{pruned}"
    head.add_row(f"[bold]{escape(runner.grid.name)}[/]", ProgressBar(total, done, width=30), words, remaining(runner))
    rows = Table.grid(padding=(0, 2))
    for name, flight in runner.flights.items():
        rows.add_row("", escape(name), escape(runner.folders[name].stage or "starting"), duration(flight.seconds))
    for name, began in runner.elsewhere.items():
        rows.add_row("", escape(name), "in another process", duration(time.monotonic() - began))
    faults = Table.grid(padding=(0, 2))
    for name, reason in given_up.items():
        faults.add_row("", f"[red]{escape(name)}[/]", escape(reason))
    return Group(head, rows, faults)


def remaining(runner: Runner) -> str:
    """Time left at the mean pace so far; nothing before the first run is done."""
    if not runner.seconds:
        return ""
    mean = sum(runner.seconds) / len(runner.seconds)
    waiting = sum(state == State.WAITING for state in runner.states.values()) - len(runner.flights)
    left = [max(0.0, mean - flight.seconds) for flight in runner.flights.values()] + [mean] * max(0, waiting)
    return f"about {duration(in_slots(left, runner.cluster.slots))} left"


def in_slots(seconds: Sequence[float], slots: int) -> float:
    """How long runs that share slots take: their sum over the slots, but at least the longest."""
    return max([sum(seconds) / slots, *seconds])
