"""Prior preservation: train on clips of the base model beside the recordings, so that what it knew is not forgotten."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from audioldm_lit import seeding
from audioldm_lit.backbone import Backbone
from audioldm_lit.console.stages import Stage
from audioldm_lit.diffusion import prediction_of
from audioldm_lit.errors import InputError
from audioldm_lit.inference.generation import BATCH, Generation
from audioldm_lit.inference.prompt_file import GENERAL, read_prompts
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.networks.fingerprinting import fingerprint_of_base
from audioldm_lit.objectives.base import Objective
from audioldm_lit.objectives.denoising import Epsilon
from audioldm_lit.storage.shards import Shards

FORMAT = "prior/1"


@dataclass(frozen=True)
class PriorClip:
    """A clip of the prior: a place in its list, and the seed."""

    seed: int
    place: int

    @property
    def key(self) -> tuple[object, ...]:
        """What its noise belongs to."""
        return "prior", self.seed, self.place


class PriorPreservation(Objective):
    """Adds the loss on clips that the base generated before training: DreamBooth, Ruiz et al. 2022 (arXiv 2208.12242, section 3.3).

    With prompts of the class that is trained ("a dog barking" where the recordings are "my dog Rex barking") other members of the
    class keep their sound. With general prompts it is replay (Shin et al. 2017, arXiv 1705.08690), against forgetting everything
    else. It preserves the UNet, with prompts as the base reads them; an adapter of the text tower is not held back. A step takes
    twice the time and memory. The clips are kept in the cache, for all runs on the same base.

    Args:
        objective: The loss, of recordings and of generated clips alike; by default `Epsilon`.
        prompts: What the base generates: a list, or a text file with one prompt a line, in turn until there are enough clips. By
            default general prompts that come with the package.
        clips: How many clips are generated.
        weight: Weight lambda >= 0 of the loss on generated clips.
        sampler: How they are generated; with guidance, so they are not spread quite as the base itself is.
        seed: Seed of the generated clips, the same in runs of any seed.
    """

    def __init__(
        self,
        objective: Objective | None = None,
        prompts: Path | list[str] | None = None,
        clips: int = 64,
        weight: float = 1.0,
        sampler: Sampler | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if clips < 1:
            raise InputError("model.objective.init_args.clips", f"is {clips}", "give at least 1")
        if weight < 0:
            raise InputError("model.objective.init_args.weight", f"is {weight}", "give a number of 0 or more")
        self.objective = objective or Epsilon()
        self.prediction, self.sampled_by = self.objective.prediction, self.objective.sampled_by
        self.learning_rate = self.objective.learning_rate
        self.prompts = prompts
        self.clips = clips
        texts = read_prompts(GENERAL if prompts is None else prompts, "model.objective.init_args.prompts")
        self.texts = list(islice(cycle(texts), clips))  # the prompt of each clip
        self.weight = weight
        self.sampler = sampler or Sampler()
        self.seed = seed

    def prepare(self, backbone: Backbone, num_samples: int, folder: Path) -> None:
        """Generate the clips, or find them under `folder`; see `Objective.prepare`."""
        self.objective.prepare(backbone, num_samples, folder)
        keys = self._keys(backbone, backbone.latent_shape(num_samples))
        store = Shards(folder / "prior-2")
        lacking = set(store.missing(keys))
        missing = [place for place, key in enumerate(keys) if key in lacking]
        if missing:
            with Stage(f"generating {len(missing)} prior clips, steps", len(missing) * self.sampler.num_inference_steps) as stage:
                for batch in (missing[i : i + BATCH] for i in range(0, len(missing), BATCH)):
                    rows = self._generate(backbone, num_samples, batch, partial(stage.advance, len(batch)))
                    store.write({keys[place]: row for place, row in zip(batch, rows, strict=True)})
        kept = [store[key] for key in keys]
        # Plain tensors on the CPU, neither weights nor buffers: no checkpoint holds them, no process sends them to another.
        self.latents = torch.stack([row["latents"] for row in kept])  # (clips, C, F/4, M/4)
        self.prompt_embeds = torch.stack([row["prompt_embeds"] for row in kept])  # (clips, D)

    def forward(
        self,
        backbone: Backbone,
        scheduler: DDIMScheduler,
        latents: Tensor,
        cond: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """Loss (B,) of every sample and of a generated clip drawn for it; see `Objective.forward`."""
        losses = self.objective(backbone, scheduler, latents, cond, generators)
        chosen = (seeding.uniform(generators) * len(self.latents)).long()
        prior, prior_cond = (values[chosen].to(latents.device) for values in (self.latents, self.prompt_embeds))
        # Eq. 2 of Ruiz et al.
        return losses + self.weight * self.objective(backbone, scheduler, prior, prior_cond, generators)

    def own_optimizer(self, weights: list[nn.Parameter]) -> Optimizer | None:
        """That of the objective within."""
        return self.objective.own_optimizer(weights)

    def after_step(self, backbone: Backbone, step: int) -> None:
        """What the objective within does."""
        self.objective.after_step(backbone, step)

    def state(self) -> dict[str, Any]:
        """What the objective within remembers."""
        return self.objective.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.objective.restore(state)

    def _keys(self, backbone: Backbone, shape: tuple[int, int, int]) -> list[str]:
        """Key of each clip: a hash of everything it is made of."""
        base = [fingerprint_of_base(backbone.unet), backbone.fingerprint("text_encoder"), backbone.scheduler.to_json_string()]
        made_of = [FORMAT, *base, self.sampler.spec(), shape, self.seed]
        return [_hash(json.dumps([*made_of, place, prompt]).encode()) for place, prompt in enumerate(self.texts)]

    def _generate(
        self, backbone: Backbone, num_samples: int, places: Sequence[int], on_step: Callable[[], None]
    ) -> list[dict[str, Tensor]]:
        """Latents and text embeddings of the clips at some places of the list."""
        unconditional, *embeds = backbone.encode_text(["", *(self.texts[place] for place in places)])
        clips = [PriorClip(self.seed, place) for place in places]
        predicts = prediction_of(backbone.scheduler)  # what the base does, whatever is trained
        latents = Generation(backbone, self.sampler, unconditional, num_samples, predicts).latents(
            clips, torch.stack(embeds), on_step
        )
        if not latents.isfinite().all():
            raise InputError(
                "model.objective.init_args.sampler", "makes values that are not finite with this model", "take another"
            )
        return [{"latents": row, "prompt_embeds": embed} for row, embed in zip(latents, embeds, strict=True)]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
