"""The original's HiFi-GAN generator (arXiv 2010.05646), its weight normalisation folded in as in the checkpoints."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1


class HiFiGAN(nn.Module):
    """Log-mel to waveform.

    Args:
        mel_bins: Mel bins.
        width: Channels before the first upsampling; each halves them.
        rates: Factors of the upsamplings.
        kernels: Their kernel sizes.
        sizes: Kernel sizes of the residual blocks, one block each after every upsampling.
        dilations: Dilations within a residual block.
    """

    def __init__(
        self,
        mel_bins: int,
        width: int,
        rates: Sequence[int],
        kernels: Sequence[int],
        sizes: Sequence[int],
        dilations: Sequence[int],
    ) -> None:
        super().__init__()
        self.blocks_each = len(sizes)
        self.conv_pre = nn.Conv1d(mel_bins, width, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(rates, kernels, strict=True):
            self.ups.append(nn.ConvTranspose1d(width, width // 2, kernel, rate, padding=(kernel - rate) // 2))
            width //= 2
            self.resblocks.extend(Residual(width, size, dilations) for size in sizes)
        self.conv_post = nn.Conv1d(width, 1, 7, padding=3)

    def forward(self, log_mel: Tensor) -> Tensor:
        """(B, F, M) -> (B, T)."""
        hidden = self.conv_pre(log_mel.transpose(1, 2))
        for number, up in enumerate(self.ups):
            hidden = up(F.leaky_relu(hidden, SLOPE))
            blocks = self.resblocks[number * self.blocks_each : (number + 1) * self.blocks_each]
            hidden = sum(block(hidden) for block in blocks) / self.blocks_each
        return self.conv_post(F.leaky_relu(hidden)).tanh()[:, 0]


class Residual(nn.Module):
    """Pairs of a dilated and a plain convolution."""

    def __init__(self, width: int, size: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList([nn.Conv1d(width, width, size, dilation=one, padding="same") for one in dilations])
        self.convs2 = nn.ModuleList([nn.Conv1d(width, width, size, padding="same") for _ in dilations])

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, T) -> the same shape."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            hidden = hidden + plain(F.leaky_relu(dilated(F.leaky_relu(hidden, SLOPE)), SLOPE))
        return hidden
