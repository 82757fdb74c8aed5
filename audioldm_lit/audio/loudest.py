"""The part of a recording that a clip holds, however long the recording is. Letters in shapes: C channels, T samples."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioldm_lit.audio.channels import Channels, to_mono
from audioldm_lit.audio.loudness import Loudness, SilentError, whole_frames
from audioldm_lit.audio.parts import open_part
from audioldm_lit.audio.recording import Span
from audioldm_lit.audio.waveform import crop_loudest, resample, resampling_ratio

HELD = 2**24  # samples of all channels together up to which a recording is read once: 64 MB, three minutes of stereo at 44.1 kHz
STEP = 2**18  # samples that are resampled at once
REACH = 8  # periods of the lower rate beyond which the resampler's filter, of six zero crossings, surely does not look


def read_loudest(path: Path, sample_rate: int, num_samples: int, span: Span | None = None) -> tuple[Tensor, int | None]:
    """Read a recording as mono: whole where it is no longer than a window, else the window with most energy.

    Args:
        path: The recording.
        sample_rate: Hz of the result.
        num_samples: Length of the window.
        span: Seconds of start and end; the whole recording where not given.

    Returns:
        Waveform (T,), float32, and the channel that was taken where opposite polarity cancels the mean of all, else None.

    Raises:
        InputError: If it cannot be read, see `open_audio`, or is silent.
    """
    held: list[NDArray[np.float32]] = []
    count = 0
    with open_part(path, span) as recording:
        rate, mixture = recording.sample_rate, Channels(recording.channels)
        for piece in recording.pieces(span):
            mixture.add(piece)
            count += piece.size
            held = [*held, piece] if count <= HELD else []
    channel = mixture.kept()
    pieces: Iterable[Tensor]
    if held:
        mono = to_mono(np.concatenate(held), channel)
        pieces = (resample(torch.from_numpy(mono), rate, sample_rate) for mono in _sounding(path, rate, [mono]))
    else:
        pieces = resampled(_sounding(path, rate, _mono(path, span, channel)), rate, sample_rate)
    return loudest(pieces, num_samples), channel


def loudest(pieces: Iterable[Tensor], num_samples: int) -> Tensor:
    """The earliest window of `num_samples` with the most energy in a waveform that comes in pieces; all of it if it is shorter."""
    best, most, last = None, -1.0, torch.zeros(0)
    for piece in pieces:
        joined = torch.cat([last, piece])
        if len(joined) >= num_samples:
            window = crop_loudest(joined, num_samples)
            energy = float(window.double().square().sum())
            if energy > most:
                best, most = window.clone(), energy
        last = joined[max(0, len(joined) - num_samples + 1) :]
    return last if best is None else best


def resampled(pieces: Iterable[NDArray[np.float32]], sample_rate: int, new_sample_rate: int) -> Iterator[Tensor]:
    """Change the rate of a waveform that comes in pieces (T,), each resampled with as much around it as the filter looks at."""
    ratio = resampling_ratio(sample_rate, new_sample_rate)
    old, new = ratio.denominator, ratio.numerator
    around = old * (1 - -REACH * max(old, new) // (new * old))
    step = old * max(1, STEP // old)  # all blocks have one length: torch keeps what it has prepared for every length
    waiting = torch.zeros(around)
    for piece in pieces:
        waiting = torch.cat([waiting, torch.from_numpy(piece)])
        while len(waiting) >= step + 2 * around:
            block = resample(waiting[: step + 2 * around], sample_rate, new_sample_rate)
            yield block[around // old * new : (around + step) // old * new]
            waiting = waiting[step:]
    yield resample(waiting, sample_rate, new_sample_rate)[around // old * new :]


def _mono(path: Path, span: Span | None, channel: int | None) -> Iterator[NDArray[np.float32]]:
    with open_part(path, span) as recording:
        for piece in recording.pieces(span, whole_frames(recording.sample_rate, recording.channels)):
            yield to_mono(piece, channel)


def _sounding(path: Path, sample_rate: int, pieces: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The pieces as they are; at their end, silence is refused."""
    loudness = Loudness(sample_rate)
    for piece in pieces:
        loudness.add(piece)
        yield piece
    if loudness.level_and_silence()[1] == 1:
        raise SilentError(path)
