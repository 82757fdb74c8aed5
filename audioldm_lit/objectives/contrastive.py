"""Contrast with the base: the recordings must become likelier than the base has them, and no more than that moves."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError
from audioldm_lit.objectives.base import Objective
from audioldm_lit.objectives.frozen import FrozenUNet


class DirectConsistency(Objective):
    """Direct consistency optimisation: Lee et al. 2024 (arXiv 2402.12004, section 3).

    A frozen copy of the base predicts the same noise; the loss is -log sigmoid(-beta (e - e_base)) of both squared errors. It is
    divided by beta / 2, so that its gradient is that of the squared error where both are equal; it falls to nothing where the model
    is clearly better than its base. It holds back the UNet, and takes a second UNet's memory and a forward pass more.

    Args:
        beta: Steepness, above 0: the inverse of the difference of errors, of standard normal noise, that counts as clear.
    """

    def __init__(self, beta: float = 1000.0) -> None:
        super().__init__()
        if not beta > 0:
            raise InputError("model.objective.init_args.beta", f"is {beta}", "give a number above 0, such as 1000")
        self.beta = beta

    def prepare(self, backbone: Backbone, num_samples: int, folder: Path) -> None:
        """Copy the base."""
        self.base = FrozenUNet(backbone)

    def forward(
        self,
        backbone: Backbone,
        scheduler: DDIMScheduler,
        latents: Tensor,
        cond: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """Loss (B,) of every sample; see `Objective.forward`."""
        noise = seeding.normal(generators, latents.shape[1:]).to(latents.device)
        timesteps = (seeding.uniform(generators) * scheduler.config["num_train_timesteps"]).long().to(latents.device)
        noisy_latents = scheduler.add_noise(latents, noise, timesteps)
        further = self.base.exceeded_by(backbone, noisy_latents, noise, timesteps, cond)
        return -2 / self.beta * F.logsigmoid(-self.beta * further)
