"""LoRA whose ranks go to the blocks of the UNet that matter for the data."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.peft_internals import base_weights
from audioldm_lit.adapters.targets import resolve
from audioldm_lit.backbone import Backbone
from audioldm_lit.console.stages import say
from audioldm_lit.errors import InputError

KEY = "model.adapter.init_args"


class FisherLoRA(PeftAdapter):
    """LoRA with a rank for each block by its Fisher information, with no more weights than LoRA of one rank everywhere.

    Before the first step the Fisher information of the base's weights is measured: the mean of the squared gradient of the loss of
    single training clips, by which Sung et al. 2021 (arXiv 2111.09839) choose weights to train. A block is a level of the encoder
    or decoder, the middle, or a layer outside of them; B-LoRA (Frenkel et al. 2024, arXiv 2403.14572) chooses two by hand. The
    ranks r_b make the sum of F_b log(1 + r_b) largest that `rank` everywhere has the weights for: rank after rank goes to where
    F_b / (1 + r_b) is largest for the weights that it takes. A block may get none.

    Args:
        rank: That everywhere would take as many weights.
        max_rank: The highest that a block may get.
        clips: Training clips that it is measured on, each at one noise level.
        targets: Which layers, as in `PeftAdapter`.
        ranks: Rank of each block by its name, such as `mid_block` or `up_blocks.1`; a block that is not named gets none. Measured
            where not given.
    """

    def __init__(
        self,
        rank: int = 8,
        max_rank: int = 32,
        clips: int = 32,
        targets: Sequence[str] = ("all",),
        ranks: dict[str, int] | None = None,
    ) -> None:
        if not 1 <= rank <= max_rank:
            raise InputError(f"{KEY}.rank", f"is {rank} and max_rank {max_rank}", "give a rank from 1 to max_rank")
        if clips < 1:
            raise InputError(f"{KEY}.clips", f"is {clips}", "give at least 1")
        if ranks is not None and not (any(ranks.values()) and all(number >= 0 for number in ranks.values())):
            raise InputError(f"{KEY}.ranks", f"is {ranks}", "give numbers of 0 or more, one of them above 0")
        self.rank = rank
        self.max_rank = max_rank
        self.clips = clips
        self.ranks = ranks
        super().__init__(options={"r": rank, "lora_alpha": rank}, targets=targets)

    def layers(self, unet: nn.Module) -> list[str]:
        """Target layers of the blocks that have a rank."""
        names = resolve(self.targets, unet)
        if self.ranks is None:
            return names
        blocks = list(dict.fromkeys(map(block_of, names)))
        for block in self.ranks:
            if block not in blocks:
                raise InputError(f"{KEY}.ranks", f"names {block}, where no target is", f"name blocks of {', '.join(blocks)}")
        return [name for name in names if self.ranks.get(block_of(name))]

    def options_of(self, layers: Sequence[str]) -> dict[str, Any]:
        """LoRA's, with each layer's rank and a scale of 1 everywhere."""
        if self.ranks is None:
            return self.options
        pattern = {re.escape(name): self.ranks[block_of(name)] for name in layers}
        return {**self.options, "rank_pattern": pattern, "alpha_pattern": pattern}

    def decide(self, backbone: Backbone, losses: Iterator[Tensor]) -> None:
        """Measure, and allot the ranks."""
        if self.ranks is None:
            information, weights = self._measure(backbone.unet, losses)
            ranks = allot(information, weights, self.rank * sum(weights.values()), self.max_rank)
            say(f"ranks by Fisher information: {', '.join(f'{block} {rank}' for block, rank in ranks.items())}")
            self._settle(backbone, ranks)

    def adopt(self, backbone: Backbone, settings: Mapping[str, Any]) -> None:
        """Take over the ranks."""
        if self.ranks is None and settings.get("ranks") is not None:
            self._settle(backbone, settings["ranks"])

    def _settle(self, backbone: Backbone, ranks: dict[str, int]) -> None:
        self.ranks = ranks
        self.take_away(backbone)
        self.wrap(backbone.unet)  # whose kinds of layers were tried with the first ranks
        for weight in backbone.unet.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()  # as the base's are perhaps not

    def _measure(self, unet: nn.Module, losses: Iterator[Tensor]) -> tuple[dict[str, float], dict[str, int]]:
        """By block its information, and the weights that a rank takes."""
        layers = base_weights(unet)
        information, weights = defaultdict[str, float](float), defaultdict[str, int](int)
        for name, weight in layers.items():
            weights[block_of(name)] += len(weight) + weight[0].numel()
            weight.requires_grad_()
        for loss in islice(losses, self.clips):
            for name, grad in zip(layers, torch.autograd.grad(loss, list(layers.values()), materialize_grads=True), strict=True):
                information[block_of(name)] += grad.double().square().sum().item() / self.clips
        for weight in layers.values():
            weight.requires_grad_(False)
        if not 0 < sum(information.values()) < float("inf"):
            raise InputError(KEY, "finds no finite gradient of the loss to allot ranks by", "give `ranks`, or take lora.yaml")
        return information, weights


def block_of(layer: str) -> str:
    """A layer's block: `up_blocks.1` of `up_blocks.1.resnets.0.conv1`, `mid_block` of all in the middle."""
    first, _, rest = layer.partition(".")
    number = rest.partition(".")[0]
    return f"{first}.{number}" if number.isdigit() else first


def allot(information: Mapping[str, float], weights: Mapping[str, int], budget: int, most: int) -> dict[str, int]:
    """Ranks that make the sum of information times log(1 + rank) large.

    Args:
        information: Of each block.
        weights: That a rank of the block takes.
        budget: Weights of all ranks together.
        most: The highest rank.
    """
    ranks = dict.fromkeys(information, 0)
    while open_blocks := [block for block in ranks if ranks[block] < most and weights[block] <= budget]:
        best = max(open_blocks, key=lambda block: information[block] / (weights[block] * (1 + ranks[block])))
        ranks[best] += 1
        budget -= weights[best]
    return ranks
