"""The objective seam: the loss of one training step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from audioldm_lit.backbone import Backbone


class Objective(nn.Module, ABC):
    """What training minimises.

    Subclasses implement `forward`. The held-out loss does not depend on the objective: it is always the squared error of the
    noise, so that runs with different objectives can be compared.
    """

    prediction_type: str = "epsilon"
    """What the UNet predicts under this objective, `epsilon` or `v_prediction`: sampler and held-out loss follow it."""

    @abstractmethod
    def forward(
        self,
        backbone: Backbone,
        scheduler: DDIMScheduler,
        latents: Tensor,
        cond: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """Loss of every sample.

        Args:
            backbone: Called as `backbone(noisy_latents, timesteps, cond)`.
            scheduler: Noise schedule; `scheduler.add_noise` diffuses.
            latents: Clean latents (B, C, F/4, M/4).
            cond: Conditions (B, D).
            generators: One a sample, on the CPU; all randomness comes from them.

        Returns:
            Losses (B,).
        """

    def prepare(self, backbone: Backbone, num_samples: int, folder: Path) -> None:
        """Called once before training, while the model still predicts as the base does.

        Args:
            backbone: The model, on its device.
            num_samples: Length of every training clip in samples.
            folder: Where results that took time to make may be kept for other runs, under a hash of what they depend on.
        """
