"""Formulas of the diffusion process."""

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from audioldm_lit.errors import InputError

PREDICTION_TYPES = ("epsilon", "v_prediction")  # in diffusers' words: the noise, the velocity


def noise_of(model_pred: Tensor, scheduler: DDIMScheduler, noisy_latents: Tensor, timesteps: Tensor) -> Tensor:
    """The noise that a prediction says is in the latents.

    Raises:
        InputError: If the scheduler's `prediction_type` is none of `PREDICTION_TYPES`.
    """
    kind = scheduler.config["prediction_type"]
    if kind not in PREDICTION_TYPES:
        raise InputError("prediction_type", f"is '{kind}', of which the noise is not known", f"use {' or '.join(PREDICTION_TYPES)}")
    if kind == "epsilon":
        return model_pred.float()
    alpha_bar = scheduler.alphas_cumprod.to(timesteps.device)[timesteps][:, None, None, None]
    # epsilon = sqrt(alpha_bar_t) v + sqrt(1 - alpha_bar_t) x_t, Salimans and Ho 2022 (arXiv 2202.00512), appendix D
    return alpha_bar.sqrt() * model_pred.float() + (1 - alpha_bar).sqrt() * noisy_latents
