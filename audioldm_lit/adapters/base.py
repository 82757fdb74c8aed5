"""The adapter seam: which weights of the backbone train, and how they are added."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from audioldm_lit.adapters.resizing import Lost
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError
from audioldm_lit.seams import check_call
from audioldm_lit.storage.spec import spec


class Adapter(ABC):
    """A way to adapt a frozen backbone.

    `inject` receives the backbone with every weight frozen. It may replace or add modules, and marks what trains with
    `requires_grad_()`; the training, the checkpoint and the adapter file then hold those weights, and of the frozen parameters and
    persistent buffers that it adds those that are not the same whenever it is injected, such as random projections.

    The other methods are optional: for adapters that work on the text, add a penalty on the weights or change while training.

    Every argument of `__init__` is kept in an attribute of the same name: `spec` reads them, so that an adapter file can say how
    it was made.
    """

    identity_at_start: bool = True
    """Whether the model makes the same right after `inject` as before, which is then checked; what a run measures before its first
    step is called the base's."""

    @abstractmethod
    def inject(self, backbone: Backbone) -> None:
        """Add the adapter to the backbone and unfreeze what trains."""

    def merge(self, backbone: Backbone) -> None:  # noqa: B027  (many adapters have nothing to fold)
        """Fold the adapter into the base weights for faster inference; the output stays the same.

        Where everything can be folded, the UNet is left with the base's own modules and names, so that it can be saved as any
        other.
        """

    def decide(self, backbone: Backbone, losses: Iterator[Tensor]) -> None:  # noqa: B027
        """Called once before a run, with the data at hand: decide what was left open, such as ranks, and inject anew by that.

        What is decided is an argument of `__init__`, left open by default, so that files and checkpoints tell it.

        Args:
            backbone: With the adapter injected, still predicting as it does at the start.
            losses: The run's own loss of one training clip after another, without end: a scalar with a gradient, computed when it
                is asked for.
        """

    def adopt(self, backbone: Backbone, settings: Mapping[str, Any]) -> None:  # noqa: B027
        """Decide what was left open as in the `init_args` of another adapter of this class, and inject anew by that."""

    def resize(self, backbone: Backbone, rank: int) -> "tuple[Adapter, dict[str, Lost]]":
        """Inject in its place an adapter of a lower rank that does nearly the same; nothing of it has to train.

        Returns:
            That adapter, and what each layer loses.

        Raises:
            InputError: If there is no such rank, or no rank to lower.
        """
        raise InputError("--rank", f"{type(self).__name__} is no LoRA, whose rank could be lowered", "keep it as it is")

    def prompt_embeds(self, backbone: Backbone, captions: Sequence[str], embeds: Tensor) -> Tensor:
        """Text embeddings (B, D) of captions where the adapter changes how text is read; by default the cached `embeds`."""
        return embeds

    def negative_embeds(self, backbone: Backbone, captions: Sequence[str], embeds: Tensor) -> Tensor:
        """The same of what guidance steers away from; by default as prompts."""
        return self.prompt_embeds(backbone, captions, embeds)

    def penalty(self, backbone: Backbone) -> Tensor | float:
        """What is added to the training loss, a scalar."""
        return 0.0

    def after_step(self, backbone: Backbone, step: int) -> None:  # noqa: B027
        """Called after optimizer step number `step`, while the gradients are still there."""

    def state(self) -> dict[str, Any]:
        """What `after_step` remembers, for checkpoints: tensors, numbers, strings and containers of them."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore what `state` returned."""

    def spec(self) -> dict[str, Any]:
        """`class_path` and `init_args` from which the same adapter can be made again."""
        return spec(self)


def trainable(backbone: Backbone) -> dict[str, nn.Parameter]:
    """Names and weights that train.

    Raises:
        InputError: If nothing does.
    """
    weights = {name: weight for name, weight in backbone.named_parameters() if weight.requires_grad}
    if not weights:
        raise InputError("model.adapter", "left nothing to train", "choose targets that exist in this UNet")
    return weights


def trained_parts(backbone: Backbone) -> frozenset[str]:
    """Parts of the backbone in which weights train, such as `unet` or `vocoder`; see `trainable`."""
    return frozenset(map(part_of, trainable(backbone)))


def part_of(name: str) -> str:
    """The part of the backbone that a weight of this name is in."""
    return name.partition(".")[0]


def inject(adapter: Adapter, backbone: Backbone) -> dict[str, Tensor]:
    """Inject an adapter into a backbone; returns by name what it adds frozen: parameters and persistent buffers."""
    check_call(adapter.inject, "model.adapter", "backbone")
    before = _tensors(backbone)  # wrapped, the base's have other names, but are still the same objects
    adapter.inject(backbone)
    known = set(map(id, before.values()))
    return {name: tensor for name, tensor in _tensors(backbone).items() if id(tensor) not in known and not tensor.requires_grad}


def saved(weights: Mapping[str, Tensor], backbone: Backbone, anew: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What checkpoints and files hold of an injected adapter: what trains, and what another injection would not give again.

    Args:
        weights: What trains.
        backbone: The backbone with the adapter.
        anew: What the adapter adds frozen, as another injection gave it.
    """
    held = backbone.state_dict()
    apart = {
        name: held[name] for name, tensor in anew.items() if not torch.equal(held[name].cpu(), tensor.to("cpu", held[name].dtype))
    }
    return {**{name: weight.detach() for name, weight in weights.items()}, **apart}


def _tensors(backbone: Backbone) -> dict[str, Tensor]:
    """Parameters and persistent buffers, each once, by the first of its names."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in backbone.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())
