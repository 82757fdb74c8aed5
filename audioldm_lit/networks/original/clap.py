"""CLAP's two towers: `cond_stage_model.model.*`, and `text_encoder/` and `audio_encoder/`."""

from collections.abc import Iterator
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    ClapAudioModelWithProjection,
    ClapTextConfig,
    ClapTextModelWithProjection,
    RobertaConfig,
)

from audioldm_lit import seeding
from audioldm_lit.networks.original.part import Place, Settings, Shapes, TransformersPart, numbers
from audioldm_lit.networks.original.reference import clap

HEAD = 64  # channels of a head of RoBERTa
EPSILON = 1e-5  # of RoBERTa's layer norms; CLAP's settings have another by default
SHARED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings",
    "type_vocab_size", "layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip
BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.self": "attn",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
# What the front end of LAION's CLAP is, in all its published versions.
FRONT_END: dict[str, Any] = {
    "sampling_rate": 48_000, "hop_length": 480, "fft_window_size": 1024, "feature_size": 64, "max_length_s": 10,
    "frequency_min": 50, "frequency_max": 14_000, "truncation": "rand_trunc", "padding": "repeatpad",
}  # fmt: skip


class TextTower(TransformersPart):
    """RoBERTa and two linear layers."""

    folder = "text_encoder"
    network = ClapTextModelWithProjection
    prefix = "cond_stage_model.model."

    def settings(self, shapes: Shapes) -> Settings:
        """Sizes of the layers."""
        branch = "text_branch"
        hidden = shapes[f"{branch}.embeddings.word_embeddings.weight"][1]
        return {
            "vocab_size": shapes[f"{branch}.embeddings.word_embeddings.weight"][0],
            "hidden_size": hidden,
            "num_hidden_layers": numbers(shapes, f"{branch}.encoder.layer."),
            "num_attention_heads": max(1, hidden // HEAD),
            "intermediate_size": shapes[f"{branch}.encoder.layer.0.intermediate.dense.weight"][0],
            "max_position_embeddings": shapes[f"{branch}.embeddings.position_embeddings.weight"][0],
            "type_vocab_size": shapes[f"{branch}.embeddings.token_type_embeddings.weight"][0],
            "layer_norm_eps": EPSILON,
            "projection_dim": shapes["text_projection.0.weight"][0],
        }

    def modules(self, settings: Settings) -> Iterator[tuple[str, Place]]:
        """The original uses transformers' RoBERTa as well."""
        yield "text_model", Place("text_branch")
        yield from _projection("text_projection")

    def born_with(self, settings: Settings) -> dict[str, Tensor]:
        """Numbers of places, and zeros for the one type of tokens."""
        places = torch.arange(settings["max_position_embeddings"])[None]
        embeddings = "text_model.embeddings"
        return {f"{embeddings}.position_ids": places, f"{embeddings}.token_type_ids": torch.zeros_like(places)}

    def reference(self, settings: Settings) -> nn.Module:
        """The original's."""
        filled = ClapTextConfig(**settings)
        return clap.TextTower(RobertaConfig(**{name: getattr(filled, name) for name in SHARED}), filled.projection_dim)

    def compared(self, ours: Any, reference: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """On two texts of random tokens, one of them padded."""
        tokens = torch.randint(3, ours.config.vocab_size, (2, 12), generator=seeding.generator("original"))
        mask = torch.ones_like(tokens)
        tokens[1, 8:], mask[1, 8:] = ours.config.pad_token_id, 0
        yield ours(input_ids=tokens, attention_mask=mask).text_embeds, reference(tokens, mask)


class AudioTower(TransformersPart):
    """HTSAT and two linear layers."""

    folder = "audio_encoder"
    network = ClapAudioModelWithProjection
    prefix = "cond_stage_model.model."

    def settings(self, shapes: Shapes) -> Settings:
        """Depth and heads of every stage."""
        layers = "audio_branch.layers."
        stages = range(numbers(shapes, layers))
        tables = [shapes[f"{layers}{stage}.blocks.0.attn.relative_position_bias_table"] for stage in stages]
        return {
            "num_mel_bins": shapes["audio_branch.bn0.weight"][0],
            "spec_size": clap.PICTURE,
            "patch_size": shapes["audio_branch.patch_embed.proj.weight"][2],
            "patch_embeds_hidden_size": shapes["audio_branch.patch_embed.proj.weight"][0],
            "hidden_size": shapes["audio_branch.norm.weight"][0],
            "depths": [numbers(shapes, f"{layers}{stage}.blocks.") for stage in stages],
            "num_attention_heads": [table[1] for table in tables],
            "window_size": (isqrt(tables[0][0]) + 1) // 2,
            "projection_dim": shapes["audio_projection.0.weight"][0],
            "enable_fusion": False,
        }

    def modules(self, settings: Settings) -> Iterator[tuple[str, Place]]:
        """The original holds query, key and value in one matrix."""
        encoder, branch = "audio_model.audio_encoder", "audio_branch"
        for name, original in {"patch_embed": "patch_embed", "batch_norm": "bn0", "norm": "norm"}.items():
            yield f"{encoder}.{name}", Place(f"{branch}.{original}")
        for stage, depth in enumerate(settings["depths"]):
            yield f"{encoder}.layers.{stage}.downsample", Place(f"{branch}.layers.{stage}.downsample")
            for number in range(depth):
                ours, original = (f"{side}.layers.{stage}.blocks.{number}" for side in (encoder, branch))
                yield from ((f"{ours}.{name}", Place(f"{original}.{there}")) for name, there in BLOCK.items())
                for third, name in enumerate(("query", "key", "value")):
                    yield f"{ours}.attention.self.{name}", Place(f"{original}.attn.qkv", third)
        yield from _projection("audio_projection")

    def reference(self, settings: Settings) -> nn.Module:
        """The original's."""
        return clap.AudioTower(
            settings["num_mel_bins"], settings["patch_embeds_hidden_size"], settings["depths"],
            settings["num_attention_heads"], settings["window_size"], settings["projection_dim"],
        )  # fmt: skip

    def compared(self, ours: Any, reference: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """On a log-mel of noise, as long as the front end makes them."""
        bins = ours.config.num_mel_bins
        log_mel = 20 * seeding.normal([seeding.generator("original")], (1, 1001, bins)) - 40
        yield ours(log_mel).audio_embeds, reference(log_mel)


def _projection(name: str) -> Iterator[tuple[str, Place]]:
    """Two linear layers, which are 0 and 2 of a sequence there."""
    return ((f"{name}.linear{number + 1}", Place(f"{name}.{2 * number}")) for number in (0, 1))
