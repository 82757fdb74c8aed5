"""AudioLDM-S in its real shape with random weights (Liu et al. 2023, arXiv 2301.12503)."""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import (
    ClapAudioConfig,
    ClapAudioModelWithProjection,
    ClapFeatureExtractor,
    ClapTextConfig,
    ClapTextModelWithProjection,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
)

from audioldm_lit.backbone import Backbone
from audioldm_lit.device import device_named
from audioldm_lit.places import NANO

WIDTHS = [128, 256, 384, 640]
UNET = {
    "block_out_channels": WIDTHS, "cross_attention_dim": WIDTHS, "attention_head_dim": [width // 32 for width in WIDTHS],
    "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 3],
    "up_block_types": [*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"],
    "layers_per_block": 2, "norm_num_groups": 32, "projection_class_embeddings_input_dim": 512,
}  # fmt: skip
VAE = {"block_out_channels": [128, 256, 512], "layers_per_block": 2, "norm_num_groups": 32, "mid_block_add_attention": True}
HEARS = {"frequency_min": 50, "frequency_max": 14_000, "truncation": "rand_trunc", "padding": "repeatpad"}
VOCODER = {"model_in_dim": 64, "upsample_initial_channel": 1024, "upsample_rates": [5, 4, 2, 2, 2], "normalize_before": False}
VOCODER["upsample_kernel_sizes"] = [16, 16, 8, 4, 4]


def model(shape: str, unet_alone: bool) -> Backbone:
    """AudioLDM-S with random weights, or the toy model; where the UNet is all that is needed, the rest stays the toy's."""
    backbone = Backbone.load(NANO)
    if shape == "s":
        torch.manual_seed(0)
        backbone.unet = UNet2DConditionModel.from_config({**backbone.unet.config, **UNET})
    if shape == "s" and not unet_alone:
        backbone.vae = AutoencoderKL.from_config({**backbone.vae.config, **VAE})
        backbone.text_encoder = ClapTextModelWithProjection(ClapTextConfig())
        backbone.vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig(**VOCODER))
        backbone.audio_encoder = ClapAudioModelWithProjection(ClapAudioConfig())
        backbone.feature_extractor = ClapFeatureExtractor(**HEARS)
    backbone.requires_grad_(False).to(device_named("auto"))
    return backbone.train()
