"""Charts of a page: SVG by matplotlib in an `<img>`, written in the fonts of the reader; lines differ by dashes too."""

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audioldm_lit.evaluation.score import Score
from audioldm_lit.report.shell import data_uri

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "audioldm_lit", "text.parse_math": False, "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "sans-serif"], "font.size": 11, "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip
DASHES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Chart:
    """A picture.

    Attributes:
        source: As a data URI.
        about: What it shows, for those who do not see it.
    """

    source: str
    about: str


def chart(about: str, draw: Callable[[Axes], None], height: float = 3.2, width: float = 7.5) -> Chart:
    """What `draw` draws into a pair of axes; equal drawings are equal bytes."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's browser has them
        warnings.filterwarnings("ignore", "findfont")
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        return figure_chart(figure, about)


def figure_chart(figure: Figure, about: str) -> Chart:
    """A figure as it is."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Chart(data_uri(file.getvalue(), "image/svg+xml"), about)


def curves(lines: Mapping[str, Mapping[int, float]], zero: str, axes_names: tuple[str, str], about: str) -> Chart:
    """Changes in percent by step, against the line of no change.

    Args:
        lines: By name; each the change by step, 0.1 being ten percent.
        zero: What the line at zero is called.
        axes_names: What the axes are called, steps and change.
        about: What it shows.
    """

    def draw(axes: Axes) -> None:
        axes.axhline(0, color="0.35", linewidth=1)
        last = max((step for line in lines.values() for step in line), default=1)
        axes.annotate(zero, (last, 0), (0, 4), textcoords="offset points", ha="right", color="0.3")
        for number, (name, line) in enumerate(lines.items()):
            steps, changes = [0, *line], [0.0, *(100 * change for change in line.values())]
            axes.plot(steps, changes, DASHES[number % len(DASHES)], marker="o", markersize=4, color=f"C{number}", label=name)
        axes.set(xlabel=axes_names[0], ylabel=axes_names[1])
        if len(lines) > 1:
            axes.legend(frameon=False)

    return chart(about, draw)


def bars(columns: Mapping[str, Mapping[str, float]], axis_name: str, about: str) -> Chart:
    """Shares by name, in percent, a group of bars a name."""

    def draw(axes: Axes) -> None:
        names = list(dict.fromkeys(name for column in columns.values() for name in column))
        width = 0.8 / len(columns)
        hatches = ("", "//", "..", "xx")
        for number, (label, column) in enumerate(columns.items()):
            places = [place + number * width for place in range(len(names))]
            heights = [100 * column.get(name, 0.0) for name in names]
            axes.barh(places, heights, 0.9 * width, color=f"C{number}", hatch=hatches[number % 4], edgecolor="white", label=label)
        axes.set_yticks([place + 0.4 - width / 2 for place in range(len(names))], names)
        axes.invert_yaxis()
        axes.set_xlabel(axis_name)
        if len(columns) > 1:
            axes.legend(frameon=False)

    most = max(len(column) for column in columns.values())
    return chart(about, draw, height=0.8 + 0.28 * most * max(1, len(columns) / 2))


def intervals(scores: Mapping[str, Score], floor: str, axis_name: str, about: str) -> Chart:
    """A metric's value and interval of every system, and where the recordings' own distance lies."""

    def draw(axes: Axes) -> None:
        for place, score in enumerate(scores.values()):
            if score.interval is not None:
                axes.plot(score.interval, [place, place], color="0.35", linewidth=2, solid_capstyle="butt")
            axes.plot([score.value], [place], "o", color=f"C{place}", markersize=7)
        first = next(iter(scores.values()))
        if first.floor.num_clips:
            axes.axvline(first.floor.value, color="0.35", linestyle="--", linewidth=1)
            axes.annotate(
                floor, (first.floor.value, 1), (4, -4), xycoords=("data", "axes fraction"), textcoords="offset points", va="top"
            )
        axes.set_yticks(range(len(scores)), list(scores))
        axes.set(xlabel=axis_name, ylim=(len(scores) - 0.4, -1.0))

    return chart(about, draw, height=0.9 + 0.4 * len(scores))


def steps_of(checks: Mapping[int, Mapping[str, float]], name: str) -> dict[int, float]:
    """One figure of every check that has it, by step."""
    return {step: figures[name] for step, figures in checks.items() if name in figures}


def timesteps(checks: Mapping[int, Mapping[str, float]], base: Sequence[float]) -> dict[str, dict[int, float]]:
    """Change of the loss by step, at each timestep; nothing where the base's losses are not known."""
    names = sorted({name for figures in checks.values() for name in figures if name.startswith("val/loss_t")}, key=_timestep)
    if len(names) != len(base):
        return {}
    lines = zip(names, base, strict=True)
    return {
        f"t = {_timestep(name)}": {step: loss / before - 1 for step, loss in steps_of(checks, name).items()}
        for name, before in lines
    }


def _timestep(name: str) -> int:
    return int(name.removeprefix("val/loss_t"))
