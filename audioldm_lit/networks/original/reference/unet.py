"""The original's UNet: residual blocks and self-attention; time and the CLAP vector enter side by side (arXiv 2301.12503)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32


class UNet(nn.Module):
    """Noise in latents.

    Args:
        channels: Channels of the latents.
        widths: Channels of every level.
        layers: Residual blocks a level on the way down; one more on the way up.
        attends: Whether a level has attention.
        embedding: Width of the CLAP vector.
        head: Channels of an attention head.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], layers: int, attends: Sequence[bool], embedding: int, head: int
    ) -> None:
        super().__init__()
        first, last = widths[0], widths[-1]
        self.time_embed = nn.Sequential(nn.Linear(first, 4 * first), nn.SiLU(), nn.Linear(4 * first, 4 * first))
        self.film_emb = nn.Linear(embedding, 4 * first)
        condition = 8 * first
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(channels, first, 3, padding=1)])])
        kept, before = [first], first  # channels of what the way up will be given
        for level, (width, attention) in enumerate(zip(widths, attends, strict=True)):
            for _ in range(layers):
                self.input_blocks.append(_stage(before, width, condition, head if attention else 0))
                before = width
                kept.append(width)
            if level < len(widths) - 1:
                self.input_blocks.append(nn.ModuleList([Down(width)]))
                kept.append(width)
        self.middle_block = nn.ModuleList(
            [Residual(last, last, condition), Transformer(last, head), Residual(last, last, condition)]
        )
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for layer in range(layers + 1):
                stage = _stage(before + kept.pop(), widths[level], condition, head if attends[level] else 0)
                before = widths[level]
                if level and layer == layers:
                    stage.append(Up(before))
                self.output_blocks.append(stage)
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, first), nn.SiLU(), nn.Conv2d(first, channels, 3, padding=1))

    def forward(self, latents: Tensor, timesteps: Tensor, cond: Tensor) -> Tensor:
        """Noise in latents (B, C, F/4, M/4) at `timesteps` (B,), given embeddings (B, D)."""
        half = self.film_emb.out_features // 8
        angles = timesteps[:, None].float() * torch.exp(-math.log(10_000) * torch.arange(half) / half)
        time = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        condition = torch.cat([time, self.film_emb(cond)], dim=1)
        hidden, kept = latents, []
        for stage in self.input_blocks:
            hidden = _run(stage, hidden, condition)
            kept.append(hidden)
        hidden = _run(self.middle_block, hidden, condition)
        for stage in self.output_blocks:
            hidden = _run(stage, torch.cat([hidden, kept.pop()], dim=1), condition)
        return self.out(hidden)


class Residual(nn.Module):
    """Two convolutions, with the condition added between them."""

    def __init__(self, before: int, width: int, condition: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(GROUPS, before), nn.SiLU(), nn.Conv2d(before, width, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(condition, width))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Identity(), nn.Conv2d(width, width, 3, padding=1)
        )  # fmt: skip
        self.skip_connection = nn.Conv2d(before, width, 1) if before != width else nn.Identity()

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        changed = self.in_layers(hidden) + self.emb_layers(condition)[:, :, None, None]
        return self.skip_connection(hidden) + self.out_layers(changed)


class Transformer(nn.Module):
    """Attention twice and a gated layer, over all places of a picture."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, head)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        places = self.proj_in(self.norm(hidden)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            places = block(places)
        return hidden + self.proj_out(places.transpose(1, 2).reshape(hidden.shape))


class TransformerBlock(nn.Module):
    """Both attentions look at the picture itself: AudioLDM's text does not come this way."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.attn1, self.attn2 = Attention(width, head), Attention(width, head)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.ff: Any = nn.Module()
        self.ff.net = nn.Sequential(Gated(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, places: Tensor) -> Tensor:
        """(B, N, C) -> the same shape."""
        places = places + self.attn1(self.norm1(places))
        places = places + self.attn2(self.norm2(places))
        return places + self.ff.net(self.norm3(places))


class Attention(nn.Module):
    """Self-attention with heads of a fixed number of channels."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.heads = width // head
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, places: Tensor) -> Tensor:
        """(B, N, C) -> the same shape."""
        query, key, value = (
            part(places).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.to_q, self.to_k, self.to_v)
        )
        weights = (query @ key.transpose(2, 3) / math.sqrt(query.shape[3])).softmax(dim=3)
        return self.to_out((weights @ value).transpose(1, 2).flatten(2))


class Gated(nn.Module):
    """One half of a linear layer, weighted by GELU of the other."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, places: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, inner)."""
        value, gate = self.proj(places).chunk(2, dim=2)
        return value * F.gelu(gate)


class Down(nn.Module):
    """Half the height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2)."""
        return self.op(hidden)


class Up(nn.Module):
    """Twice the height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2 H, 2 W)."""
        return self.conv(F.interpolate(hidden, scale_factor=2.0))


def _stage(before: int, width: int, condition: int, head: int) -> nn.ModuleList:
    """A residual block, and attention where heads have channels."""
    return nn.ModuleList([Residual(before, width, condition), *([Transformer(width, head)] if head else [])])


def _run(stage: Any, hidden: Tensor, condition: Tensor) -> Tensor:
    for layer in stage:
        hidden = layer(hidden, condition) if isinstance(layer, Residual) else layer(hidden)
    return hidden
