"""The highest frequency that a recording really holds, whatever its sample rate."""

import numpy as np
from numpy.typing import NDArray

N_FFT = 2048
WINDOW = np.hanning(N_FFT).astype(np.float32)
BANDS = 64  # of half the rate, 345 Hz each at 44.1 kHz
CLIFF_DB = 30.0  # between the four bands below a cliff and all above; a recording itself falls gently. Measured, docs/decisions.md
BELOW, EDGE = 4, 2  # bands; the edge of a resampler's filter lies between the two sides
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "ULAW": 12, "ALAW": 12, "ALAC_16": 16, "ALAC_24": 24}
ROUNDING_DB = 10.0  # above the noise of rounding to whole numbers, dither included


class Spectrum:
    """Mean power spectrum of a recording, piece by piece.

    A recording that was brought up from a lower rate, or went through a codec or a telephone, has nothing above some frequency but
    the noise of its own rounding, 1 / 12 of a step squared spread evenly over all frequencies (Bennett 1948).

    Args:
        sample_rate: Hz.
        subtype: libsndfile's name of the sample format, which gives the size of the steps.
    """

    def __init__(self, sample_rate: int, subtype: str) -> None:
        self.sample_rate = sample_rate
        self.bits = BITS.get(subtype, 24)  # compressed and float files hold no steps; 24 bits are finer than any microphone
        self.power = np.zeros(N_FFT // 2 + 1)
        self.frames = 0
        self.rest = np.zeros(0, dtype=np.float32)  # what fills no frame yet: frames do not depend on how a recording is cut
        self.last = np.zeros(0, dtype=np.float32)  # as many samples as a frame has

    def add(self, mono: NDArray[np.float32]) -> None:
        """Add a piece (T,)."""
        self.last = np.concatenate([self.last, mono[-N_FFT:]])[-N_FFT:]
        mono = np.concatenate([self.rest, mono])
        count = len(mono) // N_FFT
        self.rest = mono[count * N_FFT :].copy()
        if count:
            self.power += _power(mono[: count * N_FFT].reshape(count, N_FFT) * WINDOW)
            self.frames += count

    def bandwidth(self) -> float:
        """Hz above which there is nothing: where the spectrum falls off a cliff, or into rounding noise; 0 for silence."""
        power, frames = self.power, self.frames
        if count := len(self.rest):  # a last frame that ends with the recording: one filled up with zeros would end in a click
            window = WINDOW if frames else np.hanning(count + 2)[1:-1]
            power, frames = power + _power((self.last * window)[None]) * N_FFT / len(window), frames + 1
        power = (power[1:] / max(1, frames)).reshape(BANDS, -1).mean(axis=1)  # the first bin is the offset's
        step = 2.0 / 2**self.bits
        rounding = step**2 / 12 * float((WINDOW.astype(np.float64) ** 2).sum())
        above = np.flatnonzero(power > rounding * 10 ** (ROUNDING_DB / 10))
        if not len(above):
            return 0.0
        top, level = float(above[-1] + 1), 10 * np.log10(power + 1e-30)
        drops = {k + EDGE / 2: level[k - BELOW : k].mean() - level[k + EDGE :].max() for k in range(BELOW, BANDS - EDGE)}
        cliff = max(drops, key=drops.__getitem__)
        return (min(top, cliff) if drops[cliff] >= CLIFF_DB else top) / BANDS * self.sample_rate / 2


def _power(frames: NDArray) -> NDArray[np.float64]:
    """Power spectrum summed over windowed frames (F, up to N_FFT)."""
    spectra = np.fft.rfft(frames, N_FFT)
    return (spectra.real**2 + spectra.imag**2).sum(axis=0, dtype=np.float64)
