"""From conditions to latents: the denoising loop with classifier-free guidance."""

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args

import diffusers
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from audioldm_lit.backbone import Backbone, VocoderName
from audioldm_lit.diffusion import Prediction
from audioldm_lit.errors import InputError
from audioldm_lit.inference.deep_features import DeepFeatures
from audioldm_lit.inference.editing import FREE, Edit
from audioldm_lit.inference.windows import Windows
from audioldm_lit.storage.spec import init_args

ALL: tuple[int, int] = (0, 1000)  # timesteps of AudioLDM's noise schedule
NOISE = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"}  # AudioLDM's
EVERYWHERE = ("epsilon", "v_prediction")  # that every scheduler of diffusers knows; what else is predicted is made noise


class Sampler:
    """How sound is generated.

    Args:
        scheduler: Name of a diffusers scheduler class, e.g. `DDIMScheduler` or `DPMSolverMultistepScheduler` (DPM-Solver++).
        num_inference_steps: Denoising steps. DDIM wants 50 to 200, DPM-Solver++ about 20.
        guidance_scale: Weight w of classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598); 1 turns it off.
        eta: Share of fresh noise in DDIM, 0 (deterministic) to 1; ignored by schedulers that have none. AudioLDM's own
            scripts use 1.0 with 200 steps.
        guidance_interval: Timesteps within 0 (no noise) to 1000 (only noise), from the first up to but not including the second,
            where guidance acts: at high noise it costs variety and at low noise it does nothing, but takes a second pass
            (Kynkäänniemi et al. 2024, arXiv 2404.07724). Everywhere where not given.
        cache_interval: Steps from one to the next that computes the UNet's deep blocks anew; between them their features are kept
            (DeepCache, Ma et al. 2024, arXiv 2312.00858). 1 computes everything.
        vocoder: What turns log-mels into sound: `own`, the model's network, or `griffin_lim`, a formula that was trained on
            nothing and can be the better choice for sounds far from what the network was trained on.
    """

    def __init__(
        self,
        scheduler: str = "DDIMScheduler",
        num_inference_steps: int = 50,
        guidance_scale: float = 2.5,
        eta: float = 0.0,
        guidance_interval: tuple[int, int] | None = None,
        cache_interval: int = 1,
        vocoder: VocoderName = "own",
    ) -> None:
        found = getattr(diffusers, scheduler, None)
        if not (isinstance(found, type) and issubclass(found, SchedulerMixin) and _samples(found)):
            mend = "name a scheduler class of diffusers, e.g. DPMSolverMultistepScheduler"
            raise InputError("sampler.scheduler", f"is '{scheduler}', which cannot sample an AudioLDM", mend)
        if num_inference_steps < 1:
            raise InputError("sampler.num_inference_steps", f"is {num_inference_steps}", "give at least 1")
        if not 1 <= guidance_scale < math.inf:
            raise InputError("sampler.guidance_scale", f"is {guidance_scale}", "give 1, which turns it off, or more")
        if not 0 <= eta <= 1:
            raise InputError("sampler.eta", f"is {eta}", "give a number from 0 to 1")
        low, high = guidance_interval or ALL
        if not ALL[0] <= low < high <= ALL[1]:
            mend = "give two timesteps from 0 to 1000, the lower one first"
            raise InputError("sampler.guidance_interval", f"is [{low}, {high}]", mend)
        if cache_interval < 1:
            raise InputError("sampler.cache_interval", f"is {cache_interval}", "give 1, which computes everything, or more")
        if vocoder not in get_args(VocoderName):
            raise InputError("sampler.vocoder", f"is '{vocoder}'", f"give {' or '.join(get_args(VocoderName))}")
        self.scheduler = scheduler
        self.num_inference_steps = num_inference_steps
        self.guidance_scale = guidance_scale
        self.eta = eta
        self.guidance_interval = guidance_interval
        self.cache_interval = cache_interval
        self.vocoder: VocoderName = vocoder

    def spec(self) -> dict[str, Any]:
        """Settings as they go into manifests."""
        return init_args(self)

    def steps(self, backbone: Backbone, prediction: Prediction, edit: Edit = FREE) -> Tensor:
        """Timesteps that are walked, falling."""
        scheduler = self._scheduler(backbone, prediction)
        timesteps: Tensor = edit.steps(scheduler.timesteps, scheduler.config["num_train_timesteps"])
        return timesteps

    def _scheduler(self, backbone: Backbone, prediction: Prediction) -> Any:
        word = prediction.word if prediction.word in EVERYWHERE else "epsilon"
        schedule = {**(prediction.schedule or {}), "prediction_type": word}
        scheduler = getattr(diffusers, self.scheduler).from_config(backbone.scheduler.config, **schedule)
        try:
            scheduler.set_timesteps(self.num_inference_steps)
        except ValueError as error:
            problem = f"is {self.num_inference_steps}, which {self.scheduler} refuses ({error})"
            raise InputError("sampler.num_inference_steps", problem, "give another number") from error
        return scheduler

    def guides_at(self, timestep: float) -> bool:
        """Whether a step is guided."""
        low, high = self.guidance_interval or ALL
        return self.guidance_scale > 1 and low <= timestep < high

    @torch.no_grad()
    def latents(
        self,
        backbone: Backbone,
        cond: Tensor,
        unconditional: Tensor,
        noise: Tensor,
        generators: Sequence[torch.Generator],
        prediction: Prediction,
        on_step: Callable[[], None] = lambda: None,
        edit: Edit = FREE,
        window: int | None = None,
    ) -> Tensor:
        """Denoise.

        Args:
            backbone: The model.
            cond: Conditions (B, D).
            unconditional: Embedding (D,) of the empty or negative prompt.
            noise: Starting noise (B, C, F/4, M/4), standard normal.
            generators: One a clip, for schedulers that add noise.
            prediction: What the model predicts.
            on_step: Called after every step.
            edit: What of the clips is given.
            window: Latent steps in time that the UNet sees at once, see `Windows`; all where not given.

        Returns:
            Clean latents of the same shape, float32.
        """
        scheduler = self._scheduler(backbone, prediction)
        options = self._step_options(scheduler, generators)
        model = Windows(backbone, window)
        steps = edit.steps(scheduler.timesteps, scheduler.config["num_train_timesteps"])
        latents = noise * scheduler.init_noise_sigma
        with DeepFeatures(backbone, self.cache_interval) as features:
            for number, step in enumerate(steps):
                features.next_step()
                level = step.expand(len(noise))
                noisy = partial(scheduler.add_noise, noise=noise, timesteps=level)
                latents = edit.hold(latents, noisy, first=number == 0)
                seen = scheduler.scale_model_input(latents, step)
                pred = self._predict(model, seen, level.to(noise.device), cond, unconditional)
                if prediction.word not in EVERYWHERE:
                    pred = prediction.noise(pred, seen, _alpha_bar(scheduler, float(step)).expand(len(noise)).to(noise.device))
                latents = scheduler.step(pred, step, latents, **options).prev_sample
                on_step()
        return edit.hold(latents, lambda clean: clean, first=False)

    def _predict(self, model: Windows, latents: Tensor, timesteps: Tensor, cond: Tensor, unconditional: Tensor) -> Tensor:
        """What the model predicts, guided where it is to be; float32."""
        if not self.guides_at(float(timesteps[0])):
            return model(latents, timesteps, cond).float()
        both = torch.cat([unconditional.expand_as(cond), cond])
        without, with_cond = model(latents.repeat(2, 1, 1, 1), timesteps.repeat(2), both).float().chunk(2)
        # epsilon = epsilon(empty) + w (epsilon(c) - epsilon(empty)); Eq. 6 of Ho and Salimans, w counted from 1
        return without + self.guidance_scale * (with_cond - without)

    def _step_options(self, scheduler: Any, generators: Sequence[torch.Generator]) -> dict[str, Any]:
        """What the scheduler's step takes beside the prediction."""
        accepted = inspect.signature(scheduler.step).parameters
        known = {"generator": list(generators), "eta": self.eta}
        return {name: value for name, value in known.items() if name in accepted}


def _samples(kind: Any) -> bool:
    """Whether a scheduler walks down the noise levels that an AudioLDM was trained on, and asks for nothing but its output."""
    try:
        step = inspect.signature(kind.step).parameters.values()
        asked = [one.name for one in step if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
        if asked != ["self", "model_output", "timestep", "sample"] or not hasattr(kind, "add_noise"):
            return False
        made: Any = kind(**NOISE)
        usual: Any = diffusers.DDPMScheduler(**NOISE)
        made.set_timesteps(10)
        falls = bool(made.timesteps[0] > made.timesteps[-1])
        return falls and hasattr(made, "init_noise_sigma") and torch.equal(made.alphas_cumprod, usual.alphas_cumprod)
    except (TypeError, ValueError, AttributeError, RuntimeError):  # of other settings, or without noise levels of this kind
        return False


def _alpha_bar(scheduler: Any, timestep: float) -> Tensor:
    """Noise level (1,) at a timestep; between two whole ones sqrt(1 / alpha_bar - 1) is linear, as schedulers have it."""
    sigmas = (1 / scheduler.alphas_cumprod - 1).sqrt()
    before, after = sigmas[[math.floor(timestep), math.ceil(timestep)]]
    return (1 / (1 + torch.lerp(before, after, timestep % 1) ** 2))[None]
