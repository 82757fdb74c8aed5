"""The UNet: `model.diffusion_model.*` and `unet/`."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models import UNet2DConditionModel
from torch import Tensor, nn

from audioldm_lit import seeding
from audioldm_lit.networks.original.part import DiffusersPart, Place, Settings, Shapes, numbers
from audioldm_lit.networks.original.reference import unet
from audioldm_lit.networks.published import original_heads

LATENT_FRAMES = 256  # 10.24 s, on which every published model was trained
RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
FIRST_AND_LAST = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "class_embedding": "film_emb",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.attentions.0": "middle_block.1",
}


class UNet(DiffusersPart):
    """Levels of residual blocks, most of them with attention."""

    folder = "unet"
    prefix = "model.diffusion_model."
    network = UNet2DConditionModel

    def settings(self, shapes: Shapes) -> Settings:
        """Widths and attention of every level, and heads as the original counts them: so many channels each."""
        widths, attends, layers = _levels(shapes)
        return {
            "sample_size": LATENT_FRAMES,
            "in_channels": shapes["input_blocks.0.0.weight"][1],
            "out_channels": shapes["out.2.weight"][0],
            "layers_per_block": layers,
            "block_out_channels": widths,
            "cross_attention_dim": widths,
            "attention_head_dim": original_heads({"block_out_channels": widths}, "the UNet"),  # heads, in spite of its name
            "down_block_types": ["CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in attends],
            "up_block_types": ["CrossAttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(attends)],
            "class_embed_type": "simple_projection",
            "projection_class_embeddings_input_dim": shapes["film_emb.weight"][1],
            "class_embeddings_concat": True,
        }

    def modules(self, settings: Settings) -> Iterator[tuple[str, Place]]:
        """The original numbers its blocks through all levels, diffusers within each."""
        layers, levels = settings["layers_per_block"], len(settings["block_out_channels"])
        yield from ((ours, Place(original)) for ours, original in FIRST_AND_LAST.items())
        yield from _residual("mid_block.resnets.0", "middle_block.0")
        yield from _residual("mid_block.resnets.1", "middle_block.2")
        for level in range(levels):
            for layer in range(layers):
                down = f"input_blocks.{1 + level * (layers + 1) + layer}"
                yield from _residual(f"down_blocks.{level}.resnets.{layer}", f"{down}.0")
                yield f"down_blocks.{level}.attentions.{layer}", Place(f"{down}.1")
            yield f"down_blocks.{level}.downsamplers.0.conv", Place(f"input_blocks.{(level + 1) * (layers + 1)}.0.op")
            for layer in range(layers + 1):
                up = f"output_blocks.{level * (layers + 1) + layer}"
                yield from _residual(f"up_blocks.{level}.resnets.{layer}", f"{up}.0")
                yield f"up_blocks.{level}.attentions.{layer}", Place(f"{up}.1")
            sampler = 2 if settings["up_block_types"][level].startswith("CrossAttn") else 1
            yield f"up_blocks.{level}.upsamplers.0.conv", Place(f"output_blocks.{(level + 1) * (layers + 1) - 1}.{sampler}.conv")

    def reference(self, settings: Settings) -> nn.Module:
        """The original's."""
        widths = settings["block_out_channels"]
        head = widths[-1] // original_heads(settings, self.folder)[-1]
        attends = [kind.startswith("CrossAttn") for kind in settings["down_block_types"]]
        return unet.UNet(
            settings["in_channels"], widths, settings["layers_per_block"], attends,
            settings["projection_class_embeddings_input_dim"], head,
        )  # fmt: skip

    def compared(self, ours: Any, reference: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """On noise, at an early and a late timestep."""
        keys = [seeding.generator("original", place) for place in range(2)]
        latents = seeding.normal(keys, (ours.config["in_channels"], 32, 16))
        cond = F.normalize(seeding.normal(keys, (ours.config["projection_class_embeddings_input_dim"],)), dim=-1)
        timesteps = torch.tensor([900, 100])
        yield ours(latents, timesteps, None, class_labels=cond, return_dict=False)[0], reference(latents, timesteps, cond)


def _levels(shapes: Shapes) -> tuple[list[int], list[bool], int]:
    """Channels of every level, whether it has attention, and residual blocks of a level."""
    widths, attends, layers, begins = [], [], [], True
    for number in range(1, numbers(shapes, "input_blocks.")):
        if f"input_blocks.{number}.0.op.weight" in shapes:
            begins = True
            continue
        if begins:
            widths.append(shapes[f"input_blocks.{number}.0.out_layers.3.weight"][0])
            attends.append(f"input_blocks.{number}.1.proj_in.weight" in shapes)
            layers.append(0)
        layers[-1] += 1
        begins = False
    return widths, attends, layers[0]


def _residual(ours: str, original: str) -> Iterator[tuple[str, Place]]:
    return ((f"{ours}.{name}", Place(f"{original}.{there}")) for name, there in RESIDUAL.items())
