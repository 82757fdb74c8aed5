"""Consistency distillation: a student that reaches in 4 to 8 steps without guidance what the guided base does in 50."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor
from torch.func import functional_call

from audioldm_lit import seeding
from audioldm_lit.adapters.base import trainable
from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import levels
from audioldm_lit.errors import InputError
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.objectives.base import Objective
from audioldm_lit.objectives.frozen import FrozenUNet

SIGMA_DATA, TIMESTEP_SCALING = 0.5, 10.0  # of the boundary condition, as in diffusers' LCMScheduler, which samples by it
HUBER = 0.00054  # c of the pseudo-Huber distance over the root of the number of latents: Song and Dhariwal 2023, section 3.3


class ConsistencyDistillation(Objective):
    """Latent consistency distillation (Luo et al. 2023, arXiv 2310.04378, Eq. 15), with LoRA LCM-LoRA (arXiv 2311.05556).

    From latents at a timestep the frozen base makes one guided step of DDIM to the next; the student's clean latents of both must
    agree. Without a moving average the second are the student's own, without gradient. The student predicts noise as its base
    does, and is sampled by diffusers' `LCMScheduler` without guidance. A step takes three forward passes without gradient beside
    that of the loss. Best checks are those of sound: set `checkpoint.monitor` to `val/learned`, as the held-out loss of a model
    that jumps rises.

    Args:
        guidance_scale: Weight w of the base's classifier-free guidance, which the student takes over; 1 turns it off.
        solver_steps: Steps of DDIM that the schedule is parted into; the skipping step k is the schedule's length over it.
        ema_decay: Decay in [0, 1) of the moving average of the student whose clean latents are the target; none where not given, as
            in LCM-LoRA.
    """

    def __init__(self, guidance_scale: float = 2.5, solver_steps: int = 50, ema_decay: float | None = None) -> None:
        super().__init__()
        if guidance_scale < 1:
            raise InputError("model.objective.init_args.guidance_scale", f"is {guidance_scale}", "give 1 for none, or more")
        if not 2 <= solver_steps <= 1000:
            raise InputError("model.objective.init_args.solver_steps", f"is {solver_steps}", "give 2 to 1000, such as 50")
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise InputError("model.objective.init_args.ema_decay", f"is {ema_decay}", "give 0 to below 1, or null for none")
        self.guidance_scale = guidance_scale
        self.solver_steps = solver_steps
        self.ema_decay = ema_decay
        self.sampled_by = Sampler("LCMScheduler", num_inference_steps=6, guidance_scale=1.0)
        self.target: dict[str, Tensor] = {}  # the average of the student, by name in the backbone

    def prepare(self, backbone: Backbone, num_samples: int, folder: Path) -> None:
        """Copy the base, and embed the empty prompt."""
        self.teacher = FrozenUNet(backbone)
        self.unconditional = backbone.encode_text([""])[0]
        if self.ema_decay is not None:
            self.target = {name: weight.detach().clone() for name, weight in trainable(backbone).items()}

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
        interval = scheduler.config["num_train_timesteps"] // self.solver_steps
        place = (seeding.uniform(generators) * self.solver_steps).long().to(latents.device)
        later = (place + 1) * interval - 1  # t_{n + k}
        sooner = (later - interval).clamp(min=0)  # t_n
        noisy_latents = scheduler.add_noise(latents, noise, later)
        with torch.no_grad():
            stepped = _ddim(noisy_latents, self._guided(noisy_latents, later, cond.detach()), scheduler, later, sooner)
            target = consistent(stepped, self._target(backbone, stepped, sooner, cond), scheduler, sooner)
        student = consistent(noisy_latents, backbone(noisy_latents, later, cond).float(), scheduler, later)
        mse = (student - target).square().mean(dim=(1, 2, 3))  # (B, C, F/4, M/4) -> (B,)
        return mse / ((mse + HUBER**2).sqrt() + HUBER)  # sqrt(mse + c^2) - c, which would cancel where errors are small

    def _guided(self, noisy_latents: Tensor, timesteps: Tensor, cond: Tensor) -> Tensor:
        """The noise that the base predicts with guidance."""
        if self.guidance_scale == 1:
            return self.teacher(noisy_latents, timesteps, cond).float()
        both = torch.cat([self.unconditional.to(cond).expand_as(cond), cond])
        without, with_cond = self.teacher(noisy_latents.repeat(2, 1, 1, 1), timesteps.repeat(2), both).float().chunk(2)
        return without + self.guidance_scale * (with_cond - without)

    def _target(self, backbone: Backbone, latents: Tensor, timesteps: Tensor, cond: Tensor) -> Tensor:
        """The noise that the student, or its moving average, predicts."""
        if not self.target:
            return backbone(latents, timesteps, cond).float()
        return functional_call(backbone, self.target, (latents, timesteps, cond)).float()

    def after_step(self, backbone: Backbone, step: int) -> None:
        """Move the average towards the student."""
        if self.ema_decay is None:
            return
        for name, weight in trainable(backbone).items():
            self.target[name].lerp_(weight.detach().to(self.target[name]), 1 - self.ema_decay)

    def state(self) -> dict[str, Any]:
        """The average."""
        return {"target": self.target}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with it."""
        self.target = {name: average.to(self.target[name].device) for name, average in state["target"].items()}


def _ddim(latents: Tensor, noise: Tensor, scheduler: DDIMScheduler, now: Tensor, then: Tensor) -> Tensor:
    """One step of DDIM without fresh noise: Eq. 12 of Song et al. 2020 (arXiv 2010.02502), sigma 0."""
    (signal, amount), (signal_then, amount_then) = _levels(scheduler, now), _levels(scheduler, then)
    return signal_then * (latents - amount * noise) / signal + amount_then * noise


def consistent(latents: Tensor, noise: Tensor, scheduler: DDIMScheduler, timesteps: Tensor) -> Tensor:
    """Clean latents f = c_skip x + c_out x_0, which are the latents themselves at timestep 0: Luo et al., Eq. 9 and section 4.2."""
    signal, amount = _levels(scheduler, timesteps)
    scaled = TIMESTEP_SCALING * timesteps[:, None, None, None]
    squared = scaled**2 + SIGMA_DATA**2
    clean = (latents - amount * noise) / signal
    return SIGMA_DATA**2 / squared * latents + scaled / squared.sqrt() * clean


def _levels(scheduler: DDIMScheduler, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), each (B, 1, 1, 1)."""
    alpha_bar = levels(scheduler, timesteps)[:, None, None, None]
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
