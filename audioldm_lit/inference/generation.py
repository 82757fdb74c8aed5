"""Clips from conditions, batch by batch, each from noise that belongs to it alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.backbone import Backbone
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.inference.sampling import Sampler

BATCH = 8  # clips generated at once


class Keyed(Protocol):
    """Something to generate.

    Attributes:
        key: What its noise belongs to, see `seeding`: the same clip whatever the batch or the device.
    """

    @property
    def key(self) -> tuple[object, ...]: ...  # noqa: D102  (said above)


Clip = TypeVar("Clip", bound=Keyed)


def generate_latents(
    backbone: Backbone,
    sampler: Sampler,
    clips: Sequence[Clip],
    cond: Tensor,
    unconditional: Tensor,
    num_samples: int,
    prediction_type: str = "epsilon",
    batch_size: int = BATCH,
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Sequence[Clip], Tensor]]:
    """Generate latents.

    Args:
        backbone: The model.
        sampler: How it is sampled.
        clips: What to generate.
        cond: Their conditions (N, D), in the same order.
        unconditional: Embedding (D,) of the empty or negative prompt.
        num_samples: Length of the clips in samples, any; the latents are of the next length that the UNet takes.
        prediction_type: What the UNet predicts, `epsilon` or `v_prediction`.
        batch_size: Clips generated at once; changes the speed, not the sound.
        on_step: Called after every denoising step of every batch.

    Yields:
        Some of the clips and their latents (B, C, F/4, M/4) float32, until all are done.
    """
    for start in range(0, len(clips), batch_size):
        batch = clips[start : start + batch_size]
        generators = [seeding.generator(*clip.key) for clip in batch]
        noise = seeding.normal(generators, backbone.latent_shape(num_samples)).to(backbone.device)
        conds = cond[start : start + batch_size]
        yield batch, sampler.latents(backbone, conds, unconditional, noise, generators, prediction_type, on_step)


def generate_clips(
    backbone: Backbone,
    sampler: Sampler,
    entries: Sequence[Entry],
    cond: Tensor,
    unconditional: Tensor,
    num_samples: int,
    prediction_type: str = "epsilon",
    batch_size: int = BATCH,
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Entry, Tensor]]:
    """Generate sound; every argument is that of `generate_latents`.

    Yields:
        Each entry in turn with its waveform (num_samples,) float32: longer latents than needed are generated and the sound is cut.
    """
    made = generate_latents(backbone, sampler, entries, cond, unconditional, num_samples, prediction_type, batch_size, on_step)
    for batch, latents in made:
        yield from zip(batch, backbone.decode(latents, num_samples), strict=True)
