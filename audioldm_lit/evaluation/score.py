"""Scores as people and programs read them, and the comparison of two."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.base import ClipMetric, Rows
from audioldm_lit.metrics.estimate import MIN_CLIPS, Estimate, bootstrap_t

FLOOR_SPLITS = 5
Finding = Literal["better", "worse", "cannot tell", "higher", "lower"]
POWER = ((1.960 + 0.842) / 1.960) ** 2  # an interval as wide as the difference would tell every second time only
TESTED = 15  # clips from which on the intervals' coverage is tested


@dataclass(frozen=True)
class Floor:
    """The distance between sets of one kind, which is due to sample size alone.

    Attributes:
        value: Mean over random splits of the reference into two parts that share no clip.
        excess: By how much the same number of generated clips exceeds it; the sample-size bias of both cancels.
        num_clips: Clips in either part: as many as were generated, or half the reference. 0 where that is too few.
    """

    value: float = 0.0
    excess: float = 0.0
    num_clips: int = 0


@dataclass(frozen=True, eq=False)
class Score:
    """A value with its interval and everything needed to read it.

    Attributes:
        estimate: The value and the clips' influence on it.
        sides: The rows of each of the metric's sides.
        side_names: `preds`, `target` ...
        higher_is_better: Which way is better.
        extractor: The extractor whose features it was computed on.
        interval: 95 % over clips; None where none would cover.
        floor: Recordings against recordings, for distances.
        classes: Score of every class, without floor, or why it has none.
        caution: What to keep in mind, in one sentence.
    """

    estimate: Estimate
    sides: list[Rows]
    side_names: tuple[str, ...]
    higher_is_better: bool | None
    extractor: str
    interval: tuple[float, float] | None
    floor: Floor = Floor()
    classes: dict[str, "Score | InputError"] = field(default_factory=dict)
    caution: str = ""

    @property
    def value(self) -> float:
        """The metric as the field defines it."""
        return self.estimate.value

    @property
    def debiased(self) -> float | None:
        """The value without its sample-size bias: by the metric's own correction, of too few clips its excess over the floor."""
        if self.estimate.debiased is None and not self.estimate.covers and self.floor.num_clips:
            return self.floor.excess
        return self.estimate.debiased

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        figures: dict[str, Any] = {
            "value": self.value,
            "interval": self.interval and list(self.interval),
            "n_clips": self.sides[0].num_clips,
            "n_rows": len(self.sides[0].values),
            "sides": list(self.side_names),
            "extractor": self.extractor,
            "higher_is_better": self.higher_is_better,
        }
        for name, side in zip(self.side_names, self.sides, strict=True):
            if name in ("target", "reconstructed"):
                figures["n_reference"] = side.num_clips
        if self.debiased is not None:
            figures["debiased"] = self.debiased
        if self.floor.num_clips:
            figures |= {"floor": self.floor.value, "floor_clips": self.floor.num_clips}
        if self.estimate.details:
            figures["details"] = self.estimate.details
        if self.caution:
            figures["caution"] = self.caution
        if self.classes:
            figures["classes"] = {
                name: {"not_computed": vars(result)} if isinstance(result, InputError) else result.as_dict()
                for name, result in self.classes.items()
            }
        return figures


def score(metric: ClipMetric, seed: int = 0, classes: Mapping[str, Sequence[str]] | None = None) -> Score:
    """Score what a metric has gathered; all processes must call it and all get the same.

    Args:
        metric: Updated with every clip.
        seed: Of the resampling and of the floor's splits.
        classes: Names of the clips of every class, which is scored by itself; one that is too small gets the reason instead.

    Raises:
        InputError: If there are too few clips.
    """
    sides = metric.gathered()
    if min(side.num_clips for name, side in zip(metric.sides, sides, strict=True) if name != "train") < 2:
        raise InputError(type(metric).__name__, "needs at least 2 clips on every side", "give more")
    whole = _scored(metric, sides, seed)
    floor = _floor(metric, seed, *sides) if metric.floor else Floor()
    apart: dict[str, Score | InputError] = {}
    for name, clips in (classes or {}).items():
        try:
            apart[name] = _scored(metric, _of_class(metric, sides, clips), seed)
        except InputError as error:
            apart[name] = error.with_traceback(None)  # which holds the rows
    return replace(whole, floor=floor, classes=apart)


def _scored(metric: ClipMetric, sides: list[Rows], seed: int) -> Score:
    estimate = metric.measure(*sides)
    if not isinstance(estimate, Estimate):
        given = f"measures a {type(estimate).__name__}, which has no interval"
        raise InputError(type(metric).__name__, given, "return an Estimate, such as Estimate.of_mean(values)")
    interval = estimate.interval(seed)
    count = min((len(side) for side in estimate.influence if len(side)), default=sides[0].num_clips)
    caution = estimate.caution
    if not caution and interval is None:
        reason = "too few clips" if count < MIN_CLIPS else "the bias correction leaves the possible values"
        caution = f"no interval: {reason}"
    elif not caution and count < TESTED:
        caution = f"{count} clips; intervals are tested from {TESTED} clips on"
    extractor = metric.extractor.name if metric.extractor is not None else ""
    return Score(estimate, sides, metric.sides, metric.higher_is_better, extractor, interval, caution=caution)


def _of_class(metric: ClipMetric, sides: list[Rows], clips: Sequence[str]) -> list[Rows]:
    # A clip may be a copy of any training clip, whatever its class.
    parts = [side if name == "train" else side.named(clips) for name, side in zip(metric.sides, sides, strict=True)]
    for name, part in zip(metric.sides, parts, strict=True):
        if part.num_clips < 2 and name != "train":
            raise InputError(f"`{name}`", f"{part.num_clips} clips are of this class", "give at least 2")
    return parts


def _floor(metric: ClipMetric, seed: int, preds: Rows, target: Rows) -> Floor:
    """Value and excess at equal counts, means over random parts."""
    count = min(preds.num_clips, target.num_clips // 2)
    if count < 2:
        return Floor()
    floor = ours = 0.0
    for split in range(FLOOR_SPLITS):
        generator = seeding.generator(seed, "floor", split)
        real = torch.randperm(target.num_clips, generator=generator).to(target.ids.device)
        made = torch.randperm(preds.num_clips, generator=generator).to(preds.ids.device)
        half, other_half = target.take(real[:count]), target.take(real[count : 2 * count])
        floor += metric.value(half, other_half) / FLOOR_SPLITS
        ours += metric.value(preds.take(made[:count]), other_half) / FLOOR_SPLITS
    return Floor(floor, ours - floor, count)


@dataclass(frozen=True)
class Comparison:
    """How a second system differs from a first.

    Attributes:
        verdict: `better`, `worse` or `cannot tell`, of the second; `higher` or `lower` where neither direction is better.
        difference: Second minus first, of the values that the intervals are around; of their logarithms where those are.
        interval: Its 95 % interval over clips.
        clips_needed: About how many clips would tell, four times in five, if the difference is what it seems.
    """

    verdict: Finding
    difference: float
    interval: tuple[float, float] | None
    clips_needed: int | None = None

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.verdict}, this metric has no interval at so few clips"
        if self.clips_needed is None:
            return self.verdict
        return f"{self.verdict}, would need about {self.clips_needed:,} clips"


def compare(first: Score, second: Score, seed: int = 0) -> Comparison:
    """Compare two systems against the same reference; clips of equal ids are paired, the reference's always are."""
    difference = second.estimate.centre - first.estimate.centre
    clips = min(first.sides[0].num_clips, second.sides[0].num_clips)
    span = None
    if first.estimate.covers and second.estimate.covers:
        span = bootstrap_t(_difference(first, second), seed)
    if span is None:
        return Comparison("cannot tell", difference, None)
    low, high = difference - span[1], difference - span[0]
    if low <= 0 <= high:
        needed = math.ceil(POWER * clips * ((high - low) / 2 / difference) ** 2) if difference else None
        return Comparison("cannot tell", difference, (low, high), needed)
    if first.higher_is_better is None:
        return Comparison("higher" if difference > 0 else "lower", difference, (low, high))
    improved = (difference > 0) == first.higher_is_better
    return Comparison("better" if improved else "worse", difference, (low, high))


def _difference(first: Score, second: Score) -> list[Tensor]:
    """Influence on the difference, paired where both systems have the same clips."""
    influence = []
    for number, pair in enumerate(zip(first.estimate.influence, second.estimate.influence, strict=True)):
        of_first, of_second = pair
        if torch.equal(first.sides[number].ids, second.sides[number].ids) and len(of_first) == len(of_second):
            influence.append(of_second - of_first)
        else:
            influence += [-of_first, of_second]
    return influence
