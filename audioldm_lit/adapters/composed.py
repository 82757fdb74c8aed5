"""Several adapters trained as one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError
from audioldm_lit.storage.spec import class_path


class Composed(Adapter):
    """Adapters injected one after the other, trained together and kept in one file.

    With a new word and LoRA this is pivotal tuning (Roich et al. 2021, arXiv 2106.05744), of both at once instead of in turn.

    Args:
        adapters: At least two; a later one sees what an earlier one has made of the model.
    """

    def __init__(self, adapters: list[Adapter]) -> None:
        if len(adapters) < 2:
            raise InputError("model.adapter.init_args.adapters", f"names {len(adapters)}", "give at least two, or the one alone")
        self.adapters = adapters
        self.identity_at_start = all(adapter.identity_at_start for adapter in adapters)

    def inject(self, backbone: Backbone) -> None:
        """Inject each; what an earlier one trains goes on training."""
        self._each(backbone, [partial(adapter.inject, backbone) for adapter in self.adapters])

    def decide(self, backbone: Backbone, losses: Iterator[Tensor]) -> None:
        """Let each decide."""
        self._each(backbone, [partial(adapter.decide, backbone, losses) for adapter in self.adapters])

    def adopt(self, backbone: Backbone, settings: Mapping[str, Any]) -> None:
        """Let each take over what its like had decided."""
        specs = zip(self.adapters, settings["adapters"], strict=False)
        alike = [(adapter, spec["init_args"]) for adapter, spec in specs if spec["class_path"] == class_path(adapter)]
        self._each(backbone, [partial(adapter.adopt, backbone, init_args) for adapter, init_args in alike])

    @staticmethod
    def _each(backbone: Backbone, injections: Sequence[Callable[[], None]]) -> None:
        """What an earlier one trains goes on training."""
        trained = {id(weight): weight for weight in backbone.parameters() if weight.requires_grad}
        for inject in injections:
            inject()
            trained |= {id(weight): weight for weight in backbone.parameters() if weight.requires_grad}
        for weight in trained.values():
            weight.requires_grad_()

    def merge(self, backbone: Backbone) -> None:
        """Fold each in, the last one first."""
        for adapter in reversed(self.adapters):
            adapter.merge(backbone)

    def prompt_embeds(self, backbone: Backbone, captions: Sequence[str], embeds: Tensor) -> Tensor:
        """As each reads the captions in turn."""
        for adapter in self.adapters:
            embeds = adapter.prompt_embeds(backbone, captions, embeds)
        return embeds

    def negative_embeds(self, backbone: Backbone, captions: Sequence[str], embeds: Tensor) -> Tensor:
        """The same of what guidance steers away from."""
        for adapter in self.adapters:
            embeds = adapter.negative_embeds(backbone, captions, embeds)
        return embeds

    def penalty(self, backbone: Backbone) -> Tensor | float:
        """The sum of all."""
        return sum(adapter.penalty(backbone) for adapter in self.adapters)

    def after_step(self, backbone: Backbone, step: int) -> None:
        """What each does."""
        for adapter in self.adapters:
            adapter.after_step(backbone, step)

    def state(self) -> dict[str, Any]:
        """What each remembers."""
        return {str(place): adapter.state() for place, adapter in enumerate(self.adapters)}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore each."""
        for place, adapter in enumerate(self.adapters):
            adapter.restore(state[str(place)])

    def spec(self) -> dict[str, Any]:
        """`class_path`, and the adapters' own specs."""
        return {"class_path": class_path(self), "init_args": {"adapters": [adapter.spec() for adapter in self.adapters]}}
