"""An open audio file, whatever decodes it."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from audioldm_lit.errors import InputError

BLOCK = 2**20  # samples of all channels together that are read at once: 4 MB
RATES = 1_000, 1_000_000  # Hz; beyond them no recording was ever made, so the header is damaged
LEVEL = 1e12  # beyond it, samples in float32 overflow where channels are added
LONGEST = 8 * 3600.0  # seconds; a longer one costs minutes each time it is read
UNFOLDED = 2**27  # samples of all channels, of which any file may hold as many: 7 s of computing to cut a clip from
DENSEST = 128  # samples for a byte in larger files; speech at 6 kbit/s has 64, digital silence in FLAC 300 and more

Span = tuple[float, float]  # seconds of a start and an end


class Recording(ABC):
    """An audio file that is read onwards, in pieces; each way in which it can be broken is an error of one sentence.

    Args:
        path: The file, for messages.
        sample_rate: Hz.
        channels: Number of channels.
        seconds: How long it is as far as its header says; None where that is only known once it is read.
        subtype: libsndfile's name of the sample format; empty where samples lie on no steps of a known size.

    Attributes:
        position: Samples of each channel that were read so far.

    Raises:
        InputError: If no recording has such a rate, it is too long, or unfolds from almost nothing.
    """

    def __init__(self, path: Path, sample_rate: int, channels: int, seconds: float | None, subtype: str) -> None:
        if not RATES[0] <= sample_rate <= RATES[1]:
            raise InputError(path, f"states a sample rate of {sample_rate:,} Hz, which no recording has", "export it again")
        self.path = path
        self.sample_rate = sample_rate
        self.channels = channels
        self.seconds = seconds
        self.subtype = subtype
        self.position = 0
        self._check_length(seconds or 0.0)

    def read(self, num_frames: int) -> NDArray[np.float32]:
        """The next samples (T, C); fewer than asked for where the file ends, and none at its end.

        Raises:
            InputError: If they cannot be decoded or are not finite.
        """
        samples = self.decode(num_frames)
        if len(samples) and not (samples.min() > -LEVEL and samples.max() < LEVEL):  # NaN is neither
            raise InputError(self.path, "holds NaN or infinite samples", "export it again as PCM")
        self.position += len(samples)
        self._check_length(self.position / self.sample_rate)  # whatever its header says
        return samples

    def _check_length(self, seconds: float) -> None:
        """Refuse what would cost minutes each time it is read, and small files that unfold to gigabytes."""
        if seconds > LONGEST:
            raise too_long(self.path, seconds, self.channels)
        samples = seconds * self.sample_rate * self.channels
        if samples > UNFOLDED and samples > DENSEST * (size := self.path.stat().st_size):
            problem = f"unfolds {size:,} bytes to {seconds / 3600:.1f} h in {self.channels} channels, as no recording does"
            raise InputError(self.path, problem, "leave it out, or cut what sounds from it")

    def pieces(self, span: Span | None = None, num_frames: int | None = None) -> Iterator[NDArray[np.float32]]:
        """What is left, or what lies in a span, in pieces (T, C).

        Args:
            span: Seconds of its start and end, not before what was read already.
            num_frames: Length of all but the last piece; by default such that it takes 4 MB.

        Raises:
            InputError: If it cannot be decoded, is not finite, ends before its header says, or there is nothing at all.
        """
        size = num_frames or max(1, BLOCK // self.channels)
        start, stop = (round(second * self.sample_rate) for second in span) if span else (0, sys.maxsize)
        self.skip_to(start)
        while self.position < stop and len(samples := self.read(min(size, stop - self.position))):
            yield samples
        if self.position <= start:
            raise InputError(
                self.path, f"holds no samples{f' from {span[0]:g} s on' if span else ''}", "remove it or record it again"
            )
        if self.position < stop:
            self.check_whole()

    def skip_to(self, position: int) -> None:
        """Go on to a later sample; a file that ends before is at its end then."""
        while self.position < position and len(self.read(min(BLOCK // self.channels, position - self.position))):
            pass

    @abstractmethod
    def decode(self, num_frames: int) -> NDArray[np.float32]:
        """The next samples (T, C), at most so many."""

    @abstractmethod
    def check_whole(self) -> None:
        """Refuse a file at whose end fewer samples were read than its own header says, as after an interrupted copy."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def too_long(path: Path, seconds: float, channels: int) -> InputError:
    """The error for a recording that is too long to be read."""
    return InputError(path, f"lasts {seconds / 3600:.1f} h in {channels} channels, too long for a clip", "cut it into pieces")


class UnknownFormatError(InputError):
    """A file that a decoder does not know, or in which it finds nothing that it can decode."""


def unknown_format(path: Path, reason: str) -> UnknownFormatError:
    """The error for a file that cannot be decoded."""
    return UnknownFormatError(path, f"cannot be read as audio ({reason})", "remove it or convert it to WAV or FLAC")
