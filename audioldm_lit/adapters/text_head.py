"""A trained layer between the text embedding and the UNet."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.backbone import Backbone

ENTRY = "class_embedding"  # of the UNet, a projection


class TextHead(Adapter):
    """Train one layer on the CLAP embedding, W c + b + c, and leave the UNet as it is.

    The trainable layer after the text encoder of Yuan et al. 2023 (arXiv 2306.10359), first in DCASE 2023 task 7, here on a
    residual path that starts at zero, so that the output starts as the base's.
    """

    def inject(self, backbone: Backbone) -> None:
        """Put the layer in front of the projection through which the embedding enters the UNet."""
        projection = backbone.unet.get_submodule(ENTRY)
        assert isinstance(projection, nn.Linear)
        head = ResidualLinear(projection.in_features).to(backbone.device)
        parts = OrderedDict[str, nn.Module](head=head, projection=projection)
        backbone.unet.set_submodule(ENTRY, nn.Sequential(parts).train(projection.training))

    @torch.no_grad()
    def merge(self, backbone: Backbone) -> None:
        """Two linear layers in a row are one: P (c + W c + b) + p = (P + P W) c + (P b + p)."""
        head, projection = backbone.unet.get_submodule(ENTRY).children()
        assert isinstance(head, nn.Linear)
        assert isinstance(projection, nn.Linear)
        folded = projection.weight.float() @ torch.column_stack([head.weight, head.bias])  # (P W, P b)
        projection.weight.add_(folded[:, :-1])
        projection.bias.add_(folded[:, -1])
        backbone.unet.set_submodule(ENTRY, projection)


class ResidualLinear(nn.Linear):
    """c + W c + b on embeddings (B, D), the identity at first."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, cond: Tensor) -> Tensor:
        """Embeddings of the same shape."""
        return cond + super().forward(cond)
