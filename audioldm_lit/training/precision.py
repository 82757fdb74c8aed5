"""The UNet as it is trained: the precision of its weights, and how it is computed."""

import torch
from torch import nn

from audioldm_lit.backbone import Backbone


def set_up_unet(backbone: Backbone, precision: str, checkpointing: bool, compiled: bool) -> None:
    """Store a UNet's weights as they are used, and say how it is computed.

    Args:
        backbone: The model.
        precision: The trainer's.
        checkpointing: Whether activations are computed again in the backward pass.
        compiled: Whether it is compiled.
    """
    if precision == "bf16-mixed":
        _store_in_bfloat16(backbone.unet)
    if checkpointing:
        backbone.unet.enable_gradient_checkpointing()
    if compiled:
        backbone.unet.compile()  # in place: checkpoints keep their names


def _store_in_bfloat16(network: nn.Module) -> None:
    """Store frozen weights as autocast uses them, so that it need not convert them in every step; outputs and names stay."""
    for weight in network.to(memory_format=torch.channels_last).parameters():  # in float32 this layout gains nothing
        if not weight.requires_grad and weight.dim() > 1:  # a norm takes no bfloat16 scale beside a float32 shift
            weight.data = weight.data.bfloat16()
