"""Predictions for clips longer than what the UNet was trained on."""

import torch
from torch import Tensor

from audioldm_lit.backbone import Backbone


class Windows:
    """A model that predicts long latents in overlapping windows: MultiDiffusion, Bar-Tal et al. 2023 (arXiv 2302.08113, Eq. 5).

    All windows are views of one noise, each overlaps the next by half, and where several see a latent their predictions are
    averaged at every step, weighted by a triangle, so that no window ends abruptly. Latents that fit into one window are left to
    the model as they are.

    Args:
        backbone: The model.
        width: Latent steps in time of a window; None for any, in one.
    """

    def __init__(self, backbone: Backbone, width: int | None) -> None:
        self.backbone = backbone
        self.width = width

    def __call__(self, noisy_latents: Tensor, timesteps: Tensor, cond: Tensor) -> Tensor:
        """Predict as `Backbone` does."""
        frames = noisy_latents.shape[2]
        if self.width is None or frames <= self.width:
            return self.backbone(noisy_latents, timesteps, cond)
        centred = torch.arange(self.width, device=noisy_latents.device) + 0.5
        weight = torch.minimum(centred, self.width - centred)[:, None]  # (width, 1)
        total = torch.zeros_like(noisy_latents, dtype=torch.float32)
        weights = torch.zeros_like(total[:1, :1])
        for start in [*range(0, frames - self.width, self.width // 2), frames - self.width]:
            seen = slice(start, start + self.width)
            total[:, :, seen] += weight * self.backbone(noisy_latents[:, :, seen], timesteps, cond)
            weights[:, :, seen] += weight
        return total / weights
