"""The ranges of a search, and points drawn from them."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audioldm_lit.ablation.grid import FIT, Trial, is_file
from audioldm_lit.errors import InputError

DIGITS = 4  # of a number that is drawn: as many as its level shows
KEYS = ("runs", "seed", "ranges", "sampler", "pruner")
KINDS = ("uniform", "log_uniform", "choice")


@dataclass(frozen=True)
class Span:
    """Numbers from `low` to `high`, whole ones where both bounds are; if `log`, every factor is as likely as any other."""

    key: str
    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def points(self) -> float:
        """How many there are to draw."""
        return self.high - self.low + 1 if self.whole else math.inf

    def draw(self, rng: np.random.Generator) -> float:
        """A number at random."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        drawn = math.exp(rng.uniform(math.log(low), math.log(high))) if self.log else rng.uniform(low, high)
        return self.shown(drawn)

    def shown(self, drawn: float) -> float:
        """What a run gets: the number rounded as its level shows it, within the bounds."""
        rounded = round(drawn) if self.whole else float(f"{drawn:.{DIGITS}g}")
        return min(max(rounded, self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values, by the names that they have as levels."""

    key: str
    values: Mapping[str, Any]

    @property
    def points(self) -> float:
        """How many there are to draw."""
        return len(self.values)

    def draw(self, rng: np.random.Generator) -> str:
        """The name of a value at random."""
        return list(self.values)[rng.integers(len(self.values))]


Range = Span | Choice
Point = Mapping[str, Any]  # by range, the number or the name of a choice


@dataclass(frozen=True)
class Search:
    """Ranges by name, and how runs are drawn from them.

    Attributes:
        runs: How many points are drawn.
        seed: What they depend on.
        ranges: What is drawn, by name.
        sampler: Class of Optuna that draws, each point in the light of those before; None for points at random.
        pruner: Class of Optuna that gives up a run by its checks; None for none.
    """

    runs: int
    seed: int
    ranges: Mapping[str, Range]
    sampler: Any = None
    pruner: Any = None

    def at_random(self) -> Iterator[Point]:
        """As many different points as there are runs; each depends on seed and number alone, so that more runs keep the first."""
        seen: list[Point] = []
        number = 0
        while len(seen) < self.runs:
            rng = np.random.default_rng([self.seed, number])
            point = {name: one.draw(rng) for name, one in self.ranges.items()}
            number += 1
            if point not in seen:
                seen.append(point)
                yield point

    def trial(self, trial: Trial, point: Point) -> Trial:
        """A trial at a point."""
        levels, settings = {}, {}
        for name, one in self.ranges.items():
            drawn = point[name]
            levels[name] = drawn if isinstance(one, Choice) else f"{drawn:.{DIGITS}g}" if isinstance(drawn, float) else str(drawn)
            settings[one.key] = one.values[drawn] if isinstance(one, Choice) else drawn
        return replace(trial, levels={**trial.levels, **levels}, settings={**trial.settings, **settings})


def read_search(content: Any, where: str, checked: Callable[[Mapping[str, Any], str], Mapping[str, Any]]) -> Search | None:
    """The `search` of a grid's file, or None where it has none.

    Args:
        content: What stands there.
        where: File and key, for errors.
        checked: Looks for the files that settings name.

    Raises:
        InputError: If it is wrong, empty, or has fewer points than runs.
    """
    if content is None:
        return None
    if not isinstance(content, Mapping) or not isinstance(ranges := content.get("ranges"), Mapping) or not ranges:
        raise InputError(where, "has no ranges", "name one at least, such as `ranges: {lr: {KEY: {log_uniform: [1e-5, 1e-2]}}}`")
    unknown = [str(key) for key in content if key not in KEYS]
    if unknown:
        raise InputError(where, f"has the unknown key '{unknown[0]}'", f"use {', '.join(KEYS)}")
    runs, seed = _count(content.get("runs"), 1, f"{where}.runs"), _count(content.get("seed", 0), 0, f"{where}.seed")
    read = {str(name): _range(one, f"{where}.ranges.{name}", checked) for name, one in ranges.items()}
    points = math.prod(one.points for one in read.values())
    if points < runs:
        raise InputError(where, f"has {points} points for {runs} runs", "write it as axes, widen it or lower runs")
    if content.get("pruner") and not content.get("sampler"):
        raise InputError(where, "has a pruner and no sampler", "name one, such as `sampler: optuna.samplers.RandomSampler`")
    return Search(runs, seed, read, content.get("sampler"), content.get("pruner"))


def _count(number: Any, least: int, where: str) -> int:
    if type(number) is not int or number < least:
        raise InputError(where, f"is {number}", f"give a whole number from {least} on")
    return number


def _range(content: Any, where: str, checked: Callable[[Mapping[str, Any], str], Mapping[str, Any]]) -> Range:
    """One range, `{KEY: {KIND: [...]}}`."""
    inner = next(iter(content.values())) if isinstance(content, Mapping) and len(content) == 1 else None
    if not isinstance(inner, Mapping) or len(inner) != 1 or (kind := next(iter(inner))) not in KINDS:
        raise InputError(where, "is no range", f"give one setting and one of {', '.join(KINDS)}, as {{KEY: {{uniform: [0, 0.5]}}}}")
    key, values = str(next(iter(content))), inner[kind]
    if key == FIT or not isinstance(values, list) or len(values) < 2:
        raise InputError(where, f"has fewer than two values of a setting in {kind}", "give the bounds, or what to choose from")
    if kind == "choice":
        named = [Path(value).stem if is_file(value) else str(value) for value in values]
        twice = next((name for name in named if named.count(name) > 1), None)
        if twice is not None:
            raise InputError(where, f"has '{twice}' twice", "name each choice once")
        return Choice(key, {name: checked({key: value}, where)[key] for name, value in zip(named, values, strict=True)})
    numbers = len(values) == 2 and all(type(value) in (int, float) and math.isfinite(value) for value in values)
    if not numbers or not values[0] < values[1] or (kind == "log_uniform" and values[0] <= 0):
        above = ", both above 0" if kind == "log_uniform" else ""
        raise InputError(where, f"is {kind} {values}", f"give a lower and a higher number{above}")
    return Span(key, values[0], values[1], log=kind == "log_uniform")
