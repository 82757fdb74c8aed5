"""Training some of the UNet's own weights: chosen blocks, the text path, the biases."""

import re
from collections.abc import Sequence

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError


class PartialFineTune(Adapter):
    r"""Fine-tune some of the pre-trained UNet's weights and freeze the rest.

    Which part is best depends on how the new data differ from the old (Lee et al. 2023, arXiv 2210.11466).

    Args:
        weights: Regular expressions that must match whole parameter names of the UNet, such as `mid_block\..*` or `.*\.bias`.
    """

    def __init__(self, weights: Sequence[str]) -> None:
        self.weights = list(weights)
        if not self.weights:
            raise InputError("model.adapter.init_args.weights", "is empty", r"name at least one, e.g. mid_block\..*")
        for pattern in self.weights:
            try:
                re.compile(pattern)
            except re.error as error:
                raise InputError(
                    "model.adapter.init_args.weights", f"'{pattern}' is no regular expression ({error})", "correct it"
                ) from error

    def inject(self, backbone: Backbone) -> None:
        """Unfreeze the weights that match."""
        own = dict(backbone.unet.named_parameters())
        for pattern in self.weights:
            matched = [weight for name, weight in own.items() if re.fullmatch(pattern, name)]
            if not matched:
                raise InputError(
                    "model.adapter.init_args.weights",
                    f"'{pattern}' matches no weight of the UNet",
                    f"match a whole name such as '{list(own)[len(own) // 2]}'",
                )
            for weight in matched:
                weight.requires_grad_()
