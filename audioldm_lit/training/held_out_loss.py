"""The held-out loss: how well a model denoises clips it was not trained on, by timestep; or what an objective judges instead.

Every clip is judged at the same timesteps, and its noise depends on the clip and on nothing else: the task is the same before
and after training, in every run, with every adapter, objective and seed.
"""

from collections.abc import Sequence

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import Prediction, levels, timesteps_of
from audioldm_lit.objectives.base import Objective


def grid(scheduler: DDIMScheduler, num_timesteps: int) -> list[int]:
    """The timesteps that every clip is judged at."""
    # The loss is steep in t: a grid that is shifted from clip to clip has 27 times the standard deviation.
    return [int((k + 0.5) / num_timesteps * scheduler.config["num_train_timesteps"]) for k in range(num_timesteps)]


def loss_names(objective: Objective, scheduler: DDIMScheduler, num_timesteps: int) -> list[str]:
    """What the parts of the held-out loss are called."""
    return list(objective.judged_by) or [f"t{step}" for step in grid(scheduler, num_timesteps)]


def error_of(objective: Objective) -> str:
    """What a held-out loss is an error of: values of different ones are never compared."""
    return " + ".join(objective.judged_by) or "noise"


@torch.no_grad()
def held_out_losses(
    backbone: Backbone,
    scheduler: DDIMScheduler,
    prediction: Prediction,
    latents: Tensor,
    cond: Tensor,
    ids: Sequence[str],
    num_timesteps: int,
) -> Tensor:
    """Squared error of the predicted noise, whatever the model predicts.

    Args:
        backbone: The model.
        scheduler: Noise schedule of the base, at whose noise levels every clip is judged, whatever a model was trained on.
        prediction: What the model predicts.
        latents: Clean latents (B, C, F/4, M/4).
        cond: Conditions (B, D).
        ids: Names of the clips.
        num_timesteps: K, timesteps, in the middle of each K-th part of the schedule.

    Returns:
        Mean squared errors (B, K), from the least noise to the most.
    """
    generators = [seeding.generator("held out", name) for name in ids]
    own, losses = prediction.scheduler(scheduler), []
    for step in grid(scheduler, num_timesteps):
        noise = seeding.normal(generators, latents.shape[1:]).to(latents.device)
        timesteps = torch.full((len(latents),), step, device=latents.device)
        noisy_latents = scheduler.add_noise(latents, noise, timesteps)  # type: ignore[arg-type]  # its own pipelines give int64
        alpha_bar = levels(scheduler, timesteps)
        output = backbone(noisy_latents, timesteps_of(own, alpha_bar) if prediction.schedule else timesteps, cond)
        error = prediction.noise(output, noisy_latents, alpha_bar) - noise
        losses.append(error.square().mean(dim=(1, 2, 3)))  # (B, C, F/4, M/4) -> (B,)
    return torch.stack(losses, dim=1)
