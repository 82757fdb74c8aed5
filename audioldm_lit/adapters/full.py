"""Training every weight of the UNet: from the pre-trained values, or from nothing."""

import torch
from diffusers import UNet2DConditionModel

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.backbone import Backbone


class FullFineTune(Adapter):
    """Fine-tune all weights of the pre-trained UNet."""

    def inject(self, backbone: Backbone) -> None:
        """Unfreeze the UNet."""
        backbone.unet.requires_grad_(True)


class Scratch(Adapter):
    """Train a fresh UNet of the same shape: the baseline against which pre-training is judged.

    Args:
        seed: Seed of the fresh weights.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def inject(self, backbone: Backbone) -> None:
        """Replace the UNet by one with random weights and unfreeze it."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            fresh = UNet2DConditionModel.from_config(backbone.unet.config)
        backbone.unet = fresh.to(backbone.device).train(backbone.unet.training)
