"""Deep features of the UNet, kept from step to step."""

from types import TracebackType
from typing import Any, Self

from diffusers.hooks import HookRegistry, ModelHook
from diffusers.models import UNet2DConditionModel
from torch import nn

from audioldm_lit.backbone import Backbone

NAME = "deep_features"


class DeepFeatures:
    """While open, lets a model compute its deep blocks at every N-th step alone: DeepCache, Ma et al. 2024 (arXiv 2312.00858).

    Between these steps only the first block of the way down and the last of the way up are computed, those of the finest latents;
    what the latter is given from below is what it was given before. A pass of another number of clips than was kept, as where
    guidance begins or ends, is computed whole.

    Args:
        backbone: The model; every UNet of a blend keeps its own features.
        interval: N; 1 computes everything.
    """

    def __init__(self, backbone: Backbone, interval: int) -> None:
        unets = [module for module in backbone.modules() if isinstance(module, UNet2DConditionModel)] if interval > 1 else []
        self.interval = interval
        self.hooks = [(block, Kept()) for unet in unets for block in _deep(unet)]
        self.step = 0

    def next_step(self) -> None:
        """Begin a step."""
        for _, kept in self.hooks:
            kept.next_step(anew=self.step % self.interval == 0)
        self.step += 1

    def __enter__(self) -> Self:
        for block, kept in self.hooks:
            HookRegistry.check_if_exists_or_initialize(block).register_hook(kept, NAME)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for block, _ in self.hooks:
            HookRegistry.check_if_exists_or_initialize(block).remove_hook(NAME, recurse=False)


class Kept(ModelHook):
    """What a block gave, by the pass within a step and the number of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[tuple[int, int], Any] = {}
        self.passes = 0

    def next_step(self, anew: bool) -> None:
        """Begin a step, for which everything may be computed anew."""
        self.passes = 0
        if anew:
            self.outputs.clear()

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """The block's output, computed only if it was not kept."""
        rows = len(args[0] if args else kwargs["hidden_states"])
        key = self.passes, rows
        self.passes += 1
        if key not in self.outputs:
            self.outputs[key] = self.fn_ref.original_forward(*args, **kwargs)  # type: ignore[misc]  # set on registration
        return self.outputs[key]


def _deep(unet: UNet2DConditionModel) -> list[nn.Module]:
    """Its blocks but for the first and the last."""
    return [*unet.down_blocks[1:], unet.mid_block, *unet.up_blocks[:-1]]
