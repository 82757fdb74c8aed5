"""The autoencoder: `first_stage_model.*` and `vae/`."""

from collections.abc import Iterator
from typing import Any

from diffusers.models import AutoencoderKL
from torch import Tensor, nn

from audioldm_lit import seeding
from audioldm_lit.networks.original.part import DiffusersPart, Place, Settings, Shapes, numbers
from audioldm_lit.networks.original.reference import vae

ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
MEL_FRAMES = 1024  # 10.24 s


class VAE(DiffusersPart):
    """Encoder and decoder; the scaling factor is a tensor of the checkpoint of its own."""

    folder = "vae"
    prefix = "first_stage_model."
    network = AutoencoderKL

    def settings(self, shapes: Shapes) -> Settings:
        """Widths of every level."""
        levels = numbers(shapes, "encoder.down.")
        return {
            "in_channels": shapes["encoder.conv_in.weight"][1],
            "out_channels": shapes["decoder.conv_out.weight"][0],
            "latent_channels": shapes["post_quant_conv.weight"][1],
            "layers_per_block": numbers(shapes, "encoder.down.0.block."),
            "block_out_channels": [shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels)],
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "sample_size": MEL_FRAMES,
        }

    def modules(self, settings: Settings) -> Iterator[tuple[str, Place]]:
        """The original counts the decoder's levels from the widest picture, diffusers from the narrowest."""
        levels, layers = len(settings["block_out_channels"]), settings["layers_per_block"]
        for name in ("quant_conv", "post_quant_conv"):
            yield name, Place(name)
        for side in ("encoder", "decoder"):
            for name, original in {"conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out"}.items():
                yield f"{side}.{name}", Place(f"{side}.{original}")
            for number in (0, 1):
                yield from _residual(f"{side}.mid_block.resnets.{number}", f"{side}.mid.block_{number + 1}")
            yield f"{side}.mid_block.attentions.0.group_norm", Place(f"{side}.mid.attn_1.norm")
            for name, original in ATTENTION.items():
                yield f"{side}.mid_block.attentions.0.{name}", Place(f"{side}.mid.attn_1.{original}", pointwise=True)
        for level in range(levels):
            above = levels - 1 - level
            for layer in range(layers):
                yield from _residual(f"encoder.down_blocks.{level}.resnets.{layer}", f"encoder.down.{level}.block.{layer}")
            for layer in range(layers + 1):
                yield from _residual(f"decoder.up_blocks.{level}.resnets.{layer}", f"decoder.up.{above}.block.{layer}")
            yield f"encoder.down_blocks.{level}.downsamplers.0.conv", Place(f"encoder.down.{level}.downsample.conv")
            yield f"decoder.up_blocks.{level}.upsamplers.0.conv", Place(f"decoder.up.{above}.upsample.conv")

    def reference(self, settings: Settings) -> nn.Module:
        """The original's."""
        return vae.VAE(
            settings["in_channels"], settings["block_out_channels"], settings["layers_per_block"], settings["latent_channels"]
        )

    def compared(self, ours: Any, reference: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Moments of a picture of noise, and a picture of latents of noise."""
        key = [seeding.generator("original")]
        picture = seeding.normal(key, (ours.config["in_channels"], 64, 64))
        yield ours.encode(picture).latent_dist.parameters, reference.encode(picture)
        latents = seeding.normal(key, (ours.config["latent_channels"], 16, 16))
        yield ours.decode(latents, return_dict=False)[0], reference.decode(latents)


def _residual(ours: str, original: str) -> Iterator[tuple[str, Place]]:
    yield ours, Place(original)
    yield f"{ours}.conv_shortcut", Place(f"{original}.nin_shortcut")
