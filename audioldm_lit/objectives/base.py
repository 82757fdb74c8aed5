"""The objective seam: noise, timesteps and the loss of one denoising step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from audioldm_lit import noise
from audioldm_lit.backbone import Backbone


class Objective(nn.Module, ABC):
    """What training minimises.

    Subclasses implement `forward`; `draw_noise` and `draw_timesteps` may be overridden. All randomness comes from the generators
    given, one a sample.
    """

    prediction_type: ClassVar[str] = "epsilon"
    """What the UNet predicts under this objective, in diffusers' words; the sampler follows it."""

    @abstractmethod
    def forward(
        self, backbone: Backbone, scheduler: DDIMScheduler, latents: Tensor, cond: Tensor, noise: Tensor, timesteps: Tensor
    ) -> Tensor:
        """Loss of every sample.

        Args:
            backbone: Called as `backbone(noisy_latents, timesteps, cond)`.
            scheduler: Noise schedule; `scheduler.add_noise` diffuses.
            latents: Clean latents (B, C, F/4, M/4).
            cond: Conditions (B, D).
            noise: Noise of the latents' shape.
            timesteps: (B,) int64 in [0, num_train_timesteps).

        Returns:
            Losses (B,).
        """

    def draw_noise(self, generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
        """Noise (B, *shape), standard normal."""
        return noise.normal(generators, shape)

    def draw_timesteps(self, generators: Sequence[torch.Generator], num_train_timesteps: int) -> Tensor:
        """Training timesteps (B,) int64, uniform."""
        return (noise.uniform(generators) * num_train_timesteps).long()
