"""The base's UNet as it was before training, for objectives that compare with it or learn from it."""

import copy

import torch
from torch import Tensor, nn

from audioldm_lit.backbone import Backbone


class FrozenUNet(nn.Module):
    """A frozen copy of a backbone's UNet, called as the backbone is.

    It takes the memory of a second UNet. No checkpoint holds it: `Objective.prepare` copies the base again where a run is resumed.

    Args:
        backbone: The model, while it still predicts as the base does.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.unet = copy.deepcopy(backbone.unet).requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, noisy_latents: Tensor, timesteps: Tensor, cond: Tensor) -> Tensor:
        """What the base predicts; see `Backbone.forward`."""
        return self.unet(noisy_latents, timesteps, encoder_hidden_states=None, class_labels=cond, return_dict=False)[0]

    def exceeded_by(self, model: Backbone, noisy_latents: Tensor, noise: Tensor, timesteps: Tensor, cond: Tensor) -> Tensor:
        """By how much a model's mean squared error of the noise is above the base's, (B,)."""
        predicted = (one(noisy_latents, timesteps, cond).float() for one in (model, self))
        ours, base = ((found - noise).square().mean(dim=(1, 2, 3)) for found in predicted)
        return ours - base

    def train(self, mode: bool = True) -> "FrozenUNet":
        """Stay in eval mode."""
        return super().train(False)
