"""The adapter seam: which weights of the backbone train, and how they are added."""

import inspect
from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError


class Adapter(ABC):
    """A way to adapt a frozen backbone.

    `inject` receives the backbone with every weight frozen. It may replace or add modules, and marks what trains with
    `requires_grad_()`; the training, the checkpoint and the adapter file then hold those weights and no others.

    Every argument of `__init__` is kept in an attribute of its name: `spec` reads them, so that an adapter file can say how it was
    made.
    """

    @abstractmethod
    def inject(self, backbone: Backbone) -> None:
        """Add the adapter to the backbone and unfreeze what trains."""

    def merge(self, backbone: Backbone) -> None:  # noqa: B027  (most adapters have nothing to fold)
        """Fold the adapter into the base weights for faster inference; the output stays the same."""

    def spec(self) -> dict[str, Any]:
        """`class_path` and `init_args` from which the same adapter can be made again."""
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        init_args = {name: getattr(self, name) for name in names if name not in ("args", "kwargs")}
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": init_args}


def trainable(backbone: Backbone) -> dict[str, nn.Parameter]:
    """Names and weights that train.

    Raises:
        InputError: If nothing does.
    """
    weights = {name: weight for name, weight in backbone.named_parameters() if weight.requires_grad}
    if not weights:
        raise InputError("model.adapter left nothing to train; choose targets that exist in this UNet.")
    return weights
