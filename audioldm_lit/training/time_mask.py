"""SpecAugment's time masking (Park et al. 2019, arXiv 1904.08779) on latents.

Letters in shapes: B batch, C channels, F mel frames, M mel bins.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from audioldm_lit.errors import InputError


class TimeMask:
    """Replaces spans of time of every latent by the clip's own mean over time.

    SpecAugment masks with zero, the mean of its normalised features; latents have no such zero.

    Args:
        max_fraction: Longest span as a fraction of the clip, in [0, 1).
        masks: Spans per clip; they may overlap.
    """

    def __init__(self, max_fraction: float = 0.1, masks: int = 1) -> None:
        if not 0 <= max_fraction < 1:
            raise InputError("model.time_mask.init_args.max_fraction", f"is {max_fraction}", "give a number from 0 to below 1")
        if masks < 1:
            raise InputError("model.time_mask.init_args.masks", f"is {masks}", "give at least 1, or leave the masks out")
        self.max_fraction = max_fraction
        self.masks = masks

    def __call__(self, latents: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Masked copy of latents (B, C, F/4, M/4); row i draws from generator i, the same count whatever it draws."""
        steps = latents.shape[2]
        masked = torch.zeros(len(latents), 1, steps, 1, dtype=torch.bool)  # (B, 1, F/4, 1)
        for row, generator in zip(masked, generators, strict=True):
            # Section 2 of Park et al.: width t from 0 to the longest, start from 0 to all but t, each uniform.
            for width, start in torch.rand(self.masks, 2, generator=generator, dtype=torch.float64).tolist():
                t = math.floor(width * (math.floor(self.max_fraction * steps) + 1))
                t0 = math.floor(start * (steps - t + 1))
                row[:, t0 : t0 + t] = True
        return torch.where(masked.to(latents.device), latents.mean(dim=2, keepdim=True), latents)
