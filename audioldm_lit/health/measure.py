"""Measurements of one recording, read once and in pieces. Letters in shapes: C channels, T samples."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioldm_lit.audio.decoding import check_length, check_whole, decode, open_audio
from audioldm_lit.audio.waveform import resample
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.reading import FULL_SCALE, RUN, is_clipped
from audioldm_lit.health.spectrum import Spectrum

BLOCK = 2**20  # samples of all channels together that are held at once: 4 MB
HEARD = 30  # seconds from the start by which copies are known
HEARD_RATE = 16_000  # Hz at which they are compared
FRAME = 0.02  # seconds
SILENCE = 1e-3  # amplitude, -60 dB of full scale: frames whose RMS is below are silent


@dataclass(frozen=True, slots=True)
class Measurement:
    """A recording in numbers.

    Attributes:
        duration: Seconds.
        sample_rate: Hz.
        channels: Number of channels.
        peak: Largest amplitude; 1 is full scale.
        level_db: RMS of the frames that are not silent, in dB of full scale, of the sound that training uses: the mean of the
            channels without the offset; -inf where all are silent.
        silent_share: Share in [0, 1] of frames of 20 ms below -60 dB of full scale, of the same sound.
        offset: Mean amplitude (DC).
        clipped: Whether it stays at full scale for three samples in a row.
        bandwidth: Hz above which there is nothing; see `Spectrum`.
        digest: Hash of the decoded samples: files with the same one hold the same sound.
    """

    duration: float
    sample_rate: int
    channels: int
    peak: float
    level_db: float
    silent_share: float
    offset: float
    clipped: bool
    bandwidth: float
    digest: str


def measure(path: Path) -> tuple[Measurement, Tensor]:
    """Measure a recording.

    Returns:
        The measurement, and its first 30 s as mono at 16 kHz, (T,).

    Raises:
        InputError: If the file is missing, cannot be decoded, is empty, cut off or too long, or holds samples that are not finite.
    """
    with open_audio(path) as file:
        check_length(file)
        rate, channels = file.samplerate, file.channels
        frame = max(1, round(FRAME * rate))
        piece = max(1, BLOCK // channels // frame) * frame
        digest = hashlib.blake2b(f"{rate} {channels}".encode(), digest_size=16)
        spectrum, loudness = Spectrum(rate, file.subtype), _Loudness(frame)
        peak, length, clipped = 0.0, 0, False
        last = np.zeros((0, channels), dtype=np.float32)  # a run at full scale may lie across the edge of two pieces
        heard: list[NDArray[np.float32]] = []
        while len(samples := decode(file, piece)):  # (T, C)
            digest.update(samples)
            mono = samples.mean(axis=1)  # (T,)
            peak = max(peak, float(np.abs(samples).max()))
            clipped = clipped or (peak >= FULL_SCALE and is_clipped(torch.from_numpy(np.concatenate([last, samples])).T))
            last = np.concatenate([last, samples[1 - RUN :]])[1 - RUN :]
            spectrum.add(mono)
            loudness.add(mono)
            if length < HEARD * rate:  # an empty view would keep its whole piece in memory
                heard.append(mono[: HEARD * rate - length])
            length += len(mono)
        if not length:
            raise InputError(path, "holds no samples", "remove it or record it again")
        check_whole(file, length)
    offset = loudness.total / length
    level_db, silent_share = loudness.without(offset)
    measurement = Measurement(
        duration=length / rate,
        sample_rate=rate,
        channels=channels,
        peak=peak,
        level_db=level_db,
        silent_share=silent_share,
        offset=offset,
        clipped=clipped,
        bandwidth=spectrum.bandwidth(),
        digest=digest.hexdigest(),
    )
    return measurement, resample(torch.from_numpy(np.concatenate(heard)), rate, HEARD_RATE)


class _Loudness:
    """Power frame by frame, added up from pieces of whole frames.

    Args:
        frame: Samples of a frame.

    Attributes:
        total: Sum of all samples.
    """

    def __init__(self, frame: int) -> None:
        self.frame = frame
        self.total = 0.0
        self.powers: list[NDArray[np.float64]] = []
        self.means: list[NDArray[np.float64]] = []

    def add(self, mono: NDArray[np.float32]) -> None:
        """Take the next piece (T,)."""
        self.total += float(mono.sum(dtype=np.float64))
        self.powers.append(_means(np.square(mono), self.frame))
        self.means.append(_means(mono, self.frame))

    def without(self, offset: float) -> tuple[float, float]:
        """Level in dB, and share of silent frames in [0, 1], of what remains without the offset."""
        power = np.concatenate(self.powers) - 2 * offset * np.concatenate(self.means) + offset**2
        sounding = power[power > SILENCE**2]
        return 10 * math.log10(sounding.mean()) if len(sounding) else -math.inf, 1 - len(sounding) / len(power)


def _means(values: NDArray[np.float32], frame: int) -> NDArray[np.float64]:
    """Mean of every frame of `frame` values (T,); the last may be shorter."""
    whole = len(values) // frame * frame
    means = values[:whole].reshape(-1, frame).mean(axis=1, dtype=np.float64)
    return np.append(means, values[whole:].mean(dtype=np.float64)) if whole < len(values) else means
