"""The level that generated sound is brought to."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import sosfilt
from torch import Tensor

from audioldm_lit.errors import InputError

BLOCK = 0.4  # seconds that loudness is measured over
OFFSET = -0.691  # dB, so that a sine of 997 Hz at full scale has -3.01 LUFS


@dataclass(frozen=True)
class Level:
    """How loud a clip is made; as it was generated where neither is given.

    Args:
        peak: Of its loudest sample, in dB of full scale, 0 at most.
        lufs: Its integrated loudness by ITU-R BS.1770-4, gated, in LUFS: 0.4 s at least.
    """

    peak: float | None = None
    lufs: float | None = None

    def check(self, seconds: float) -> None:
        """Raise `InputError` for what no clip of this length can be brought to."""
        if self.peak is not None and self.lufs is not None:
            raise InputError("--peak and --lufs", "are both given", "give one of them")
        if self.peak is not None and not -90 <= self.peak <= 0:
            raise InputError("--peak", f"is {self.peak:g}", "give dB of full scale from -90 to 0, such as -1")
        if self.lufs is not None and not -70 <= self.lufs <= 0:
            raise InputError("--lufs", f"is {self.lufs:g}", "give LUFS from -70 to 0, such as -23")
        if self.lufs is not None and seconds < BLOCK:
            raise InputError("--lufs", f"needs {BLOCK:g} s, and clips have {seconds:g}", "give --peak, or a longer --duration")

    def spec(self) -> dict[str, float]:
        """The level as it goes into manifests; nothing where it is left alone."""
        return {name: value for name, value in (("peak", self.peak), ("lufs", self.lufs)) if value is not None}

    def gain(self, waveform: Tensor, sample_rate: int) -> float:
        """Factor that brings a waveform (T,) to the level; 1 where it is silent."""
        if self.lufs is not None:
            measured = loudness(waveform.double().cpu().numpy(), sample_rate)
            return 10 ** ((self.lufs - measured) / 20) if math.isfinite(measured) else 1.0
        peak = float(waveform.abs().max())
        return 10 ** (self.peak / 20) / peak if self.peak is not None and peak > 0 else 1.0


def excess(waveform: Tensor) -> float:
    """By how many dB the loudest sample of a waveform (T,) is beyond full scale; 0 where none is."""
    return 20 * math.log10(max(1.0, float(waveform.abs().max())))


def loudness(samples: NDArray[np.float64], sample_rate: int) -> float:
    """Integrated loudness of a mono clip (T,) of at least 0.4 s by ITU-R BS.1770-4 in LUFS; -inf where all is below -70.

    Our own because torchaudio's weighting is 0.3 dB off at 1 kHz.
    """
    power = np.square(sosfilt(k_weighting(sample_rate), samples))
    blocks = np.lib.stride_tricks.sliding_window_view(power, round(BLOCK * sample_rate))[:: round(BLOCK / 4 * sample_rate)]
    means = blocks.mean(axis=1)  # (blocks,), which overlap by three quarters
    heard = means[means > _power(-70)]
    if not len(heard):
        return -math.inf
    return OFFSET + 10 * math.log10(heard[heard > heard.mean() / 10].mean())


def k_weighting(sample_rate: int) -> NDArray[np.float64]:
    """The two filters of BS.1770 as second-order sections (2, 6), for any rate.

    The standard has their coefficients at 48 kHz; these are the analogue filters behind them (De Man 2014, "Evaluation of
    implementations of the EBU R128 loudness measurement").
    """
    k, damping, poles = _resonance(1681.974450955533, 0.7071752369554196, sample_rate)
    top = 10 ** (3.999843853973347 / 20)  # of the shelf
    middle = top**0.4996667741545416 * damping
    shelf = np.array([top + middle + k * k, 2 * (k * k - top), top - middle + k * k]) / (1 + damping + k * k)
    _, _, low_poles = _resonance(38.13547087602444, 0.5003270373238773, sample_rate)
    return np.array([[*shelf, *poles], [1.0, -2.0, 1.0, *low_poles]])


def _resonance(frequency: float, quality: float, sample_rate: int) -> tuple[float, float, list[float]]:
    """Warped frequency K, K / Q and the denominator of a second-order filter."""
    k = math.tan(math.pi * frequency / sample_rate)
    damping = k / quality
    scale = 1 + damping + k * k
    return k, damping, [1.0, 2 * (k * k - 1) / scale, (1 - damping + k * k) / scale]


def _power(lufs: float) -> float:
    return 10 ** ((lufs - OFFSET) / 10)
