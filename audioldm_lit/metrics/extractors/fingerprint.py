"""Where a sound rises and falls, band by band: the fingerprint by which a copy is recognised."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

from audioldm_lit.metrics.extractors.base import Extractor

N_FFT = 2048  # 128 ms: a copy that is off by half a hop still looks the same
HOP_LENGTH = 320  # 20 ms
N_MELS = 48
F_MIN, F_MAX = 50.0, 8000.0  # Hz
FLOOR = 10**-2.5  # of the clip's own peak: what is 25 dB below it counts little, so noise beneath the sound does not matter
SPAN = 4  # frames, 80 ms, over which a band's rise is taken
MARGIN = N_FFT + SPAN * HOP_LENGTH  # of silence at either end, so that the first onset and the last decay are whole


class Fingerprint(Extractor):
    """Log-mel contrast: whether a band gains on its neighbour, a row of 47 numbers in (-1, 1) every 20 ms.

    All good recordings of a class share a spectrum and a loudness over time; both drop out of a difference over time and
    bands, and what is left belongs to the recording (the same difference that Haitsma & Kalker, A Highly Robust
    Audio Fingerprinting System, ISMIR 2002, take the sign of). The hyperbolic tangent keeps one loud onset from outweighing
    the rest. Gain changes nothing, silence is all zeros, and zeros around a clip move its rows and change none.
    """

    name = "log-mel"
    sample_rate = 16_000
    min_samples = 1

    def __init__(self) -> None:
        self.network = torchaudio.transforms.MelSpectrogram(
            self.sample_rate, N_FFT, hop_length=HOP_LENGTH, f_min=F_MIN, f_max=F_MAX, n_mels=N_MELS, center=False
        )

    def embed(self, waveform: Tensor, captions: Sequence[str] | None) -> dict[str, Tensor]:
        """Waveform (B, T) -> `embedding` (B, F, 47), F rows for T / 320 + 11 frames."""
        power = self.network(F.pad(waveform, (MARGIN, MARGIN))).transpose(1, 2)  # (B, F + SPAN, N_MELS)
        floor = FLOOR * power.amax(dim=(1, 2), keepdim=True)
        log_mel = (power / floor.clamp(min=torch.finfo().tiny)).log1p()
        rise = log_mel[:, SPAN:] - log_mel[:, :-SPAN]
        return {"embedding": rise.diff(dim=2).tanh()}

    def passport(self) -> dict[str, Any]:
        """Everything its features depend on, as plain values."""
        settings = {"n_fft": N_FFT, "hop_length": HOP_LENGTH, "n_mels": N_MELS, "f_min": F_MIN, "f_max": F_MAX}
        return {**super().passport(), **settings, "floor": FLOOR, "span": SPAN}
