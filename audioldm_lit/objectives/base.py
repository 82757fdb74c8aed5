"""The objective seam: the loss of one training step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import NoisePrediction, Prediction
from audioldm_lit.inference.sampling import Sampler


class Objective(nn.Module, ABC):
    """What training minimises.

    Subclasses implement `forward`. The held-out loss does not depend on the objective: it is always the squared error of the
    noise, so that runs with different objectives can be compared.

    The other methods and attributes are optional: for an objective that predicts something else than noise, or that has weights of
    its own. What of these trains, and its persistent buffers, is kept in checkpoints and gone on from; frozen weights are not.
    """

    prediction: Prediction = NoisePrediction()
    """What the UNet predicts under this objective, and on which noise schedule; sampler, held-out loss and file follow it."""
    sampled_by: Sampler | None = None
    """How a model trained so is sampled where nothing else is asked for; the adapter file carries it."""
    learning_rate: float | None = None
    """Of the objective's own weights, a group of their own in the model's optimizer; the adapter's where not given."""

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

    def own_optimizer(self, weights: list[nn.Parameter]) -> Optimizer | None:
        """An optimizer of its own for the objective's weights, such as a discriminator's; None for a group in the model's.

        Both take their step on the gradients of one backward pass, this one second. In the loss of either side the other's weights
        are therefore held still: `torch.func.functional_call` with detached weights, or detached latents.
        """
        return None

    def after_step(self, backbone: Backbone, step: int) -> None:
        """Called after optimizer step number `step`, the place to change what is not trained."""

    def state(self) -> dict[str, Any]:
        """What `after_step` remembers beside weights and buffers, for checkpoints: tensors, numbers, strings and containers."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned; `prepare` was called before."""
