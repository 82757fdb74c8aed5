"""What is wrong with one clip, as far as measuring it can tell, and what to do about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audioldm_lit.data.clips import Clip, Split
from audioldm_lit.errors import InputError
from audioldm_lit.health.measure import Measurement

Severity = Literal["error", "warning", "note"]  # stops training or spoils its scores; may spoil the sound; is good to know

MOSTLY = 0.8  # share of silence from which on a clip teaches silence
OFFSET = 0.01  # of full scale
SHORT = 0.1  # seconds: ten frames of the log-mel
HEARD_SHARE = 0.8  # of the band a model hears
NOMINAL_SHARE = 0.6  # of the band a file's rate allows; codecs that keep 16 of 22 kHz are no finding


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one clip, several, or the whole data set: the fields of an `InputError`, and whom it concerns.

    Attributes:
        kind: What it is, in a word or two: findings of one kind are shown together.
        severity: `error`, `warning` or `note`.
        where: File, line of a table, or part of the data set.
        problem: What was found there.
        mend: What to do about it.
        clips: Ids it is about.
        drop: Those that a cleaned manifest leaves out.
        files: Audio files of the clips.
    """

    kind: str
    severity: Severity
    where: str
    problem: str
    mend: str
    clips: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """The problem, behind the name of the first audio file where the place is a line of a table and neither names it."""
        if not self.files or Path(self.files[0]).name in f"{self.where} {self.problem}" or ", line " not in self.where:
            return self.problem
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return f"{self.files[0]}{more}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Examined:
    """A clip and the result of reading it: a measurement, or the error."""

    clip: Clip
    split: Split
    measurement: Measurement | None
    error: InputError | None = None

    @property
    def measured(self) -> Measurement:
        """The measurement of a clip that could be read."""
        assert self.measurement is not None
        return self.measurement


def clip_findings(item: Examined, sample_rate: int) -> Iterator[Finding]:
    """What is wrong with a clip by itself; `sample_rate` in Hz is the model's."""
    clip, measured = item.clip, item.measurement
    ids = (clip.id,)
    if measured is None:
        assert item.error is not None
        error = clip.error(item.error.problem, item.error.mend)
        yield Finding("unreadable", "error", error.where, error.problem, error.mend, ids, drop=ids)
        return
    if measured.silent_share == 1:
        problem = f"as mono and without its offset, nothing reaches -60 dB of full scale; its peak is {measured.peak:.1g}"
        yield Finding("silent", "error", clip.where, problem, "record it again", ids, drop=ids)
        return
    if measured.silent_share > MOSTLY:
        problem = f"{measured.silent_share:.0%} of its {measured.duration:.1f} s are silent"
        yield Finding("mostly silent", "warning", clip.where, problem, "trim it", ids)
    if measured.clipped:
        yield Finding("clipped", "warning", clip.where, "stays at full scale", "record it at a lower level", ids)
    if abs(measured.offset) > OFFSET:
        problem = f"sits {measured.offset:+.3f} off zero"
        yield Finding("constant offset", "note", clip.where, problem, "nothing: it is taken away when the clip is read", ids)
    if measured.channel is not None:
        problem = f"its channels are of opposite polarity and cancel each other, so channel {measured.channel + 1} alone is taken"
        yield Finding("opposite polarity", "note", clip.where, problem, "nothing; or turn one channel over", ids)
    if measured.duration < SHORT:
        yield Finding("very short", "warning", clip.where, f"{1000 * measured.duration:.0f} ms", "leave it out", ids)
    yield from _narrow(clip, measured, sample_rate)


def _narrow(clip: Clip, measured: Measurement, sample_rate: int) -> Iterator[Finding]:
    nominal, heard = measured.sample_rate / 2, sample_rate / 2
    problem = f"reaches {measured.bandwidth / 1000:.1f} of {nominal / 1000:.1f} kHz"
    if measured.bandwidth < HEARD_SHARE * min(heard, nominal) or nominal < HEARD_SHARE * heard:
        mend = f"find the original: the model hears up to {heard / 1000:g} kHz and would learn that it sounds dull"
        yield Finding("dull", "warning", clip.where, problem, mend, (clip.id,))
    elif measured.bandwidth < NOMINAL_SHARE * nominal:
        mend = f"nothing: the model hears up to {heard / 1000:g} kHz only"
        yield Finding("less than its rate says", "note", clip.where, problem, mend, (clip.id,))
