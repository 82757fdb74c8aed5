"""The vocoder's adversary: small networks that tell recordings from vocoded sound by their complex spectrograms.

After the multi-resolution STFT discriminators of EnCodec (Defossez et al. 2022, arXiv 2210.13438), with least-squares losses
(Mao et al. 2017) and feature matching as in HiFi-GAN (Kong et al. 2020). Magnitudes are compressed to the power 0.3, or loud
bins would be all that is seen.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 24
POWER = 0.3


class STFTDiscriminator(nn.Module):
    """One resolution: waveform (B, T) -> scores (B, 1, bins, frames) and the activations before them.

    Args:
        size: Samples of a Fourier window; windows overlap by half.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        widths = [2, CHANNELS, CHANNELS, CHANNELS, CHANNELS]
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, (7, 5) if before == 2 else (5, 3), stride=(2, 1), padding=(3, 2) if before == 2 else (2, 1))
            for before, after in pairwise(widths)
        )
        self.score = nn.Conv2d(CHANNELS, 1, 3, padding=1)

    def forward(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores and activations."""
        size = len(self.window)
        with torch.autocast("cpu", enabled=False):
            spectrum = torch.stft(waveform.float(), size, size // 2, window=self.window, return_complex=True)
            parts = torch.view_as_real(spectrum).permute(0, 3, 1, 2)  # (B, 2, bins, frames)
            power = parts.square().sum(dim=1, keepdim=True) + 1e-6
            hidden = parts * power ** ((POWER - 1) / 2)
        seen = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.1)
            seen.append(hidden)
        return self.score(hidden), seen


class Adversary(nn.Module):
    """One judge a resolution.

    Args:
        sizes: Samples of each one's Fourier window.
    """

    def __init__(self, sizes: tuple[int, ...] = (256, 800, 2048)) -> None:
        super().__init__()
        self.judges = nn.ModuleList(STFTDiscriminator(size) for size in sizes)

    def loss(self, index: int, real: Tensor, made: Tensor) -> Tensor:
        """What judge `index` minimises: recordings score 1, vocoded sound (B, T) scores 0."""
        scores = self.judges[index](torch.cat([real, made.detach()]))[0].float()
        return (scores[: len(real)] - 1).square().mean() + scores[len(real) :].square().mean()

    def fooled(self, index: int, real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        """What the vocoder minimises: its sound (B, T) scores 1, and looks like the recording to every layer."""
        judge = self.judges[index]
        with torch.no_grad():
            wanted = judge(real)[1]
        scores, seen = judge(made)
        errors = [F.l1_loss(a.float(), b.float()) / (b.float().abs().mean() + 1e-3) for a, b in zip(seen, wanted, strict=True)]
        return (scores.float() - 1).square().mean(), torch.stack(errors).mean()
