"""AudioLDM's log-mel front end.

It is that of the model's own training code (Liu et al. 2023, arXiv 2301.12503): HiFi-GAN style framing, magnitude mel with Slaney
scale and norm, natural logarithm, no mean or variance normalisation. Letters in shapes: B batch, T samples, F frames, M mel bins.
"""

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

MEL_FLOOR = 1e-5  # log floor: digital silence is ln 1e-5 = -11.5129 in every bin


class LogMel(nn.Module):
    """AudioLDM's log-mel spectrogram: natural log of a Slaney mel magnitude, HiFi-GAN framing.

    The defaults are the published model's; 163,840 samples (10.24 s) give exactly 1,024 frames.

    Args:
        sample_rate: Hz.
        n_fft: FFT and window length in samples (periodic Hann).
        hop_length: Step between frames in samples.
        n_mels: Number of mel bins.
        f_min: Lowest mel frequency in Hz.
        f_max: Highest mel frequency in Hz.
    """

    def __init__(
        self,
        sample_rate: int = 16_000,
        n_fft: int = 1024,
        hop_length: int = 160,
        n_mels: int = 64,
        f_min: float = 0.0,
        f_max: float = 8000.0,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.hop_length = hop_length
        self.padding = (n_fft - hop_length) // 2
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate, n_fft, n_fft, hop_length, f_min=f_min, f_max=f_max, n_mels=n_mels,
            power=1.0, norm="slaney", mel_scale="slaney", center=False,
        )  # fmt: skip
        self.fingerprint = f"logmel-{sample_rate}-{n_fft}-{hop_length}-{n_mels}-{f_min:g}-{f_max:g}-slaney-ln"

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (B, T) in [-1, 1] -> log-mel (B, 1, F, M), time first, with F = T / hop_length."""
        # The logarithm magnifies rounding near the floor, so the front end never runs in half precision.
        with torch.autocast(waveform.device.type, enabled=False):
            padded = F.pad(waveform.float()[:, None], (self.padding, self.padding), mode="reflect")[:, 0]
            mel = self.mel(padded)  # (B, M, F)
            return mel.clamp(min=MEL_FLOOR).log().transpose(1, 2)[:, None]  # -> (B, 1, F, M)
