"""Plain denoising: mean squared error of the predicted noise or velocity."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from audioldm_lit import noise
from audioldm_lit.backbone import Backbone
from audioldm_lit.objectives.base import Objective


class Denoising(Objective):
    """Mean squared error between the UNet's prediction and a target made of latents and noise."""

    @abstractmethod
    def target(self, scheduler: DDIMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the UNet should have predicted, of the latents' shape."""

    def forward(
        self,
        backbone: Backbone,
        scheduler: DDIMScheduler,
        latents: Tensor,
        cond: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """Loss (B,) of every sample; see `Objective.forward`."""
        drawn = noise.normal(generators, latents.shape[1:]).to(latents.device)
        timesteps = (noise.uniform(generators) * scheduler.config.num_train_timesteps).long().to(latents.device)
        # x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) epsilon, Eq. 4 of Ho et al. 2020
        noisy_latents = scheduler.add_noise(latents, drawn, timesteps)
        model_pred = backbone(noisy_latents, timesteps, cond)
        error = model_pred.float() - self.target(scheduler, latents, drawn, timesteps).float()
        return error.square().mean(dim=(1, 2, 3))  # (B, C, F/4, M/4) -> (B,)


class Epsilon(Denoising):
    """Predict the noise: Eq. 14 of Ho et al. 2020 (arXiv 2006.11239), what AudioLDM was trained with."""

    prediction_type: ClassVar[str] = "epsilon"

    def target(self, scheduler: DDIMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The noise itself."""
        return noise


class Velocity(Denoising):
    """Predict the velocity of Salimans and Ho 2022 (arXiv 2202.00512, appendix D).

    A model pre-trained on epsilon must relearn what its output means, so this goes with adapters that train every weight.
    """

    prediction_type: ClassVar[str] = "v_prediction"

    def target(self, scheduler: DDIMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Velocity v = sqrt(alpha_bar_t) epsilon - sqrt(1 - alpha_bar_t) x_0."""
        return scheduler.get_velocity(latents, noise, timesteps)
