"""How loud a recording is, frame by frame, and what counts as silence."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audioldm_lit.audio.recording import BLOCK
from audioldm_lit.errors import InputError

FRAME = 0.02  # seconds
SILENCE = 1e-3  # amplitude, -60 dB of full scale: frames whose RMS is below are silent
PROBLEM = "is silent: as mono and without its offset, nothing reaches -60 dB of full scale"
MEND = "record it again, or leave it out, as prepare --fix does"


class Loudness:
    """Power of every frame of 20 ms, added up from pieces of whole frames.

    Args:
        sample_rate: Hz.

    Attributes:
        frame: Samples of a frame.
        length: Samples so far.
        total: Their sum.
    """

    def __init__(self, sample_rate: int) -> None:
        self.frame = max(1, round(FRAME * sample_rate))
        self.length = 0
        self.total = 0.0
        self.powers: list[NDArray[np.float64]] = []
        self.means: list[NDArray[np.float64]] = []

    def add(self, mono: NDArray[np.float32]) -> None:
        """Take the next piece (T,)."""
        self.length += len(mono)
        self.total += float(mono.sum(dtype=np.float64))
        self.powers.append(_means(np.square(mono), self.frame))
        self.means.append(_means(mono, self.frame))

    @property
    def offset(self) -> float:
        """Mean amplitude."""
        return self.total / self.length

    def power(self) -> NDArray[np.float64]:
        """Power of every frame (F,), of what remains without the offset."""
        return np.concatenate(self.powers) - 2 * self.offset * np.concatenate(self.means) + self.offset**2

    def level_and_silence(self) -> tuple[float, float]:
        """Level in dB of what sounds, -inf where nothing does, and the share of silent frames in [0, 1]."""
        power = self.power()
        sounding = power[power > SILENCE**2]
        return 10 * math.log10(sounding.mean()) if len(sounding) else -math.inf, 1 - len(sounding) / len(power)


def whole_frames(sample_rate: int, channels: int) -> int:
    """Samples of each channel in a block of 4 MB that holds whole frames."""
    frame = max(1, round(FRAME * sample_rate))
    return max(1, BLOCK // channels // frame) * frame


class SilentError(InputError):
    """A recording in which no frame reaches -60 dB of full scale."""

    def __init__(self, where: str | Path, problem: str = PROBLEM, mend: str = MEND) -> None:
        super().__init__(where, problem, mend)


def _means(values: NDArray[np.float32], frame: int) -> NDArray[np.float64]:
    """Mean of every frame of `frame` values (T,); the last may be shorter."""
    whole = len(values) // frame * frame
    means = values[:whole].reshape(-1, frame).mean(axis=1, dtype=np.float64)
    return np.append(means, values[whole:].mean(dtype=np.float64)) if whole < len(values) else means
