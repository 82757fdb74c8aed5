"""Sounds made comparable: one rate, one length, one loudness; the anchor, and beeps to be counted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import fftconvolve, firwin, kaiserord
from torch import Tensor

from audioldm_lit.audio.channels import mono
from audioldm_lit.audio.decoding import read_channels
from audioldm_lit.audio.level import BLOCK, loudness
from audioldm_lit.audio.waveform import crop_loudest, resample
from audioldm_lit.data.clips import Clip

LUFS = -23.0  # by EBU R 128
PEAK_DB = -1.0  # so that no sound is clipped where it is decoded
QUIETEST = -33.0  # LUFS: one click among sounds is no reason to make all others inaudible
CUT_OFF, SLOPE, STOP_DB = 3_750.0, 500.0, 60.0  # Hz and dB of the anchor: flat to 3.5 kHz, BS.1534 wants 25 dB at 4 and 50 at 4.5
BEEP, PAUSE, PITCH = 0.15, 0.45, 880.0  # seconds, Hz


def comparable(clips: Mapping[str, Clip], recorded: set[str]) -> tuple[dict[str, Tensor], int]:
    """Read clips and bring them to the lowest of their rates, so that bandwidth does not tell who made them.

    Args:
        clips: By name.
        recorded: Names of recordings, which are cut to their loudest part where they are longer than every other clip.

    Returns:
        Waveforms (T,) by name, and their rate in Hz.

    Raises:
        InputError: If one cannot be read.
    """
    read = {name: _read(clip) for name, clip in clips.items()}
    rate = min(sample_rate for _, sample_rate in read.values())
    waveforms = {name: resample(waveform, sample_rate, rate) for name, (waveform, sample_rate) in read.items()}
    longest = max((len(waveform) for name, waveform in waveforms.items() if name not in recorded), default=0)
    for name in recorded & set(waveforms):
        if longest and len(waveforms[name]) > longest:
            waveforms[name] = crop_loudest(waveforms[name], longest)
    return waveforms, rate


def _read(clip: Clip) -> tuple[Tensor, int]:
    with clip.errors():
        channels, rate = read_channels(*clip.part)
    return torch.from_numpy(mono(channels.T.numpy())[0]), rate


@dataclass(frozen=True, eq=False)
class Levelled:
    """Sounds of one loudness.

    Attributes:
        waveforms: (T,) in [-1, 1], by name.
        lufs: Loudness of all.
        quieter: By how many dB those are quieter that would have been clipped.
    """

    waveforms: Mapping[str, Tensor]
    lufs: float
    quieter: Mapping[str, float]


def levelled(waveforms: Mapping[str, Tensor], rate: int) -> Levelled:
    """All at one loudness (BS.1770) at which none is clipped, but for sounds that would make all others inaudible."""
    measured = {name: _loudness(waveform, rate) for name, waveform in waveforms.items()}
    sounding = [name for name in waveforms if math.isfinite(measured[name])]
    room = {name: PEAK_DB - 20 * math.log10(float(waveforms[name].abs().max())) for name in sounding}
    most = {name: measured[name] + room[name] for name in sounding}  # LUFS where its peak is as high as it may be
    target = max(QUIETEST, min([LUFS, *most.values()]))
    gains = {name: min(target - measured[name], room[name]) for name in sounding}
    quieter = {name: target - most[name] for name in sounding if most[name] < target - 0.05}
    made = {name: waveform * 10 ** (gains.get(name, 0.0) / 20) for name, waveform in waveforms.items()}
    return Levelled(made, target, quieter)


def _loudness(waveform: Tensor, rate: int) -> float:
    """LUFS; a clip shorter than the standard's block is measured with silence behind it."""
    samples = waveform.double().numpy()
    return loudness(np.pad(samples, (0, max(0, round(BLOCK * rate) - len(samples)))), rate)


def anchor(waveform: Tensor, sample_rate: int) -> Tensor:
    """A sound (T,) below 3.5 kHz, the low anchor of BS.1534; where the rate holds no more, as it is."""
    if sample_rate / 2 < CUT_OFF + SLOPE:
        return waveform
    taps, beta = kaiserord(STOP_DB, SLOPE / (sample_rate / 2))
    response = firwin(taps | 1, CUT_OFF, window=("kaiser", beta), fs=sample_rate)
    return torch.from_numpy(fftconvolve(waveform.double().numpy(), response, mode="same")).float()


def beeps(count: int, sample_rate: int) -> Tensor:
    """So many beeps, (T,)."""
    time = np.arange(round(BEEP * sample_rate)) / sample_rate
    beep = 0.1 * np.sin(2 * np.pi * PITCH * time) * np.hanning(len(time))
    one = np.pad(beep, (0, round(PAUSE * sample_rate)))
    return torch.from_numpy(np.tile(one, count)).float()
