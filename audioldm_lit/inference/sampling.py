"""From conditions to latents: the denoising loop with classifier-free guidance."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_args

import diffusers
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from audioldm_lit.backbone import Backbone, VocoderName
from audioldm_lit.errors import InputError
from audioldm_lit.storage.spec import init_args


class Sampler:
    """How sound is generated.

    Args:
        scheduler: Name of a diffusers scheduler class, e.g. `DDIMScheduler` or `DPMSolverMultistepScheduler` (DPM-Solver++).
        num_inference_steps: Denoising steps. DDIM wants 50 to 200, DPM-Solver++ about 20.
        guidance_scale: Weight w of classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598); 1 turns it off.
        eta: Share of fresh noise in DDIM, 0 (deterministic) to 1; ignored by schedulers that have none. AudioLDM's own
            scripts use 1.0 with 200 steps.
        vocoder: What turns log-mels into sound: `own`, the model's network, or `griffin_lim`, a formula that was trained on
            nothing and can be the better choice for sounds far from what the network was trained on.
    """

    def __init__(
        self,
        scheduler: str = "DDIMScheduler",
        num_inference_steps: int = 50,
        guidance_scale: float = 2.5,
        eta: float = 0.0,
        vocoder: VocoderName = "own",
    ) -> None:
        found = getattr(diffusers, scheduler, None)
        if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
            mend = "name a scheduler class of diffusers, e.g. DPMSolverMultistepScheduler"
            raise InputError("sampler.scheduler", f"is '{scheduler}'", mend)
        if num_inference_steps < 1:
            raise InputError("sampler.num_inference_steps", f"is {num_inference_steps}", "give at least 1")
        if not 0 <= eta <= 1:
            raise InputError("sampler.eta", f"is {eta}", "give a number from 0 to 1")
        if vocoder not in get_args(VocoderName):
            raise InputError("sampler.vocoder", f"is '{vocoder}'", f"give {' or '.join(get_args(VocoderName))}")
        self.scheduler = scheduler
        self.num_inference_steps = num_inference_steps
        self.guidance_scale = guidance_scale
        self.eta = eta
        self.vocoder: VocoderName = vocoder

    def spec(self) -> dict[str, Any]:
        """Settings as they go into manifests."""
        return init_args(self)

    @torch.no_grad()
    def latents(
        self,
        backbone: Backbone,
        cond: Tensor,
        unconditional: Tensor,
        latents: Tensor,
        generators: Sequence[torch.Generator],
        prediction_type: str,
        on_step: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Denoise.

        Args:
            backbone: The model.
            cond: Conditions (B, D).
            unconditional: Embedding (D,) of the empty or negative prompt.
            latents: Starting noise (B, C, F/4, M/4), standard normal.
            generators: One a clip, for schedulers that add noise.
            prediction_type: `epsilon` or `v_prediction`.
            on_step: Called after every step.

        Returns:
            Clean latents of the same shape, float32.
        """
        scheduler = getattr(diffusers, self.scheduler).from_config(backbone.scheduler.config, prediction_type=prediction_type)
        scheduler.set_timesteps(self.num_inference_steps)
        accepted = inspect.signature(scheduler.step).parameters
        extra: dict[str, Any] = {"generator": list(generators)} if "generator" in accepted else {}
        if "eta" in accepted:
            extra["eta"] = self.eta
        guided = self.guidance_scale > 1
        both = torch.cat([unconditional.expand_as(cond), cond]) if guided else cond
        latents = latents * scheduler.init_noise_sigma
        for step in scheduler.timesteps:
            inputs = scheduler.scale_model_input(torch.cat([latents, latents]) if guided else latents, step)
            pred = backbone(inputs, step.expand(len(inputs)).to(inputs.device), both).float()
            if guided:
                # epsilon = epsilon(empty) + w (epsilon(c) - epsilon(empty)); Eq. 6 of Ho and Salimans, w counted from 1
                without, with_cond = pred.chunk(2)
                pred = without + self.guidance_scale * (with_cond - without)
            latents = scheduler.step(pred, step, latents, **extra).prev_sample
            on_step()
        return latents
