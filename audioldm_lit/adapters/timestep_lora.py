"""LoRA whose rank depends on the timestep."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.peft_internals import down_projections
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError


class TimestepLoRA(Adapter):
    """LoRA of full rank where there is little noise and of a small one where there is much: T-LoRA (Soboleva et al. 2025).

    At timestep t of T only the first floor((r - r_min) (T - t) / T) + r_min ranks act (arXiv 2507.05964). What a sound is made
    of is decided at high noise, where few clips are learnt by heart first. The paper's orthogonal start is left out. The update
    depends on the timestep, so it cannot be folded into the base.

    Args:
        rank: r.
        min_rank: r_min, what is left where there is nothing but noise; from 1 to `rank`.
        targets: Which layers, as in `PeftAdapter`.
    """

    def __init__(self, rank: int = 16, min_rank: int = 8, targets: Sequence[str] = ("all",)) -> None:
        if not 1 <= min_rank <= rank:
            raise InputError("model.adapter.init_args.min_rank", f"is {min_rank} at rank {rank}", "give a number from 1 to rank")
        self.rank = rank
        self.min_rank = min_rank
        self.targets = list(targets)

    def inject(self, backbone: Backbone) -> None:
        """Wrap the targets with LoRA, and put one gate for all of them behind their down-projections."""
        PeftAdapter(options={"r": self.rank, "lora_alpha": self.rank}, targets=self.targets).inject(backbone)
        gate = RankGate(self.rank, self.min_rank, len(backbone.scheduler.alphas_cumprod)).train(backbone.unet.training)
        backbone.unet.rank_gate = gate
        backbone.unet.register_forward_pre_hook(_tell_timesteps, with_kwargs=True)
        for layer in down_projections(backbone.unet):
            layer.rank_gate = gate  # known to the layer as a module, so that a copy of the UNet has a gate of its own
            layer.register_forward_hook(_through_gate)


class RankGate(nn.Module):
    """Sets the ranks to zero that do not act at the timesteps of the present pass."""

    def __init__(self, rank: int, min_rank: int, num_timesteps: int) -> None:
        super().__init__()
        self.rank, self.min_rank, self.num_timesteps = rank, min_rank, num_timesteps
        self.timesteps = torch.zeros(1, dtype=torch.int64)

    def forward(self, hidden: Tensor) -> Tensor:
        """Of a layer's ranks, (B, r, F, M) or (B, ..., r)."""
        left = (self.num_timesteps - self.timesteps.to(hidden.device)) / self.num_timesteps
        acting = ((self.rank - self.min_rank) * left).floor() + self.min_rank  # (B,)
        mask = torch.arange(self.rank, device=hidden.device) < acting[:, None]  # (B, r)
        shape = (*mask.shape, 1, 1) if hidden.dim() == 4 else (len(mask), *[1] * (hidden.dim() - 2), self.rank)
        return hidden * mask.view(shape)


def _tell_timesteps(unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    timesteps = args[1] if len(args) > 1 else kwargs["timestep"]
    unet.get_submodule("rank_gate").timesteps = torch.as_tensor(timesteps).reshape(-1)


def _through_gate(layer: nn.Module, args: Any, hidden: Tensor) -> Tensor:
    return layer.get_submodule("rank_gate")(hidden)
