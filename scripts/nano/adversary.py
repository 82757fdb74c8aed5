"""The vocoder's adversary: networks that tell recordings from vocoded sound by their spectra at several resolutions.

A distance between spectra alone is least where noise is predicted as its median: such a vocoder hums where it should hiss. Spectra
as the adversary's input as in UnivNet (Jang et al. 2021, arXiv 2106.07889); least-squares losses and feature matching as in
HiFi-GAN (Kong et al. 2020, arXiv 2010.05646, equations 1, 2 and 4).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RESOLUTIONS = (256, 512, 1024)  # samples a Fourier window
WIDTH = 16  # channels
COMPRESSION = 0.3  # exponent of magnitudes: quiet detail counts


class SpectrumJudge(nn.Module):
    """Judges complex spectra of one resolution, patch by patch."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        widths, strides = (2, WIDTH, WIDTH, 2 * WIDTH, 2 * WIDTH), ((2, 1), (2, 1), (2, 2), (2, 2))  # bins, frames
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.weight_norm(nn.Conv2d(i, o, (5, 3), stride, (2, 1)))
            for i, o, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.verdict = nn.Conv2d(2 * WIDTH, 1, 3, padding=1)

    def forward(self, waveform: Tensor) -> list[Tensor]:
        """Features of every layer of a waveform (B, T); the last are the verdicts, 1 for recordings."""
        spectrum = torch.stft(waveform, self.size, self.size // 4, window=self.window, return_complex=True)
        parts = torch.view_as_real(spectrum)  # (B, bins, frames, 2)
        magnitude = (parts.square().sum(-1, keepdim=True) + 1e-8).sqrt()
        features = [(parts * magnitude ** (COMPRESSION - 1)).movedim(-1, 1)]
        for layer in self.layers:
            features.append(F.leaky_relu(layer(features[-1]), 0.1))
        return [*features[1:], self.verdict(features[-1])]


class Adversary(nn.Module):
    """One judge a resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.judges = nn.ModuleList(SpectrumJudge(size) for size in RESOLUTIONS)

    def loss(self, made: Tensor, real: Tensor) -> Tensor:
        """What the judges minimise: recordings are 1, vocoded sound 0; waveforms (B, T)."""
        errors = [(judge(real)[-1] - 1).square().mean() + judge(made)[-1].square().mean() for judge in self.judges]
        return torch.stack(errors).mean()

    def deceived(self, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """What the vocoder minimises: how far the judges are from taking it for a recording, and the distance of their features."""
        fooled, matched = [], []
        for judge in self.judges:
            *ours, verdict = judge(made)
            with torch.no_grad():
                *theirs, _ = judge(real)
            fooled.append((verdict - 1).square().mean())
            matched += [F.l1_loss(one, other) for one, other in zip(ours, theirs, strict=True)]
        return torch.stack(fooled).mean(), torch.stack(matched).mean()
