"""Weights in the precision they are computed in."""

import torch
from torch import nn


def store_in_bfloat16(network: nn.Module) -> None:
    """Store frozen weights as autocast uses them, so that it need not convert them in every step; outputs and names stay."""
    for weight in network.to(memory_format=torch.channels_last).parameters():  # in float32 this layout gains nothing
        if not weight.requires_grad and weight.dim() > 1:  # a norm takes no bfloat16 scale beside a float32 shift
            weight.data = weight.data.bfloat16()
