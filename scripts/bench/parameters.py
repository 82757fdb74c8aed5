"""Count what every shipped adapter trains on AudioLDM-S: `python scripts/bench/parameters.py` prints a Markdown table.

The published S model has random weights here: an adapter's size follows from the shapes.
"""

import argparse
import copy
from pathlib import Path

import torch
import yaml
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import ClapTextConfig, ClapTextModelWithProjection, SpeechT5HifiGan, SpeechT5HifiGanConfig

from audioldm_lit.adapters.base import Adapter, trainable
from audioldm_lit.adapters.files import making
from audioldm_lit.backbone import Backbone
from audioldm_lit.places import NANO, REPOSITORY

WIDTHS = [128, 256, 384, 640]
UNET = {
    "block_out_channels": WIDTHS, "cross_attention_dim": WIDTHS, "attention_head_dim": [4, 8, 12, 20], "layers_per_block": 2,
    "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 3],
    "up_block_types": [*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"],
    "norm_num_groups": 32, "projection_class_embeddings_input_dim": 512,
}  # fmt: skip
VAE = {"block_out_channels": [128, 256, 512], "layers_per_block": 2, "norm_num_groups": 32, "mid_block_add_attention": True}
VOCODER = {"upsample_initial_channel": 1024, "upsample_rates": [5, 4, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 8, 4, 4]}


def audioldm_s() -> Backbone:
    """AudioLDM-S (Liu et al. 2023, arXiv 2301.12503) where adapters work; the audio tower is the toy model's."""
    backbone = Backbone.load(NANO)
    backbone.unet = UNet2DConditionModel.from_config({**backbone.unet.config, **UNET})
    backbone.text_encoder = ClapTextModelWithProjection(ClapTextConfig())
    backbone.vae = AutoencoderKL.from_config({**backbone.vae.config, **VAE})
    backbone.vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig(model_in_dim=64, **VOCODER))
    return backbone.requires_grad_(False).eval()


def make(config: Path) -> Adapter:
    """The adapter that a YAML file describes."""
    return making.make(Adapter, {"init_args": {}, **yaml.safe_load(config.read_text())}, config)


def count(config: Path, base: Backbone) -> int:
    """Numbers that the adapter trains in a copy of `base`."""
    backbone = copy.deepcopy(base)
    make(config).inject(backbone)
    return sum(weight.numel() for weight in trainable(backbone).values())


def main() -> None:
    """Print one row for each YAML under configs/adapter, fewest parameters first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="count on this model folder instead, e.g. checkpoints/audioldm-nano")
    model = parser.parse_args().model
    torch.manual_seed(0)
    base = Backbone.load(model) if model else audioldm_s()
    configs = (REPOSITORY / "configs" / "adapter").glob("*.yaml")
    counts = sorted((count(config, base), config.stem, config) for config in configs)
    print(f"| adapter | what it is | parameters on {model or 'AudioLDM-S'} |\n|---|---|---:|")
    for number, name, config in counts:
        comment = config.read_text().splitlines()[0].removeprefix("# ")
        print(f"| `{name}` | {comment} | {number:,} |")


if __name__ == "__main__":
    main()
