"""What can be measured on one recording, read once and in pieces, however long it is. Letters in shapes: C channels, T samples."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioldm_lit.audio import resample
from audioldm_lit.decoding import check_whole, decode, open_audio
from audioldm_lit.errors import InputError
from audioldm_lit.health.spectrum import Spectrum
from audioldm_lit.metrics.reading import FULL_SCALE, is_clipped

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
        level_db: RMS of the frames that are not silent, in dB of full scale; -inf where all are.
        silent_share: Share in [0, 1] of frames of 20 ms below -60 dB of full scale.
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
        InputError: If the file is missing, cannot be decoded, is empty or cut off, or holds samples that are not finite.
    """
    with open_audio(path) as file:
        rate, channels = file.samplerate, file.channels
        frame = max(1, round(FRAME * rate))
        piece = max(1, BLOCK // channels // frame) * frame
        spectrum, digest = Spectrum(rate, file.subtype), hashlib.blake2b(f"{rate} {channels}".encode(), digest_size=16)
        peak, total, length, clipped = 0.0, 0.0, 0, False
        powers: list[NDArray[np.float32]] = []
        heard: list[NDArray[np.float32]] = []
        while len(samples := decode(file, piece)):  # (T, C)
            digest.update(samples)
            mono = samples.mean(axis=1)  # (T,)
            peak = max(peak, float(np.abs(samples).max()))
            total += float(mono.sum(dtype=np.float64))
            clipped = clipped or (peak >= FULL_SCALE and is_clipped(torch.from_numpy(samples).T))
            spectrum.add(mono)
            powers.append(_powers(samples, frame))
            heard.append(mono[: max(0, HEARD * rate - length)])
            length += len(mono)
        if not length:
            raise InputError(f"{path}: holds no samples; remove it or record it again.")
        check_whole(file, length)
    power = np.concatenate(powers).astype(np.float64)
    sounding = power[power > SILENCE**2]
    measurement = Measurement(
        duration=length / rate,
        sample_rate=rate,
        channels=channels,
        peak=peak,
        level_db=10 * math.log10(sounding.mean()) if len(sounding) else -math.inf,
        silent_share=1 - len(sounding) / len(power),
        offset=total / length,
        clipped=clipped,
        bandwidth=spectrum.bandwidth(),
        digest=digest.hexdigest(),
    )
    return measurement, resample(torch.from_numpy(np.concatenate(heard)), rate, HEARD_RATE)


def _powers(samples: NDArray[np.float32], frame: int) -> NDArray[np.float32]:
    """Mean power of every frame of `frame` samples, over all channels; the last may be shorter."""
    whole = len(samples) // frame * frame
    squares = np.square(samples[:whole]).reshape(whole // frame, -1).mean(axis=1)
    return np.append(squares, np.square(samples[whole:]).mean()) if whole < len(samples) else squares
