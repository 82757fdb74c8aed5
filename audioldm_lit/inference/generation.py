"""Clips from conditions, batch by batch, each from noise that belongs to it alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import NoisePrediction, Prediction
from audioldm_lit.inference.editing import FREE, Edit
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.inference.sampling import Sampler

BATCH = 8  # clips generated at once
NOISE = NoisePrediction()  # what AudioLDM predicts


class Keyed(Protocol):
    """Something to generate.

    Attributes:
        key: What its noise belongs to, see `seeding`: the same clip whatever the batch or the device.
    """

    @property
    def key(self) -> tuple[object, ...]: ...  # noqa: D102  (said above)


@dataclass(frozen=True, eq=False)
class Generation:
    """A model, and how it generates.

    Attributes:
        backbone: The model.
        sampler: How it is sampled.
        unconditional: Embedding (D,) of the empty or negative prompt.
        num_samples: Length of the clips in samples, any: longer latents than needed are generated and the sound is cut.
        prediction: What the UNet predicts.
        edit: What of the clips is given.
        gain: Factor of what is decoded.
        window: Latent steps in time that the UNet sees at once, see `Windows`; all where not given.
    """

    backbone: Backbone
    sampler: Sampler
    unconditional: Tensor
    num_samples: int
    prediction: Prediction = NOISE
    edit: Edit = FREE
    gain: float = 1.0
    window: int | None = None

    @property
    def seconds(self) -> float:
        """Length of the clips."""
        return self.num_samples / self.backbone.sample_rate

    @property
    def steps(self) -> Tensor:
        """Timesteps that are walked, falling."""
        return self.sampler.steps(self.backbone, self.prediction, self.edit)

    def latents(self, clips: Sequence[Keyed], cond: Tensor, on_step: Callable[[], None] = lambda: None) -> Tensor:
        """Latents (B, C, F/4, M/4), float32, of clips and their conditions (B, D); `on_step` is called after every step."""
        generators = [seeding.generator(*clip.key) for clip in clips]
        noise = seeding.normal(generators, self.backbone.latent_shape(self.num_samples)).to(self.backbone.device)
        how = self.unconditional, noise, generators, self.prediction, on_step, self.edit, self.window
        return self.sampler.latents(self.backbone, cond, *how)


def generate_clips(
    generation: Generation,
    entries: Sequence[Entry],
    cond: Tensor,
    batch_size: int = BATCH,
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Entry, Tensor]]:
    """Generate sound.

    Args:
        generation: The model, and how it generates.
        entries: What to generate.
        cond: Conditions (N, D), in the same order.
        batch_size: Clips generated at once; changes the speed, not the sound.
        on_step: Called after every denoising step of every batch.

    Yields:
        Each entry in turn with its waveform (num_samples,), float32.
    """
    for start in range(0, len(entries), batch_size):
        batch = entries[start : start + batch_size]
        latents = generation.latents(batch, cond[start : start + batch_size], on_step)
        waveforms = generation.backbone.decode(latents, generation.num_samples, generation.sampler.vocoder)
        yield from zip(batch, generation.gain * waveforms, strict=True)
