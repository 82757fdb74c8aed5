"""The history of a model in use as one page."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from audioldm_lit.errors import InputError
from audioldm_lit.report.shell import render
from audioldm_lit.report.texts import Texts
from audioldm_lit.watching.history import Check

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 860, 220, 60, 26, 10  # pixels of the curve, and its margins
MOST = 60  # checks of the curve, the latest


def page(checks: Sequence[Check], errors: Sequence[InputError], texts: Texts) -> str:
    """The page as HTML.

    Args:
        checks: The oldest first.
        errors: Lines of the history that are no checks.
        texts: Its language.
    """
    return render(
        "watching/page.html",
        texts,
        styles=("watching/page.css",),
        checks=list(reversed(checks)),
        errors=[str(error) for error in errors],
        curve=_curve(checks[-MOST:]),
        width=WIDTH,
        height=HEIGHT,
    )


def _curve(checks: Sequence[Check]) -> dict[str, Any] | None:
    """Distances with their intervals by check, and those of held-out recordings, in pixels; None for fewer than two."""
    known = [check for check in checks if check.drift.distance is not None]
    if len(known) < 2:
        return None
    distances = [check.drift.distance for check in known if check.drift.distance is not None]
    ends = [end for one in distances for end in (*(one.interval or (one.value,)), one.value, one.held_out or 0.0, 0.0)]
    low, high = min(ends), max(ends)
    scale = (HEIGHT - BOTTOM - TOP) / ((high - low) or 1.0)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) * scale, 1)

    def x(place: int) -> float:
        return round(LEFT + (WIDTH - LEFT - 20) * (place + 0.5) / len(known), 1)

    points = [
        {
            "x": x(place),
            "y": y(one.value),
            "low": y(one.interval[0]) if one.interval else None,
            "high": y(one.interval[1]) if one.interval else None,
            "held_out": None if one.held_out is None else y(one.held_out),
            "drifted": one.verdict == "drifted",
            "label": f"{check.time[:10]}: {one.metric} {one.value:.3g}",
            "day": check.time[5:10],
        }
        for place, (check, one) in enumerate(zip(known, distances, strict=True))
    ]
    ticks = [(y(value), f"{value:.3g}") for value in sorted({low, 0.0, high})]
    lines = [(before["x"], before["y"], after["x"], after["y"]) for before, after in pairwise(points)]
    return {"points": points, "ticks": ticks, "lines": lines, "left": LEFT, "metric": distances[-1].metric}
