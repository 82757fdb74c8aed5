"""The towers of LAION's CLAP (arXiv 2211.06687): RoBERTa for text; HTSAT, a Swin transformer of pictures, for sound."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel

PICTURE = 256  # height and width of the picture that a log-mel is cut and stacked to


class TextTower(nn.Module):
    """Tokens to an embedding, by the network that the original calls itself.

    Args:
        config: RoBERTa's settings.
        embedding: Width of the embedding.
    """

    def __init__(self, config: RobertaConfig, embedding: int) -> None:
        super().__init__()
        self.text_branch = RobertaModel(config)
        self.text_projection = _projection(config.hidden_size, embedding)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Token ids and mask (B, N) -> (B, D), not normalised."""
        read = self.text_branch(input_ids=tokens, attention_mask=mask, token_type_ids=torch.zeros_like(tokens))
        return self.text_projection(read.pooler_output)


class AudioTower(nn.Module):
    """Log-mel to an embedding.

    Args:
        mel_bins: Mel bins.
        width: Channels of the first stage; each further one has twice as many.
        depths: Blocks of every stage.
        heads: Attention heads of every stage.
        window: Side of an attention window in patches.
        embedding: Width of the embedding.
    """

    def __init__(self, mel_bins: int, width: int, depths: Sequence[int], heads: Sequence[int], window: int, embedding: int) -> None:
        super().__init__()
        self.audio_branch = HTSAT(mel_bins, width, depths, heads, window)
        self.audio_projection = _projection(width * 2 ** (len(depths) - 1), embedding)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Log-mel (B, 1, F, M) in decibels -> (B, D), not normalised."""
        return self.audio_projection(self.audio_branch(log_mel))


class HTSAT(nn.Module):
    """The mean of what a Swin transformer makes of the picture's patches."""

    def __init__(self, mel_bins: int, width: int, depths: Sequence[int], heads: Sequence[int], window: int) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(mel_bins)
        self.patch_embed: Any = nn.Module()
        self.patch_embed.proj = nn.Conv2d(1, width, 4, stride=4)
        self.patch_embed.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList()
        for number, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            size = width * 2**number
            stage, side = nn.Module(), PICTURE // 4 // 2**number
            stage.blocks = nn.ModuleList([Block(size, count, window, bool(place % 2) and side > window) for place in range(depth)])
            if number < len(depths) - 1:
                stage.downsample = Merge(size)
            self.layers.append(stage)
        self.norm = nn.LayerNorm(width * 2 ** (len(depths) - 1))

    def forward(self, log_mel: Tensor) -> Tensor:
        """(B, 1, F, M) -> (B, C)."""
        patches = self.patch_embed.proj(self.picture(log_mel)).permute(0, 2, 3, 1)  # (B, H, W, C)
        patches = self.patch_embed.norm(patches)
        stage: Any
        for stage in self.layers:
            for block in stage.blocks:
                patches = block(patches)
            if hasattr(stage, "downsample"):
                patches = stage.downsample(patches)
        return self.norm(patches).mean(dim=(1, 2))

    def picture(self, log_mel: Tensor) -> Tensor:
        """(B, 1, F, M) -> (B, 1, 256, 256): stretched in time, cut into pieces, stacked from bottom to top."""
        normed = self.bn0(log_mel.transpose(1, 3)).transpose(1, 3)
        pieces = PICTURE // normed.shape[3]
        frames = PICTURE * pieces
        if normed.shape[2] < frames:
            normed = F.interpolate(normed, (frames, normed.shape[3]), mode="bicubic", align_corners=True)
        return torch.cat([piece.transpose(2, 3) for piece in normed.chunk(pieces, dim=2)], dim=2)


class Block(nn.Module):
    """Attention within windows, shifted by half a window or not, and two linear layers."""

    def __init__(self, width: int, heads: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.window, self.shift = window, window // 2 if shifted else 0
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.mlp: Any = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape; H = W."""
        batch, height, _, width = patches.shape
        side, count = self.window, height // self.window
        rolled = self.norm1(patches).roll((-self.shift, -self.shift), (1, 2))
        windows = rolled.reshape(batch, count, side, count, side, width).transpose(2, 3).reshape(-1, side * side, width)
        attended = self.attn(windows, _apart(height, side, self.shift).repeat(batch, 1, 1))
        rows = attended.reshape(batch, count, count, side, side, width).transpose(2, 3).reshape(patches.shape)
        patches = patches + rows.roll((self.shift, self.shift), (1, 2))
        return patches + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(patches))))


class WindowAttention(nn.Module):
    """Self-attention with a learned bias for every distance between two patches of a window."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        row, column = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        row, column = row.flatten(), column.flatten()
        index = (row[:, None] - row + window - 1) * (2 * window - 1) + column[:, None] - column + window - 1
        self.register_buffer("relative_position_index", index)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, windows: Tensor, apart: Tensor) -> Tensor:
        """(B, N, C) -> the same shape; `apart` (B, N, N) says which patches do not see each other."""
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(windows).chunk(3, dim=2))
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3]) + bias - 100.0 * apart[:, None]
        return self.proj((scores.softmax(dim=3) @ value).transpose(1, 2).flatten(2))


class Merge(nn.Module):
    """Four neighbouring patches to one of twice the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H/2, W/2, 2 C)."""
        corners = [patches[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=3)))


def _apart(height: int, side: int, shift: int) -> Tensor:
    """Which patches of a window stood at opposite edges of the picture before the shift, (windows, N, N) of 0 and 1."""
    edge = torch.zeros(height)
    if shift:
        edge[height - side :] += 1
        edge[height - shift :] += 1
    region = 3 * edge[:, None] + edge
    count = height // side
    windows = region.reshape(count, side, count, side).transpose(1, 2).reshape(-1, side * side)
    return (windows[:, :, None] != windows[:, None, :]).float()


def _projection(width: int, embedding: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, embedding), nn.ReLU(), nn.Linear(embedding, embedding))
