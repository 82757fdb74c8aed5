"""What an adapter leaves open until it has seen data, such as ranks: decided when a run starts, taken over when one goes on."""

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.utils.data import default_collate

from audioldm_lit import seeding
from audioldm_lit.adapters.base import Adapter, trainable
from audioldm_lit.backbone import Backbone
from audioldm_lit.conditioning import Conditioning
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.storage.spec import class_path
from audioldm_lit.training.checkpoint import KEY
from audioldm_lit.training.encoding import encoded
from audioldm_lit.training.recalling import with_memory_of

Losses = Callable[[Mapping[str, Any], list[int]], Tensor]  # of a batch whose samples stand at places in the stream


def decide(
    adapter: Adapter, backbone: Backbone, losses: Losses, trainer: Trainer, data: AudioDataModule, seed: int
) -> dict[str, nn.Parameter]:
    """Let an adapter decide, on the first process for all; a run that goes on takes over what its checkpoint says.

    Returns:
        What trains now.
    """
    if trainer.ckpt_path is None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if trainer.is_global_zero:
                adapter.decide(backbone, one_by_one(losses, data, backbone, seed))
            decided = trainer.strategy.broadcast(adapter.spec()["init_args"])
            if not trainer.is_global_zero:
                adapter.adopt(backbone, decided)
    return trainable(backbone)


def one_by_one(losses: Losses, data: AudioDataModule, backbone: Backbone, seed: int) -> Iterator[Tensor]:
    """Loss of one training clip after another in an order of the seed, at places that no training reaches, without end."""
    train = encoded(data, "train")
    order = sorted(range(len(train)), key=lambda item: seeding.number("decide", seed, item))
    for number in count():
        batch = default_collate([train[order[number % len(order)]]])
        on_device = {name: value.to(backbone.device) if isinstance(value, Tensor) else value for name, value in batch.items()}
        yield losses(on_device, [-1 - number]).mean()


def taken_over(
    checkpoint: Mapping[str, Any], adapter: Adapter, backbone: Backbone, anew: Mapping[str, Tensor], conditioning: Conditioning
) -> tuple[Adapter, Mapping[str, Tensor], dict[str, nn.Parameter]]:
    """An adapter into which the weights of a checkpoint fit: with room for what it remembers, and with what it had decided.

    Returns:
        The adapter, what it adds frozen as another injection would give it, and what trains.
    """
    adapter, anew = with_memory_of(checkpoint, adapter, backbone, anew, conditioning)
    found = checkpoint.get(KEY)
    spec = found.get("adapter") if isinstance(found, dict) else None
    if isinstance(spec, dict) and spec.get("class_path") == class_path(adapter):
        adapter.adopt(backbone, spec["init_args"])
    return adapter, anew, trainable(backbone)
