"""What a network predicts in noisy latents x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) epsilon, and what follows of it."""

from abc import ABC, abstractmethod
from inspect import signature
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from audioldm_lit.errors import InputError
from audioldm_lit.storage.spec import spec


class Prediction(ABC):
    """What a network predicts: c_0 x_0 + c_1 epsilon, with shares of clean latents and noise that may depend on the noise level.

    Subclasses say the two shares; noise, clean latents and training targets follow of them.

    Args:
        schedule: Settings of diffusers' `DDIMScheduler` that the noise schedule, of training and sampling, has in place of the
            base's, e.g. `rescale_betas_zero_snr: true` (Lin et al. 2023, arXiv 2305.08891); the base's own where not given.
    """

    word: str = ""
    """Its name in diffusers, `epsilon`, `v_prediction` or `sample`; empty where it has none."""

    def __init__(self, schedule: dict[str, Any] | None = None) -> None:
        known = signature(DDIMScheduler).parameters
        if not isinstance(schedule, dict | None) or not known.keys() >= set(schedule or {}):
            raise InputError("the prediction's schedule", f"is {schedule}", f"give settings among {', '.join(known)}")
        self.schedule = schedule

    @abstractmethod
    def shares(self, signal: Tensor, amount: Tensor) -> tuple[Tensor, Tensor]:
        """The shares c_0 and c_1 at noise levels of any shape, from sqrt(alpha_bar) and sqrt(1 - alpha_bar)."""

    def target(self, latents: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
        """What a perfect network predicts (B, C, F/4, M/4), from clean latents and noise of that shape and levels (B,)."""
        _, _, of_latents, of_noise = self._levels(alpha_bar)
        return of_latents * latents + of_noise * noise

    def noise(self, output: Tensor, noisy_latents: Tensor, alpha_bar: Tensor) -> Tensor:
        """The noise that an output says is in latents, all (B, C, F/4, M/4), at levels (B,); float32."""
        signal, amount, of_latents, of_noise = self._levels(alpha_bar)
        return (signal * output.float() - of_latents * noisy_latents) / (signal * of_noise - amount * of_latents)

    def clean(self, output: Tensor, noisy_latents: Tensor, alpha_bar: Tensor) -> Tensor:
        """The clean latents that an output says are in noisy ones; likewise."""
        signal, amount, of_latents, of_noise = self._levels(alpha_bar)
        return (of_noise * noisy_latents - amount * output.float()) / (signal * of_noise - amount * of_latents)

    def noise_error(self, alpha_bar: Tensor) -> Tensor:
        """The error of the noise that an error of 1 of the output makes, at levels of any shape."""
        signal, amount = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        of_latents, of_noise = self.shares(signal, amount)
        return (signal / (signal * of_noise - amount * of_latents)).abs()

    def scheduler(self, base: DDIMScheduler) -> DDIMScheduler:
        """The noise schedule, given the base's; an `InputError` where its settings cannot be."""
        try:
            return DDIMScheduler.from_config(base.config, **{**(self.schedule or {}), "prediction_type": self.word or "epsilon"})
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError("the prediction's schedule", f"is refused ({error})", "correct its settings") from error

    def spec(self) -> dict[str, Any]:
        """`class_path` and `init_args` from which an equal one can be made."""
        return spec(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prediction) and self.spec() == other.spec()

    def __hash__(self) -> int:
        return hash(type(self))

    def __str__(self) -> str:
        changes = f" on a schedule with {self.schedule}" if self.schedule else ""
        return (self.word or f"{type(self).__module__}.{type(self).__qualname__}") + changes

    def _levels(self, alpha_bar: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """sqrt(alpha_bar), sqrt(1 - alpha_bar) and both shares, each (B, 1, 1, 1)."""
        signal, amount = (level.sqrt()[:, None, None, None] for level in (alpha_bar, 1 - alpha_bar))
        return signal, amount, *self.shares(signal, amount)


class NoisePrediction(Prediction):
    """The noise: Eq. 14 of Ho et al. 2020 (arXiv 2006.11239), as AudioLDM was trained."""

    word = "epsilon"

    def shares(self, signal: Tensor, amount: Tensor) -> tuple[Tensor, Tensor]:
        """0 and 1."""
        return torch.zeros_like(signal), torch.ones_like(signal)

    def noise(self, output: Tensor, noisy_latents: Tensor, alpha_bar: Tensor) -> Tensor:
        """The output itself, to the last bit."""
        return output.float()


class VelocityPrediction(Prediction):
    """The velocity sqrt(alpha_bar) epsilon - sqrt(1 - alpha_bar) x_0: Salimans and Ho 2022 (arXiv 2202.00512), appendix D."""

    word = "v_prediction"

    def shares(self, signal: Tensor, amount: Tensor) -> tuple[Tensor, Tensor]:
        """-sqrt(1 - alpha_bar) and sqrt(alpha_bar)."""
        return -amount, signal


class CleanPrediction(Prediction):
    """The clean latents x_0."""

    word = "sample"

    def shares(self, signal: Tensor, amount: Tensor) -> tuple[Tensor, Tensor]:
        """1 and 0."""
        return torch.ones_like(signal), torch.zeros_like(signal)


class FlowPrediction(Prediction):
    """The velocity epsilon - x_0 of straight paths from data to noise: Liu et al. 2022 (arXiv 2209.03003), Eq. 1.

    A point (1 - s) x_0 + s epsilon of such a path is x_t over sqrt(alpha_bar) + sqrt(1 - alpha_bar), so the network sees latents of
    the noise schedule that it knows, and the path's velocity is the same; Euler's steps along the path are those of DDIM.
    """

    def shares(self, signal: Tensor, amount: Tensor) -> tuple[Tensor, Tensor]:
        """-1 and 1."""
        return -torch.ones_like(signal), torch.ones_like(signal)


WORDS = {kind.word: kind for kind in (NoisePrediction, VelocityPrediction, CleanPrediction)}


def prediction_named(word: str, where: str) -> Prediction:
    """The prediction of diffusers' name.

    Args:
        word: The name.
        where: What an error names.

    Raises:
        InputError: If it is none of `WORDS`.
    """
    if word not in WORDS:
        raise InputError(where, f"predicts '{word}', of which the noise is not known", f"{', '.join(WORDS)} are known")
    return WORDS[word]()


def prediction_of(scheduler: DDIMScheduler) -> Prediction:
    """What a model predicts by its scheduler's settings."""
    return prediction_named(str(scheduler.config["prediction_type"]), "the model's scheduler")


def levels(scheduler: DDIMScheduler, timesteps: Tensor) -> Tensor:
    """Noise levels alpha_bar (B,) at whole timesteps (B,)."""
    return scheduler.alphas_cumprod.to(timesteps.device)[timesteps]


def timesteps_of(scheduler: DDIMScheduler, alpha_bar: Tensor) -> Tensor:
    """The timesteps (B,) of a schedule whose noise levels are nearest to others (B,)."""
    return (scheduler.alphas_cumprod.to(alpha_bar.device) - alpha_bar[:, None]).abs().argmin(dim=1)
