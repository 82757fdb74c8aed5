"""What the UNet is conditioned on: the caption, the sound itself, or nothing.

CLAP puts text and audio into one space and AudioLDM takes one vector, so an audio embedding can stand in for a caption (Liu et
al. 2023, arXiv 2301.12503, section 3.1).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.errors import InputError


class Conditioning:
    """Choose each training sample's condition.

    Held-out loss is taken on captions whatever the training used, so that all settings answer the same question; only in a data
    set without captions is it taken on the clips' own audio embeddings. Scores are of clips generated from captions: captions are
    what a user types, and the embedding of the very clip that a score compares with would give the answer away.

    Args:
        audio_probability: Probability in [0, 1] that a sample is conditioned on its own CLAP audio embedding instead of its
            caption's text embedding. 0 trains on captions alone, 1 on sound alone, which needs no captions.
        dropout: Probability in [0, 1] that a training sample is conditioned on the empty prompt, which classifier-free guidance
            needs (Ho and Salimans 2022, arXiv 2207.12598). Never applied outside training.
    """

    def __init__(self, audio_probability: float = 0.0, dropout: float = 0.1) -> None:
        for name, value in (("audio_probability", audio_probability), ("dropout", dropout)):
            if not 0 <= value <= 1:
                raise InputError(f"model.conditioning.{name}", f"is {value}", "give a probability from 0 to 1")
        self.audio_probability = audio_probability
        self.dropout = dropout

    @property
    def needs_audio(self) -> bool:
        """Whether CLAP audio embeddings are ever used."""
        return self.audio_probability > 0

    @property
    def needs_captions(self) -> bool:
        """Whether captions are ever used."""
        return self.audio_probability < 1

    def draw(self, text: Tensor, audio: Tensor | None, unconditional: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw the condition of every sample.

        Args:
            text: Text embeddings (B, D).
            audio: Audio embeddings (B, D); needed where `needs_audio`.
            unconditional: Embedding of the empty prompt (D,).
            generators: One a sample; two numbers are drawn from each, whatever the settings.

        Returns:
            Conditions (B, D).
        """
        from_audio = seeding.uniform(generators) < self.audio_probability
        dropped = seeding.uniform(generators) < self.dropout
        cond = text
        if self.needs_audio:
            if audio is None:
                raise ValueError("conditions on sound need `audio`.")
            cond = torch.where(from_audio[:, None].to(text.device), audio, text)
        return torch.where(dropped[:, None].to(text.device), unconditional, cond)
