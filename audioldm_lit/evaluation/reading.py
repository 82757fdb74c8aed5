"""Files to clips for scoring: one stated rule for everything that is not a plain mono clip at the protocol's rate."""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from audioldm_lit.audio.channels import mono
from audioldm_lit.audio.decoding import open_audio, read_channels
from audioldm_lit.audio.waveform import resample
from audioldm_lit.console.stages import say
from audioldm_lit.data.clips import Clip
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.extractors.base import AudioBatch

RULES = {
    "stereo": "channels are averaged",
    "opposite polarity": "channels that cancel each other, the one with most energy is taken",
    "resampled": "brought to the protocol's rate",
    "silent": "scored as silence",
    "clipped": "scored as it is",
    "padded": "shorter than an extractor's window, padded with zeros",
    "not audio": "passed over",
    "unlisted": "audio that the list beside it leaves out, passed over",
}
FULL_SCALE = 0.999
RUN = 3  # samples in a row at full scale that make a clip clipped


class Reader:
    """Reads clips and notes which rule each one needed.

    Args:
        sample_rate: The protocol's rate in Hz.
        shortest: Seconds of the longest window of any extractor.
        strict: Refuse what would need a rule.
    """

    def __init__(self, sample_rate: int, shortest: float, strict: bool) -> None:
        self.sample_rate = sample_rate
        self.shortest = shortest
        self.strict = strict
        self.applied: dict[str, list[str]] = defaultdict(list)

    def batch(self, clip: Clip) -> AudioBatch:
        """A clip as a batch of its own, so that its features cannot depend on what it is batched with."""
        return AudioBatch([clip.id], self.read(clip)[None], self.sample_rate, [clip.caption] if clip.caption else None)

    def read(self, clip: Clip) -> Tensor:
        """A clip as mono at the protocol's rate, (T,).

        Raises:
            InputError: If it cannot be read, or needs a rule and `strict` was asked for.
        """
        channels, rate = read_channels(*clip.part)
        samples, channel = mono(channels.T.numpy())
        found = {
            "stereo": len(channels) > 1 and channel is None,
            "opposite polarity": channel is not None,
            "resampled": rate != self.sample_rate,
            "silent": not channels.any(),
            "clipped": is_clipped(channels),
            "padded": channels.shape[1] / rate < self.shortest,
        }
        for rule in (rule for rule, needed in found.items() if needed):
            self.note(rule, str(clip.path))
        return resample(torch.from_numpy(samples), rate, self.sample_rate)

    def note(self, rule: str, path: str) -> None:
        """Note that a file needed a rule."""
        if self.strict:
            raise InputError(path, f"is {rule} ({RULES[rule]})", "mend it, or leave --strict out")
        self.applied[rule].append(path)

    def counts(self) -> dict[str, int]:
        """How many files needed each rule."""
        return {f"{rule}: {RULES[rule]}": len(paths) for rule, paths in sorted(self.applied.items())}


@contextmanager
def all_told(clips: Sequence[Clip]) -> Iterator[None]:
    """Where one of these clips cannot be read, look at all of them and say what is wrong with each before that is refused.

    Raises:
        InputError: If several cannot be read: about the first, with the number of others.
    """
    try:
        yield
    except InputError:
        errors = [error for clip in clips if (error := _unreadable(clip))]
        if len(errors) < 2:
            raise
        for error in errors:
            say(str(error))
        first = errors[0]
        problem = f"{first.problem}, and {len(errors) - 1} of the other {len(clips) - 1} files cannot be read either, see above"
        raise InputError(first.where, problem, first.mend) from None


def _unreadable(clip: Clip) -> InputError | None:
    try:
        with open_audio(clip.path) as recording:
            deque(recording.pieces(), maxlen=0)
    except InputError as error:
        return error
    return None


def is_clipped(channels: Tensor) -> bool:
    """Whether a waveform (C, T) stays at full scale for several samples in a row."""
    full = (channels.abs() >= FULL_SCALE).to(torch.int32)
    return full.shape[1] >= RUN and bool((full.unfold(1, RUN, 1).sum(dim=2) == RUN).any())
