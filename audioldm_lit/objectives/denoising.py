"""Denoising: the error of what is predicted, the timesteps it is taken at, and how much it counts there."""

from collections.abc import Sequence

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import CleanPrediction, FlowPrediction, NoisePrediction, VelocityPrediction, levels
from audioldm_lit.errors import InputError
from audioldm_lit.objectives.base import Objective
from audioldm_lit.objectives.timesteps import TimestepSampling, Uniform
from audioldm_lit.objectives.weighting import Weighting


class Denoising(Objective):
    """Mean squared error between what the UNet predicts and what it should have predicted, which the subclass's `prediction` says.

    Args:
        weighting: How much the loss at each timestep counts; the same everywhere where not given.
        timesteps: How timesteps are drawn; uniformly where not given.
        huber: Root mean square error of a clip, in standard deviations of the noise, beyond which it counts in proportion instead
            of squared: the pseudo-Huber loss (Song and Dhariwal 2023, arXiv 2310.14189), so that unusual clips pull less on the
            weights. Timesteps with large errors, those of little noise, then count less too. The squared error where not given.
        noise_offset: Strength s of offset noise (Guttenberg 2023, crosslabs.org/blog/diffusion-with-offset-noise): s times one
            normal number a channel is added to all of that channel's noise, and the model has to predict the sum, which has
            variance 1 + s^2. It is constant over time and frequency, as a clip's overall level is, the one thing that independent
            noise hardly hides. Generated clips and the held-out loss begin from noise without it. 0 turns it off.
    """

    def __init__(
        self,
        weighting: Weighting | None = None,
        timesteps: TimestepSampling | None = None,
        huber: float | None = None,
        noise_offset: float = 0.0,
    ) -> None:
        super().__init__()
        if huber is not None and huber <= 0:
            raise InputError(
                "model.objective.init_args.huber", f"is {huber}", "give a number above 0, or null for the squared error"
            )
        if noise_offset < 0:
            raise InputError(
                "model.objective.init_args.noise_offset", f"is {noise_offset}", "give 0 for none, or a number above it"
            )
        self.weighting = weighting
        self.timesteps = timesteps or Uniform()
        self.huber = huber
        self.noise_offset = noise_offset

    def forward(
        self,
        backbone: Backbone,
        scheduler: DDIMScheduler,
        latents: Tensor,
        cond: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """Loss (B,) of every sample; see `Objective.forward`."""
        noise = seeding.normal(generators, latents.shape[1:])
        timesteps = self.timesteps(generators, scheduler, self.prediction).to(latents.device)
        if self.noise_offset:
            noise += self.noise_offset * seeding.normal(generators, (latents.shape[1], 1, 1))  # (B, C, 1, 1)
        noise = noise.to(latents.device)
        # x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) epsilon, Eq. 4 of Ho et al. 2020
        noisy_latents = scheduler.add_noise(latents, noise, timesteps)  # type: ignore[arg-type]  # its own pipelines give int64
        model_pred = backbone(noisy_latents, timesteps, cond)
        error = model_pred.float() - self.prediction.target(latents, noise, levels(scheduler, timesteps)).float()
        losses = error.square().mean(dim=(1, 2, 3))  # (B, C, F/4, M/4) -> (B,)
        if self.huber is not None:
            losses = _pseudo_huber(losses, self.huber)
        return losses if self.weighting is None else losses * self.weighting(scheduler, timesteps, self.prediction)


class Epsilon(Denoising):
    """Predict the noise: Eq. 14 of Ho et al. 2020 (arXiv 2006.11239), what AudioLDM was trained with."""

    prediction = NoisePrediction()


class Velocity(Denoising):
    """Predict the velocity of Salimans and Ho 2022 (arXiv 2202.00512, appendix D).

    A model pre-trained on epsilon must relearn what its output means, so this goes with adapters that train every weight.
    """

    prediction = VelocityPrediction()


class Clean(Denoising):
    """Predict the clean latents; Salimans and Ho 2022, section 4. Goes with adapters that train every weight, as `Velocity`."""

    prediction = CleanPrediction()


class FlowMatching(Denoising):
    """Predict the velocity of straight paths from data to noise, on the base's noise schedule.

    Flow matching (Lipman et al. 2022, arXiv 2210.02747) with the paths of rectified flow (Liu et al. 2022, arXiv 2209.03003): the
    latents are those of the schedule that the base knows, see `FlowPrediction`. Goes with adapters that train every weight.
    """

    prediction = FlowPrediction()


def _pseudo_huber(mse: Tensor, c: float) -> Tensor:
    """Pseudo-Huber loss 2c (sqrt(mse + c^2) - c): the mean squared error where that is far below c^2, 2c times its root far above.

    Of the whole clip's error, as in Song and Dhariwal, not number by number: what is unlike the others in a small set is a clip,
    and the best prediction stays close to the mean that sampling needs, where number by number it would move towards the median.
    """
    return 2 * c * mse / ((mse + c**2).sqrt() + c)  # the same; the difference would cancel where errors are small
