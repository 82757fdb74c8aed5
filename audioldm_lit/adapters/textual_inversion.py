"""A new word for the sound: the text tower learns what it means, the UNet stays as it is."""

import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import normalizers
from torch import Tensor, nn
from transformers import AddedToken

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError


class TextualInversion(Adapter):
    """Train the embedding of a new word and nothing else (Gal et al. 2022, arXiv 2208.01618).

    The captions must contain the word, e.g. `data.init_args.caption: "<mine> {label}"`, and so must the prompts.

    Args:
        token: The new word: letters, digits, `-` and `_` in angle brackets.
        initial: Known word or words; the new one starts at their mean embedding.
        num_vectors: Embeddings that the word stands for, at least 1. Several are the tokens `<mine_0>`, `<mine_1>` ... to the text
            tower, and `<mine>` is expanded before it is tokenised.
    """

    def __init__(self, token: str = "<mine>", initial: str = "sound", num_vectors: int = 1) -> None:
        if not re.fullmatch(r"<[\w-]+>", token):  # brackets, because a bare word would also match inside others
            raise InputError("model.adapter.init_args.token", f"is '{token}'", "give a word in angle brackets, e.g. <mine>")
        if not initial.strip():
            raise InputError("model.adapter.init_args.initial", "is empty", "give a word to start from, e.g. sound")
        if num_vectors < 1:
            raise InputError("model.adapter.init_args.num_vectors", f"is {num_vectors}", "give at least 1")
        self.token = token
        self.initial = initial
        self.num_vectors = num_vectors

    def inject(self, backbone: Backbone) -> None:
        """Teach the tokenizer the word and add its embeddings to the text tower."""
        words: Any = backbone.text_encoder.text_model.embeddings  # whose table becomes another module
        # With a space before it, as words are written within a sentence: RoBERTa has another token for the first word.
        known = backbone.tokenizer(f" {self.initial}", add_special_tokens=False, return_tensors="pt").input_ids.to(backbone.device)
        start = words.word_embeddings(known).mean(dim=1)  # (1, T, D) -> (1, D)
        first = self._add_tokens(backbone)
        words.word_embeddings = ExtendedEmbedding(words.word_embeddings, start.repeat(self.num_vectors, 1), first).eval()

    def merge(self, backbone: Backbone) -> None:
        """Make one table of the old and new embeddings."""
        words: Any = backbone.text_encoder.text_model.embeddings  # whose table becomes another module
        words.word_embeddings = words.word_embeddings.merged()
        backbone.text_encoder.config.vocab_size = words.word_embeddings.num_embeddings

    def prompt_embeds(self, backbone: Backbone, captions: Sequence[str], embeds: Tensor) -> Tensor:
        """Embed the captions that contain the word anew, with gradients; the others keep their embeddings.

        Raises:
            InputError: If no caption of a training batch contains the word.
        """
        places = [place for place, caption in enumerate(captions) if self.token in caption]
        if places:
            ours = backbone.embed_text([captions[place] for place in places])
            return embeds.index_copy(0, torch.tensor(places, device=embeds.device), ours.to(embeds))
        if torch.is_grad_enabled():
            raise InputError(
                "model.adapter.init_args.token",
                f"no caption of a training batch holds {self.token}, the first is '{captions[0]}'",
                f'put the word into the captions, e.g. data.init_args.caption: "{self.token} {{label}}"',
            )
        return embeds

    def _add_tokens(self, backbone: Backbone) -> int:
        """Add the word to the tokenizer; returns the first of its token ids."""
        tokenizer = backbone.tokenizer
        stem = self.token.removesuffix(">")
        names = [self.token] if self.num_vectors == 1 else [f"{stem}_{number}>" for number in range(self.num_vectors)]
        taken = tokenizer.get_vocab().keys() & {self.token, *names}
        if taken:
            raise InputError("model.adapter.init_args.token", f"the tokenizer already has {min(taken)}", "choose another word")
        # Like <mask> of RoBERTa the word swallows the space before it, which would otherwise become a token of its own.
        tokenizer.add_tokens([AddedToken(name, lstrip=True, normalized=True) for name in names])
        expand = normalizers.Replace(self.token, "".join(names))
        present = tokenizer.backend_tokenizer.normalizer
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([present, expand]) if present else expand
        return tokenizer.get_vocab()[names[0]]


class ExtendedEmbedding(nn.Module):
    """A frozen embedding table followed by rows that train.

    Args:
        base: The frozen table.
        rows: Starting values (N, D) of the trained rows.
        first: Token id of the first of them.
    """

    def __init__(self, base: nn.Embedding, rows: Tensor, first: int) -> None:
        super().__init__()
        self.base = base
        self.rows = nn.Parameter(rows)
        self.first = first

    def forward(self, input_ids: Tensor) -> Tensor:
        """Token ids (B, T) -> embeddings (B, T, D)."""
        ours = input_ids >= self.first
        new = F.embedding((input_ids - self.first).clamp(min=0), self.rows)
        return torch.where(ours[..., None], new, self.base(input_ids.masked_fill(ours, 0)))

    def merged(self) -> nn.Embedding:
        """The same as one frozen table."""
        old, end = self.base.weight.detach(), self.first + len(self.rows)
        table = torch.cat([old[: self.first], self.rows.detach(), old[end:]])
        return nn.Embedding.from_pretrained(table, padding_idx=self.base.padding_idx)
