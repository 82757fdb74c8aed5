"""Training every weight of the UNet, from the pre-trained values or from random ones."""

import torch
from diffusers.models import UNet2DConditionModel
from torch import Tensor

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError


class FullFineTune(Adapter):
    """Fine-tune all weights of the pre-trained UNet, freely or pulled towards where they started.

    Args:
        l2_sp: Strength alpha >= 0 of the pull towards the pre-trained weights w0, which adds alpha / 2 * ||w - w0||^2 to the loss
            (L2-SP: Li, Grandvalet and Davoine 2018, arXiv 1802.01483). 0 leaves the weights free; above it a copy of w0 is kept
            in memory.
    """

    def __init__(self, l2_sp: float = 0.0) -> None:
        if not l2_sp >= 0:
            raise InputError("model.adapter.init_args.l2_sp", f"is {l2_sp}", "give 0 or more")
        self.l2_sp = l2_sp
        self.start: list[Tensor] = []

    def inject(self, backbone: Backbone) -> None:
        """Unfreeze the UNet, and keep a copy of its start where the weights are pulled towards it."""
        if self.l2_sp:
            self.start = [weight.detach().clone() for weight in backbone.unet.parameters()]
        backbone.unet.requires_grad_(True)

    def penalty(self, backbone: Backbone) -> Tensor | float:
        """The pull towards the start."""
        if not self.start:
            return 0.0
        self.start = [start.to(backbone.device) for start in self.start]  # moves once; the model is injected before it is moved
        pairs = zip(backbone.unet.parameters(), self.start, strict=True)
        # All weights are pre-trained, so the paper's second term, over new layers, is empty.
        return self.l2_sp / 2 * torch.stack([(weight - start).square().sum() for weight, start in pairs]).sum()


class Scratch(Adapter):
    """Train a fresh UNet of the same shape: the baseline against which pre-training is judged.

    Args:
        seed: Seed of the fresh weights.
    """

    identity_at_start = False

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def inject(self, backbone: Backbone) -> None:
        """Replace the UNet with one of random weights and unfreeze it."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            fresh = UNet2DConditionModel.from_config(backbone.unet.config)
        backbone.unet = fresh.to(backbone.device).train(backbone.unet.training)
