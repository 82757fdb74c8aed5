"""A check in sentences, as it is printed."""

from collections.abc import Iterator

from audioldm_lit.watching.contest import Contest
from audioldm_lit.watching.drift import Drift
from audioldm_lit.watching.history import Check

NAMED = 5  # recordings in a sentence; the history has all


def lines(check: Check) -> Iterator[str]:
    """What was found, the decision last."""
    yield from _drift(check.drift)
    if check.contest is None:
        yield "Decision: keep the champion, as there is no challenger."
        return
    yield _contest(check.contest)
    yield f"Decision: {'promote the challenger' if check.promoted else 'keep the champion'}."


def _drift(found: Drift) -> Iterator[str]:
    if found.distance is None:
        yield f"{found.recordings} new recordings; their distance is not known: {found.no_distance}."
    else:
        beside = "" if found.distance.held_out is None else f", that of held-out recordings {found.distance.held_out:.3g}"
        value = f"{found.distance.metric} {found.distance.value:.3g}{_span(found.distance.interval)}"
        yield f"{found.recordings} new recordings: {value} from what was trained on{beside}: {found.distance.verdict}."
    if found.new_classes:
        yield f"New classes: {', '.join(f'{name} ({count})' for name, count in found.new_classes.items())}."
    if found.unlike:
        named = [f"{one.clip} ({one.what} {_measured(one.what, one.value)}, in training {_measured(one.what, one.low)} to "
                 f"{_measured(one.what, one.high)})" for one in found.unlike[:NAMED]]  # fmt: skip
        more = f" and {len(found.unlike) - NAMED} more" if len(found.unlike) > NAMED else ""
        yield f"Of another microphone or level, by what was measured: {', '.join(named)}{more}."
    for sentence in found.not_read:
        yield f"Left out: {sentence}"


def _contest(result: Contest) -> str:
    others = [f"{word} in {', '.join(names)}" for word, names in (("better", result.better), ("worse", result.worse)) if names]
    beside = f"; {' and '.join(others)}" if others else ""
    values = f"{result.metric} {result.champion:.3g} and {result.challenger:.3g}"
    difference = f"difference {result.difference:+.3g}{_span(result.interval)}"
    return f"Champion and challenger on {result.clips} held-out recordings: {values}, {difference}: {result.verdict}{beside}."


def _span(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" [{interval[0]:.3g}, {interval[1]:.3g}]"


def _measured(what: str, value: float) -> str:
    return f"{value / 1000:.1f} kHz" if what == "bandwidth" else f"{value:.0f} dB"
