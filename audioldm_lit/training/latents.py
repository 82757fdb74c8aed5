"""Training latents: a sample of each clip's posterior, masked in time where that is asked for, from noise of its own."""

from collections.abc import Sequence

from lightning import Trainer
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.training.lightning_internals import batches_before
from audioldm_lit.training.time_mask import TimeMask


def stream_places(trainer: Trainer, count: int) -> list[int]:
    """Places in the stream of training clips of the `count` samples of this process's present batch."""
    first, ranks = batches_before(trainer) * count, trainer.world_size
    return [(first + i) * ranks + trainer.global_rank for i in range(count)]


def draw_latents(
    mean: Tensor, std: Tensor, seed: int, places: Sequence[int], time_mask: TimeMask | None = None
) -> tuple[Tensor, list[seeding.Placed]]:
    """Draw latents from their posteriors; every random number belongs to a sample's place in the stream of training clips.

    Args:
        mean: Means (B, C, F/4, M/4).
        std: Standard deviations, likewise.
        seed: Seed of the run.
        places: Place of each sample in the stream.
        time_mask: What masks the latents, with numbers of its own: it changes no other draw.

    Returns:
        Latents (B, C, F/4, M/4), and each sample's generator, for what else it draws in this step.
    """
    generators = [seeding.placed(seed, place) for place in places]
    latents = mean + std * seeding.normal(generators, mean.shape[1:]).to(mean.device)
    if time_mask:
        latents = time_mask(latents, [seeding.generator(seed, "time mask", place) for place in places])
    return latents, generators
