"""The noise schedule: buffers of the original, settings of a scheduler here."""

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from audioldm_lit.errors import InputError

BETAS = (0.0015, 0.0195)  # first and last, of every published model
STEPS = 1000
TOLERANCE = 2e-3  # of a beta: a checkpoint may be in half precision


def scheduler_of(tensors: Mapping[str, Tensor], path: Path) -> DDIMScheduler:
    """The scheduler of a checkpoint, which samples as the original does.

    Args:
        tensors: The checkpoint's, of which `betas` is read where it is there.
        path: Where they are from, for errors.

    Raises:
        InputError: If the betas are no straight line of square roots, as all of the original's are.
    """
    betas = tensors.get("betas")
    first, last = BETAS if betas is None else (float(f"{betas[end].item():.3g}") for end in (0, -1))
    scheduler = DDIMScheduler(
        num_train_timesteps=STEPS if betas is None else len(betas), beta_start=first, beta_end=last, beta_schedule="scaled_linear",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading", prediction_type="epsilon",
    )  # fmt: skip
    if betas is not None and not torch.allclose(scheduler.betas, betas.float(), rtol=TOLERANCE, atol=0):
        raise InputError(path, "has a noise schedule that is not AudioLDM's (betas)", "give a checkpoint of AudioLDM")
    return scheduler


def buffers_of(scheduler: DDIMScheduler) -> dict[str, Tensor]:
    """What the original keeps of a schedule, in the formulas of DDPM (arXiv 2006.11239)."""
    betas = scheduler.betas.double()
    alphas = 1 - betas
    kept = alphas.cumprod(0)
    before = torch.cat([kept.new_ones(1), kept[:-1]])
    variance = betas * (1 - before) / (1 - kept)
    buffers = {
        "betas": betas,
        "alphas_cumprod": kept,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": kept.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - kept).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - kept).log(),
        "sqrt_recip_alphas_cumprod": (1 / kept).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / kept - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * before.sqrt() / (1 - kept),
        "posterior_mean_coef2": (1 - before) * alphas.sqrt() / (1 - kept),
        "logvar": torch.zeros_like(betas),
    }
    return {name: buffer.float() for name, buffer in buffers.items()}
