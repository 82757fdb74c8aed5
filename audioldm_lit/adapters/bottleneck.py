"""Residual adapters: small networks behind the UNet's residual blocks."""

from typing import Any

import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError


class BottleneckAdapter(Adapter):
    """Put a bottleneck of 1x1 convolutions behind every residual block and train nothing else.

    h + up(SiLU(down(h))), after Houlsby et al. 2019 (arXiv 1902.00751), with the 1x1 convolutions of Rebuffi et al. 2017 (arXiv
    1705.08045). `up` starts at zero, so the output starts as the base's. What is added is not linear, so it cannot be folded into
    the base.

    Args:
        reduction: Channels of the block over channels of the bottleneck, at least 1.
    """

    def __init__(self, reduction: int = 16) -> None:
        if reduction < 1:
            raise InputError("model.adapter.init_args.reduction", f"is {reduction}", "give at least 1")
        self.reduction = reduction

    def inject(self, backbone: Backbone) -> None:
        """Add a bottleneck to every residual block."""
        for block in backbone.unet.modules():
            if isinstance(block, ResnetBlock2D):
                bottleneck = Bottleneck(block.out_channels, self.reduction)
                block.bottleneck = bottleneck.to(backbone.device).train(block.training)
                # A hook, so that the block's own weights keep their names; gradient checkpointing runs it with the block.
                block.register_forward_hook(_through_bottleneck)


class Bottleneck(nn.Module):
    """h + up(SiLU(down(h))) on feature maps (B, C, F, M)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        width = max(1, channels // reduction)
        self.down = nn.Conv2d(channels, width, kernel_size=1)
        self.up = nn.Conv2d(width, channels, kernel_size=1)
        for weight in self.up.parameters():
            nn.init.zeros_(weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """Feature maps of the same shape."""
        return hidden + self.up(F.silu(self.down(hidden)))


def _through_bottleneck(block: ResnetBlock2D, args: Any, output: Tensor) -> Tensor:
    return block.get_submodule("bottleneck")(output)
