"""Measurements of one recording, read once and in pieces. Letters in shapes: C channels, T samples."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioldm_lit.audio.channels import Channels, to_mono
from audioldm_lit.audio.loudness import Loudness, whole_frames
from audioldm_lit.audio.parts import open_part
from audioldm_lit.audio.recording import Span
from audioldm_lit.audio.waveform import resample
from audioldm_lit.evaluation.reading import FULL_SCALE, RUN, is_clipped
from audioldm_lit.health.spectrum import Spectrum

HEARD = 30  # seconds from the start by which copies are known
HEARD_RATE = 16_000  # Hz at which they are compared


@dataclass(frozen=True, slots=True)
class Measurement:
    """A recording in numbers.

    Attributes:
        duration: Seconds.
        sample_rate: Hz.
        channels: Number of channels.
        peak: Largest amplitude; 1 is full scale.
        level_db: RMS of the frames that are not silent, in dB of full scale, of the sound that training uses: the mean of the
            channels, or the one in `channel`, without the offset; -inf where all are silent.
        silent_share: Share in [0, 1] of frames of 20 ms below -60 dB of full scale, of the same sound.
        offset: Mean amplitude (DC).
        clipped: Whether it stays at full scale for three samples in a row.
        bandwidth: Hz above which there is nothing; see `Spectrum`.
        digest: Hash of the decoded samples: files with the same one hold the same sound.
        channel: The one that is taken, counted from 0, where opposite polarity cancels the mean of all; else None.
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
    channel: int | None = None


def measure(path: Path, span: Span | None = None) -> tuple[Measurement, Tensor]:
    """Measure a recording, or a span of it.

    Returns:
        The measurement, and its first 30 s as mono at 16 kHz, (T,).

    Raises:
        InputError: If the file is missing, cannot be decoded, is empty, cut off or too long, or holds samples that are not finite.
    """
    found, heard, kept = _measure(path, span, None)
    return (found, heard) if kept is None else _measure(path, span, kept)[:2]


def _measure(path: Path, span: Span | None, channel: int | None) -> tuple[Measurement, Tensor, int | None]:
    """Measure the mean of all channels or a given one; also says which one should be taken."""
    with open_part(path, span) as recording:
        rate, channels = recording.sample_rate, recording.channels
        digest = hashlib.blake2b(f"{rate} {channels}".encode(), digest_size=16)
        spectrum, loudness, mixture = Spectrum(rate, recording.subtype), Loudness(rate), Channels(channels)
        peak, clipped = 0.0, False
        last = np.zeros((0, channels), dtype=np.float32)  # a run at full scale may lie across the edge of two pieces
        heard: list[NDArray[np.float32]] = []
        for samples in recording.pieces(span, whole_frames(rate, channels)):  # (T, C)
            digest.update(samples.data)
            mixture.add(samples)
            mono = to_mono(samples, channel)  # (T,)
            peak = max(peak, float(samples.max()), -float(samples.min()))
            clipped = clipped or (peak >= FULL_SCALE and is_clipped(torch.from_numpy(np.concatenate([last, samples])).T))
            last = np.concatenate([last, samples[1 - RUN :]])[1 - RUN :]
            if loudness.length < HEARD * rate:  # an empty view would keep its whole piece in memory
                heard.append(mono[: HEARD * rate - loudness.length])
            spectrum.add(mono)
            loudness.add(mono)
    level_db, silent_share = loudness.level_and_silence()
    measurement = Measurement(
        duration=loudness.length / rate,
        sample_rate=rate,
        channels=channels,
        peak=peak,
        level_db=level_db,
        silent_share=silent_share,
        offset=loudness.offset,
        clipped=clipped,
        bandwidth=spectrum.bandwidth(),
        digest=digest.hexdigest(),
        channel=channel,
    )
    return measurement, resample(torch.from_numpy(np.concatenate(heard)), rate, HEARD_RATE), mixture.kept()
