"""DyLoRA: LoRA that is trained at all of its ranks, so that any can be chosen afterwards."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from audioldm_lit import seeding
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.peft_internals import down_projections
from audioldm_lit.adapters.resizing import Factors, first
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError


class DyLoRA(PeftAdapter):
    """Train once, choose the rank afterwards: DyLoRA (Valipour et al. 2022, arXiv 2210.07558).

    In every training step only the first b ranks of all layers act, times alpha / b; b is drawn evenly from 1 to `rank`, and all of
    the b are trained (the paper also knows a variant that trains the last of them alone). So the first ranks learn what matters
    most, and `convert --rank` cuts the others off. Outside training all act.

    Args:
        rank: The highest.
        targets: Which layers, as in `PeftAdapter`.
        rank_seed: Seed of the ranks that are drawn, the same on all processes.
    """

    def __init__(self, rank: int = 16, targets: Sequence[str] = ("all",), rank_seed: int = 0) -> None:
        if rank < 1:
            raise InputError("model.adapter.init_args.rank", f"is {rank}", "give at least 1")
        super().__init__(options={"r": rank, "lora_alpha": rank}, targets=targets)
        self.rank = rank
        self.rank_seed = rank_seed

    def inject(self, backbone: Backbone) -> None:
        """Wrap the targets with LoRA, and put one gate for all of them behind their down-projections."""
        super().inject(backbone)
        self.gate = DrawnRank(self.rank).train(backbone.unet.training).to(backbone.device)
        self._draw(0)
        backbone.unet.drawn_rank = self.gate
        for layer in down_projections(backbone.unet):
            layer.drawn_rank = self.gate  # known to the layer as a module, so that a copy of the UNet has a gate of its own
            layer.register_forward_hook(_through_gate)

    def take_away(self, backbone: Backbone) -> None:
        """Leave the base's own modules, see `PeftAdapter`."""
        super().take_away(backbone)
        del backbone.unet.drawn_rank

    def cut(self, factors: Factors, rank: int) -> Factors:
        """The first ranks."""
        return first(factors, rank)

    def after_step(self, backbone: Backbone, step: int) -> None:
        """Draw the next step's rank."""
        self._draw(step)

    def state(self) -> dict[str, Any]:
        """The rank that was drawn."""
        return {"drawn": int(self.gate.drawn)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with it."""
        self.gate.drawn.fill_(state["drawn"])

    def _draw(self, step: int) -> None:
        self.gate.drawn.fill_(1 + seeding.number("rank", self.rank_seed, step) % self.rank)


class DrawnRank(nn.Module):
    """In training sets the ranks behind the drawn one to zero, and makes up for the lower number by a factor."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.drawn = nn.Buffer(torch.tensor(rank), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Of a layer's ranks, (B, r, F, M) or (B, ..., r)."""
        if not self.training:
            return hidden
        acting = torch.where(torch.arange(self.rank, device=hidden.device) < self.drawn, self.rank / self.drawn, 0.0)  # (r,)
        return hidden * (acting[:, None, None] if hidden.dim() == 4 else acting)


def _through_gate(layer: nn.Module, args: Any, hidden: Tensor) -> Tensor:
    return layer.get_submodule("drawn_rank")(hidden)
