"""The adversaries of VAE and vocoder: small networks that tell recordings from what a network made of them.

After the multi-resolution STFT discriminators of EnCodec (Defossez et al. 2022, arXiv 2210.13438), with least-squares losses
(Mao et al. 2017) and feature matching as in HiFi-GAN (Kong et al. 2020).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 24
POWER = 0.3  # magnitudes are compressed to this power, or loud bins would be all that is seen


class Discriminator(nn.Module):
    """Pictures (B, C, H, W) -> scores (B, 1, h, w) of their patches and the activations before them.

    Args:
        channels: C, of a picture.
        stride: Steps of each of four layers in height and width.
    """

    def __init__(self, channels: int, stride: tuple[int, int] = (2, 1)) -> None:
        super().__init__()
        widths = [channels, CHANNELS, CHANNELS, CHANNELS, CHANNELS]
        kernels = [(7, 5), (5, 3), (5, 3), (5, 3)]
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, kernel, stride=stride, padding=(kernel[0] // 2, kernel[1] // 2))
            for (before, after), kernel in zip(pairwise(widths), kernels, strict=True)
        )
        self.score = nn.Conv2d(CHANNELS, 1, 3, padding=1)

    def forward(self, picture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores and activations."""
        seen, hidden = [], picture
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.1)
            seen.append(hidden)
        return self.score(hidden), seen


class STFTDiscriminator(Discriminator):
    """A discriminator of waveforms (B, T) by their complex spectrogram at one resolution.

    Args:
        size: Samples of a Fourier window; windows overlap by half.
    """

    def __init__(self, size: int) -> None:
        super().__init__(channels=2)
        self.register_buffer("window", torch.hann_window(size), persistent=False)

    def forward(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores and activations."""
        size = len(self.window)
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(waveform.float(), size, size // 2, window=self.window, return_complex=True)
            parts = torch.view_as_real(spectrum).permute(0, 3, 1, 2)  # (B, 2, bins, frames)
            power = parts.square().sum(dim=1, keepdim=True) + 1e-6
            picture = parts * power ** ((POWER - 1) / 2)
        return super().forward(picture)


class Adversary(nn.Module):
    """Several judges that take turns: a fraction of the cost, and none of them is missed.

    Args:
        judges: Discriminators of the same kind of example.
    """

    def __init__(self, judges: Sequence[Discriminator]) -> None:
        super().__init__()
        self.judges = nn.ModuleList(judges)

    def loss(self, turn: int, real: Tensor, made: Tensor) -> Tensor:
        """What the judge whose `turn` it is minimises: recordings score 1, what was made (B, ...) scores 0."""
        scores = self.judges[turn % len(self.judges)](torch.cat([real, made.detach()]))[0].float()
        return (scores[: len(real)] - 1).square().mean() + scores[len(real) :].square().mean()

    def fooled(self, turn: int, real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        """What the maker minimises: its work (B, ...) scores 1, and looks like the recording to every layer."""
        judge = self.judges[turn % len(self.judges)]
        with torch.no_grad():
            wanted = judge(real)[1]
        scores, seen = judge(made)
        errors = [F.l1_loss(a.float(), b.float()) / (b.float().abs().mean() + 1e-3) for a, b in zip(seen, wanted, strict=True)]
        return (scores.float() - 1).square().mean(), torch.stack(errors).mean()
