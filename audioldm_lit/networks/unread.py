"""Parts of a model that are not read from its folder before somebody asks for them."""

from typing import Any

from torch import nn


class Unread(nn.Module):
    """In the place of a network that nobody has asked for yet; like one that rests, it has no weights.

    Args:
        network: Class of the network.
        config: Its settings.
    """

    def __init__(self, network: type[nn.Module], config: Any) -> None:
        super().__init__()
        self.network, self.config = network, config


def unread(model: nn.Module) -> frozenset[str]:
    """Names of a model's parts that nobody has asked for yet."""
    return frozenset(name for name, part in model.named_children() if isinstance(part, Unread))
