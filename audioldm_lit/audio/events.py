"""Where a recording sounds: its stretches, and windows over what is too long for a clip."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audioldm_lit.audio.decoding import open_audio
from audioldm_lit.audio.loudness import FRAME, SILENCE, Loudness, whole_frames
from audioldm_lit.audio.recording import Span

FLOOR = 0.1  # share of frames that are no louder than the recording's floor
ABOVE_DB, BELOW_DB = 12.0, 20.0  # what sounds is above the floor, or no further than that below the loudest frame
GAP = 0.5  # seconds; stretches less far apart are one
MARGIN = 0.1  # seconds on either side of a stretch
ONE = 1.5  # durations up to which a stretch is one clip, of which the loudest part is heard
REST = 0.5  # of a duration; less than that at the end of a recording makes no window


def frame_powers(path: Path) -> tuple[NDArray[np.float64], float]:
    """Power of every frame of 20 ms (F,), the mean over the channels, each without its offset; and the length in seconds.

    Raises:
        InputError: If the recording cannot be read.
    """
    with open_audio(path) as recording:
        rate, channels = recording.sample_rate, [Loudness(recording.sample_rate) for _ in range(recording.channels)]
        for piece in recording.pieces(num_frames=whole_frames(rate, recording.channels)):
            for loudness, samples in zip(channels, piece.T, strict=True):
                loudness.add(np.ascontiguousarray(samples))
    return np.sum([loudness.power() for loudness in channels], axis=0) / len(channels), channels[0].length / rate


def events(power: NDArray[np.float64], seconds: float, duration: float) -> list[Span]:
    """Stretches that sound, from start to end in seconds.

    A frame sounds where its level is 12 dB above the recording's floor, which a tenth of its frames stay below, or within 20 dB of
    its loudest frame, whichever asks less; and at least -60 dB of full scale. Stretches less than 0.5 s apart are one, and each
    gets 0.1 s on either side. One longer than 1.5 durations is cut into `windows`.

    Args:
        power: Of every frame of 20 ms (F,).
        seconds: Length of the recording.
        duration: Of a clip.
    """
    floor, loudest = np.quantile(power, FLOOR), power.max()
    threshold = max(SILENCE**2, min(floor * 10 ** (ABOVE_DB / 10), loudest * 10 ** (-BELOW_DB / 10)))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], power > threshold, [False]])))
    found: list[Span] = []
    for first, last in edges.reshape(-1, 2).tolist():
        start, end = max(0.0, first * FRAME - MARGIN), min(seconds, last * FRAME + MARGIN)
        if found and start - found[-1][1] < GAP - 2 * MARGIN:
            start = found.pop()[0]
        found.append((start, end))
    return [part for start, end in found for part in _cut(start, end, duration)]


def windows(start: float, end: float, duration: float) -> list[Span]:
    """Windows of the duration one after the other; the last ends with what is cut, over at most half of the one before it.

    A rest of less than half a window is left out; what is shorter than a window is one.
    """
    count = max(1, math.floor((end - start) / duration + 1 - REST))
    starts = [start + place * duration for place in range(count)]
    return [(max(start, min(one, end - duration)), min(end, one + duration)) for one in starts]


def _cut(start: float, end: float, duration: float) -> list[Span]:
    return [(start, end)] if end - start <= ONE * duration else windows(start, end, duration)
