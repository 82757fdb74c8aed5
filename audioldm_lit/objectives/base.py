"""The objective seam: the loss of one training step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from audioldm_lit.backbone import UNET_SIDE, Backbone
from audioldm_lit.diffusion import NoisePrediction, Prediction
from audioldm_lit.inference.sampling import Sampler


class Objective(nn.Module, ABC):
    """What training minimises.

    Subclasses implement `forward`. The held-out loss does not depend on the objective: it is the squared error of the noise, so
    that runs with different objectives can be compared. The one exception is an objective that the UNet has no part in: it says
    with `judged_by` and `held_out` what is judged instead, and that is never compared with an error of the noise.

    The other methods and attributes are optional: for an objective that predicts something else than noise, that hears recordings,
    or that has weights of its own. What of these trains, and its persistent buffers, is kept in checkpoints and gone on from;
    frozen weights are not.
    """

    prediction: Prediction = NoisePrediction()
    """What the UNet predicts under this objective, and on which noise schedule; sampler, held-out loss and file follow it."""
    sampled_by: Sampler | None = None
    """How a model trained so is sampled where nothing else is asked for; the adapter file carries it."""
    trains: Sequence[str] = UNET_SIDE
    """Parts of the backbone that the losses go through; an adapter on any other is refused before training."""
    needs_waveform: bool = False
    """Whether `forward` takes the recordings too, as `waveform` (B, T); they are then read anew in every step."""
    judged_by: Sequence[str] = ()
    """Names of the parts of its own held-out loss; the squared error of the noise where there are none."""
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

    def heard(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What `forward` takes of a batch beside latents and conditions."""
        return {"waveform": batch["waveform"]} if self.needs_waveform else {}

    def held_out(self, backbone: Backbone, latents: Tensor, waveform: Tensor) -> Tensor:
        """Losses of held-out clips where `judged_by` names any; there is nothing random in them.

        Args:
            backbone: The model.
            latents: Means of the recordings' latents (B, C, F/4, M/4).
            waveform: The recordings (B, T).

        Returns:
            Losses (B, K), a column for each name.
        """
        raise NotImplementedError

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
