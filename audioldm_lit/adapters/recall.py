"""Texts read as the training recordings that they call to mind, see `Recalled` in `audioldm_lit.conditioning`."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError


class Recall(Adapter):
    """Replace a text's embedding by the mean of those of sounds that are nearest to it; the empty text stays as it is.

    It trains nothing: it stands behind another adapter in `Composed`, so that the file of that one carries what is remembered.

    Args:
        size: How many sounds are remembered.
        neighbours: How many are averaged, from 1 to `size`.
        strength: How much of the text's embedding is replaced, above 0 and up to 1.
        by_words: Whether the nearest are found by words that are remembered with them, or by the sounds themselves.
    """

    identity_at_start = False

    def __init__(self, size: int, neighbours: int = 1, strength: float = 1.0, by_words: bool = False) -> None:
        if not 1 <= neighbours <= size:
            raise InputError("neighbours", f"is {neighbours} of {size} remembered sounds", "give a number from 1 to as many")
        self.size = size
        self.neighbours = neighbours
        self.strength = strength
        self.by_words = by_words

    def inject(self, backbone: Backbone) -> None:
        """Add an empty memory."""
        backbone.memory = Memory(self.size, backbone.text_encoder.config.projection_dim, self.by_words).to(backbone.device)

    def prompt_embeds(self, backbone: Backbone, captions: Sequence[str], embeds: Tensor) -> Tensor:
        """What is recalled, of norm 1."""
        sounds = backbone.get_submodule("memory")(embeds, self.neighbours)
        mixed = F.normalize(torch.lerp(embeds, sounds, self.strength), dim=-1)
        empty = torch.tensor([not caption for caption in captions], device=embeds.device)  # what guidance steers away from
        return torch.where(empty[:, None], embeds, mixed)

    def negative_embeds(self, backbone: Backbone, captions: Sequence[str], embeds: Tensor) -> Tensor:
        """As text: recalled, it could be the very sound that is asked for."""
        return embeds


class Memory(nn.Module):
    """Embeddings of norm 1: `sounds` (N, D), and perhaps `words` (N, D) to find them by; no numbers until they are filled in."""

    def __init__(self, size: int, width: int, by_words: bool) -> None:
        super().__init__()
        self.sounds = nn.Buffer(torch.full((size, width), torch.nan))
        self.words = nn.Buffer(torch.full((size, width), torch.nan)) if by_words else None

    def forward(self, embeds: Tensor, neighbours: int) -> Tensor:
        """Normalised mean (B, D) of the sounds nearest to embeddings (B, D)."""
        known = self.sounds if self.words is None else self.words
        with torch.autocast(embeds.device.type, enabled=False):  # the nearest of training would not be those of generation
            nearest = (embeds.float() @ known.T).topk(neighbours).indices  # (B, k)
        return F.normalize(self.sounds[nearest].mean(dim=1), dim=-1)
