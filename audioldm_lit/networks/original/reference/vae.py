"""The original's autoencoder: log-mel pictures to the moments of their latents, and latents back."""

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32


class VAE(nn.Module):
    """Encoder, decoder, and a 1x1 convolution beside each.

    Args:
        channels: Channels of the pictures.
        widths: Channels of every level.
        layers: Residual blocks a level of the encoder; the decoder has one more.
        latent: Channels of the latents.
    """

    def __init__(self, channels: int, widths: Sequence[int], layers: int, latent: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels, widths, layers, latent)
        self.decoder = Decoder(channels, widths, layers, latent)
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 1)

    def encode(self, picture: Tensor) -> Tensor:
        """Pictures (B, 1, F, M) -> mean and log-variance of latents, (B, 2 C, F/4, M/4)."""
        return self.quant_conv(self.encoder(picture))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, F/4, M/4) -> pictures (B, 1, F, M)."""
        return self.decoder(self.post_quant_conv(latents))


class Encoder(nn.Module):
    """Levels downwards, then the middle."""

    def __init__(self, channels: int, widths: Sequence[int], layers: int, latent: int) -> None:
        super().__init__()
        before = widths[0]
        self.conv_in = nn.Conv2d(channels, before, 3, padding=1)
        self.down = nn.ModuleList()
        for number, width in enumerate(widths):
            level = _level(before, width, layers)
            before = width
            if number < len(widths) - 1:
                level.downsample = nn.Module()
                level.downsample.conv = nn.Conv2d(width, width, 3, stride=2)
            self.down.append(level)
        self.mid = Middle(before)
        self.norm_out = nn.GroupNorm(GROUPS, before, eps=1e-6)
        self.conv_out = nn.Conv2d(before, 2 * latent, 3, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 1, F, M) -> (B, 2 C, F/4, M/4)."""
        hidden = self.conv_in(picture)
        level: Any
        for level in self.down:
            for block in level.block:
                hidden = block(hidden)
            if hasattr(level, "downsample"):
                hidden = level.downsample.conv(F.pad(hidden, (0, 1, 0, 1)))
        return self.conv_out(F.silu(self.norm_out(self.mid(hidden))))


class Decoder(nn.Module):
    """The middle, then levels upwards; they are counted from the widest picture."""

    def __init__(self, channels: int, widths: Sequence[int], layers: int, latent: int) -> None:
        super().__init__()
        before = widths[-1]
        self.conv_in = nn.Conv2d(latent, before, 3, padding=1)
        self.mid = Middle(before)
        levels: list[nn.Module] = []
        for number, width in reversed(list(enumerate(widths))):
            level = _level(before, width, layers + 1)
            before = width
            if number:
                level.upsample = nn.Module()
                level.upsample.conv = nn.Conv2d(width, width, 3, padding=1)
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out = nn.GroupNorm(GROUPS, before, eps=1e-6)
        self.conv_out = nn.Conv2d(before, channels, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, C, F/4, M/4) -> (B, 1, F, M)."""
        hidden = self.mid(self.conv_in(latents))
        level: Any
        for level in reversed(self.up):
            for block in level.block:
                hidden = block(hidden)
            if hasattr(level, "upsample"):
                hidden = level.upsample.conv(F.interpolate(hidden, scale_factor=2.0))
        return self.conv_out(F.silu(self.norm_out(hidden)))


class Middle(nn.Module):
    """Two residual blocks with attention between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = Residual(width, width), Attention(width), Residual(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return self.block_2(self.attn_1(self.block_1(hidden)))


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(GROUPS, size, eps=1e-6) for size in (before, width))
        self.conv1, self.conv2 = nn.Conv2d(before, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        if before != width:
            self.nin_shortcut = nn.Conv2d(before, width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        changed = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(hidden))))))
        return changed + (self.nin_shortcut(hidden) if hasattr(self, "nin_shortcut") else hidden)


class Attention(nn.Module):
    """Self-attention with one head over all places of a picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        normed = self.norm(hidden)
        query, key, value = (part(normed).flatten(2) for part in (self.q, self.k, self.v))  # (B, C, N)
        weights = (query.transpose(1, 2) @ key / math.sqrt(query.shape[1])).softmax(dim=2)
        return hidden + self.proj_out((value @ weights.transpose(1, 2)).reshape(hidden.shape))


def _level(before: int, width: int, layers: int) -> Any:
    level = nn.Module()
    level.block = nn.ModuleList([Residual(before if layer == 0 else width, width) for layer in range(layers)])
    return level
