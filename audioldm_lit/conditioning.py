"""What the UNet is conditioned on: the caption, the sound itself, both, what a caption calls to mind, or nothing.

CLAP puts text and audio into one space and AudioLDM takes one vector, so an audio embedding can stand in for a caption (Liu et
al. 2023, arXiv 2301.12503, section 3.1).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
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
        drawn = seeding.uniform(generators).to(text.device)
        dropped = seeding.uniform(generators).to(text.device) < self.dropout
        cond = text
        if self.needs_audio:
            if audio is None:
                raise ValueError("conditions on sound need `audio`.")
            cond = self.between(text, audio, drawn[:, None])
        return torch.where(dropped[:, None], unconditional, cond)

    def between(self, text: Tensor, audio: Tensor, drawn: Tensor) -> Tensor:
        """Condition of each sample (B, D) of embeddings (B, D), by a number drawn evenly from 0 to 1 (B, 1): one of the two."""
        return torch.where(drawn < self.audio_probability, audio, text)


class Interpolated(Conditioning):
    """Condition each training sample on a point between its caption and its own sound.

    The point is drawn evenly from the line between the two embeddings, as mixup draws (Zhang et al. 2018, arXiv 1710.09412), and
    brought back to norm 1, which CLAP's embeddings have. Held-out loss and scores are on captions.

    Args:
        dropout: As in `Conditioning`.
    """

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__(0.5, dropout)  # half of it is sound, on average

    def between(self, text: Tensor, audio: Tensor, drawn: Tensor) -> Tensor:
        """The point at the share of sound that was drawn."""
        return F.normalize(torch.lerp(text, audio, drawn), dim=-1)


class Recalled(Conditioning, ABC):
    """Condition on training recordings that a caption calls to mind, in training as in generation.

    From the first training step on every text's embedding is replaced by the mean of some embeddings of training recordings, the
    base alone is measured on texts as they are. What is remembered is of training clips, never of a held-out one, and goes into
    the adapter file: `generate` reads prompts in the same way. It is no sound, but other recordings can be compared with it, so
    whoever shares the file shares that.

    Args:
        strength: How much of the text's embedding is replaced, above 0 and up to 1; in between it is a mean by this weight.
        dropout: As in `Conditioning`.
    """

    neighbours: int = 1
    """How many of what is remembered are averaged."""
    by_words: bool = False
    """Whether what is remembered is found by the likeness of words, or of its sound, to the text."""

    def __init__(self, strength: float = 1.0, dropout: float = 0.1) -> None:
        super().__init__(0.0, dropout)
        if not 0 < strength <= 1:
            raise InputError("model.conditioning.strength", f"is {strength}", "give a number above 0 and up to 1")
        self.strength = strength

    @property
    def needs_audio(self) -> bool:
        """They are remembered."""
        return True

    @abstractmethod
    def check(self, classes: Sequence[str]) -> None:
        """Refuse training clips, given by their classes, of which nothing of use can be remembered."""

    @abstractmethod
    def remembered(self, text: Tensor, audio: Tensor, classes: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """What is remembered of training clips.

        Args:
            text: Embeddings (N, D) of the clips' captions.
            audio: Of their sound (N, D).
            classes: Of the clips.

        Returns:
            Embeddings of sound (K, D) of norm 1, and where `by_words` those of words (K, D) that they are found by.
        """


class Centroid(Recalled):
    """Condition on the centroid of a caption's class: the mean of the CLAP audio embeddings of its training clips, of norm 1.

    A class is that of the data set, or where it has none all clips of one caption. A prompt is taken for the class whose captions
    it reads most like, as prototypical networks classify (Snell et al. 2017, arXiv 1703.05175). The adapter file holds two
    embeddings a class, of sound and words.
    """

    by_words = True

    def check(self, classes: Sequence[str]) -> None:
        """Refuse classes of a single clip."""
        if len(set(classes)) == len(classes):
            problem = f"takes the mean of a class, and none of the {len(classes)} has more than one training clip"
            raise InputError("model.conditioning", problem, "give more shots, or take configs/conditioning/retrieval.yaml")

    def remembered(self, text: Tensor, audio: Tensor, classes: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Centroids of sound and words, one a class, in order of the classes' names."""
        rows = [[place for place, name in enumerate(classes) if name == one] for one in sorted(set(classes))]
        sounds, words = (torch.stack([values[row].double().mean(0) for row in rows]) for values in (audio, text))
        return F.normalize(sounds, dim=-1).float(), F.normalize(words, dim=-1).float()


class Retrieval(Recalled):
    """Condition on the training clips that sound nearest to the text: the mean of their CLAP audio embeddings, of norm 1.

    CLAP puts text and audio into one space, where the likeness is the cosine. The adapter file holds an embedding a clip.

    Args:
        neighbours: How many clips, at least 1.
        strength: As in `Recalled`.
        dropout: As in `Conditioning`.
    """

    def __init__(self, neighbours: int = 4, strength: float = 1.0, dropout: float = 0.1) -> None:
        super().__init__(strength, dropout)
        if neighbours < 1:
            raise InputError("model.conditioning.neighbours", f"is {neighbours}", "give at least 1")
        self.neighbours = neighbours

    def check(self, classes: Sequence[str]) -> None:
        """Refuse fewer clips than are averaged."""
        if len(classes) < self.neighbours:
            problem = f"is {self.neighbours}, and there are {len(classes)} training clips"
            raise InputError("model.conditioning.neighbours", problem, "give a smaller number, or more clips")

    def remembered(self, text: Tensor, audio: Tensor, classes: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Every clip."""
        return audio, None
