"""Whether new recordings are still of the kind that a run was trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from audioldm_lit.console.stages import track
from audioldm_lit.data.clips import Clip, ClipDataset
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.protocol import Protocol
from audioldm_lit.evaluation.recordings import recordings
from audioldm_lit.evaluation.run import Run
from audioldm_lit.evaluation.score import Comparison, Score, compare, score
from audioldm_lit.evaluation.systems import HELD_OUT
from audioldm_lit.health.measure import Measurement, measure

BAND = 0.8  # of the lowest bandwidth in training, below which a recording is of another kind; and its inverse above the highest
LEVEL_DB = 6.0  # beyond the levels in training


@dataclass(frozen=True)
class Unlike:
    """A recording that lies outside of what was trained on: `bandwidth` in Hz or `level` in dB, and the range in training."""

    clip: str
    what: Literal["bandwidth", "level"]
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Distance:
    """How far new recordings are from those that were trained on, beside held-out recordings, which are of one kind with them.

    Attributes:
        metric: Name of the distance, the protocol's first metric.
        value: Of the new recordings; not debiased.
        interval: Its 95 % interval; None at too few.
        held_out: Of the held-out recordings.
        verdict: `drifted` where the interval of the difference of the two lies on one side; else `steady` or `cannot tell`.
    """

    metric: str
    value: float
    interval: tuple[float, float] | None
    held_out: float | None
    verdict: Literal["drifted", "steady", "cannot tell"]


@dataclass(frozen=True)
class Drift:
    """What is new in new recordings.

    Attributes:
        recordings: How many could be read.
        distance: Of all of them, or None.
        no_distance: Why it is None.
        new_classes: Classes that were never trained on, by the number of their recordings.
        unlike: Recordings of another bandwidth or level: another microphone, a telephone, another gain.
        not_read: What is wrong with files that were left out, one sentence each.
    """

    recordings: int
    distance: Distance | None
    no_distance: str = ""
    new_classes: dict[str, int] = field(default_factory=dict)
    unlike: Sequence[Unlike] = ()
    not_read: Sequence[str] = ()

    @property
    def found(self) -> bool:
        """Whether anything is new."""
        return bool(self.new_classes or self.unlike or (self.distance and self.distance.verdict == "drifted"))


def drift(run: Run, new: Sequence[Clip], protocol: Protocol) -> Drift:
    """Compare new recordings with those that a run was trained on.

    Args:
        run: The run.
        new: New recordings; a class is their label, or their caption where they have none.
        protocol: Its first metric is the distance.

    Raises:
        InputError: If no new recording can be read, or the run's own are gone.
    """
    trained = run.data.waveforms("train").clips
    known = {clip.part: measure(*clip.part)[0] for clip in track(trained, "measuring what was trained on", len(trained))}
    read: dict[Clip, Measurement] = {}
    errors: list[InputError] = []
    for clip in track(new, "measuring new recordings", len(new)):
        try:
            read[clip] = measure(*clip.part)[0]
        except InputError as error:
            errors.append(error.with_traceback(None))
    if not read:
        raise errors[0]
    names = {name.casefold() for clip in trained for name in (clip.label, clip.caption) if name}
    new_classes: dict[str, int] = {}
    for clip in read:
        if (name := clip.label or clip.caption) and name.casefold() not in names:
            new_classes[name] = new_classes.get(name, 0) + 1
    unlike = [one for clip, measured in read.items() for one in _unlike(clip, measured, list(known.values()))]
    not_read = [str(error) for error in errors]
    try:
        distance = _distance(run, list(read), protocol)
    except InputError as error:
        return Drift(len(read), None, f"{error.where} {error.problem}", new_classes, unlike, not_read)
    return Drift(len(read), distance, "", new_classes, unlike, not_read)


def _unlike(clip: Clip, measured: Measurement, known: Sequence[Measurement]) -> Iterator[Unlike]:
    """In what a recording lies outside of the range of those in training; silence has neither bandwidth nor level."""
    sounding = [one for one in known if one.silent_share < 1]
    if measured.silent_share == 1 or not sounding:
        return
    low, high = min(one.bandwidth for one in sounding), max(one.bandwidth for one in sounding)
    if not BAND * low <= measured.bandwidth <= high / BAND:
        yield Unlike(clip.id, "bandwidth", measured.bandwidth, low, high)
    low, high = min(one.level_db for one in sounding), max(one.level_db for one in sounding)
    if not low - LEVEL_DB <= measured.level_db <= high + LEVEL_DB:
        yield Unlike(clip.id, "level", measured.level_db, low, high)


def _distance(run: Run, new: Sequence[Clip], protocol: Protocol) -> Distance:
    """The distance of new recordings and that of held-out ones, from the same training recordings.

    Raises:
        InputError: If there are too few.
    """
    data = run.data
    name, metric = next(iter(protocol.metrics.items()))
    alone = Protocol(protocol.name, {name: metric}, protocol.version, protocol.sample_rate, protocol.peak)
    alone.device = protocol.device
    trained = data.waveforms("train")
    held_out = [clip for split in HELD_OUT if split == "val" or data.clips(split) for clip in data.waveforms(split).clips]
    ours = _score(alone, ClipDataset(held_out, data.sample_rate, data.num_samples, data.padding), trained, run.seed)
    theirs = _score(alone, ClipDataset(new, data.sample_rate, data.num_samples, data.padding), trained, run.seed)
    if isinstance(theirs, InputError):
        raise theirs
    if isinstance(ours, InputError):
        return Distance(name, theirs.value, theirs.interval, None, "cannot tell")
    return Distance(name, theirs.value, theirs.interval, ours.value, _verdict(compare(ours, theirs, run.seed)))


def _verdict(of_the_new: Comparison) -> Literal["drifted", "steady", "cannot tell"]:
    if of_the_new.verdict == "worse":
        return "drifted"
    return "steady" if of_the_new.interval else "cannot tell"


def _score(protocol: Protocol, clips: ClipDataset, trained: ClipDataset, seed: int) -> Score | InputError:
    protocol.reset()
    device = protocol.device or torch.device("cpu")
    for side, given in (("preds", clips), ("target", trained)):
        for batch in recordings(given, 0, 1, device):
            protocol.update(**{side: batch})
    try:
        return score(next(iter(protocol.metrics.values())), seed)
    except InputError as error:
        return error.with_traceback(None)
    finally:
        protocol.reset()
