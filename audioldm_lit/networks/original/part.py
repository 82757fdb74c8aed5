"""A network of the original and the part of a model folder that it becomes.

Both directions go by one table: for every module here, where it stands there.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Size, Tensor, nn
from transformers import PreTrainedModel

Shapes = Mapping[str, Size]
Settings = dict[str, Any]
OWN = {"model_type", "architectures", "transformers_version"}  # what a config.json of transformers says of itself


@dataclass(frozen=True)
class Place:
    """Where a module or a tensor of ours stands in the original.

    Attributes:
        name: Its name there.
        third: Which of query, key and value it is, where the original holds the three one below the other.
        pointwise: Whether it is a 1x1 convolution there and a linear layer here.
    """

    name: str
    third: int | None = None
    pointwise: bool = False

    def taken(self, original: Tensor) -> Tensor:
        """Our tensor, a view of the original's."""
        rows = original if self.third is None else original.chunk(3)[self.third]
        return rows[:, :, 0, 0] if self.pointwise and rows.dim() == 4 else rows

    def given(self, ours: Tensor) -> Tensor:
        """The inverse: the original's tensor, or the third of it that this is."""
        return ours[:, :, None, None] if self.pointwise and ours.dim() == 2 else ours


class Part(ABC):
    """One network, in both forms."""

    folder: ClassVar[str]
    prefix: ClassVar[str]
    network: ClassVar[type[nn.Module]]
    file: ClassVar[str]  # of weights in the folder

    @abstractmethod
    def settings(self, shapes: Shapes) -> Settings:
        """Settings of our network, read from the shapes of the original's tensors by their names without the prefix.

        Raises:
            KeyError: Names a tensor that is missing.
        """

    @abstractmethod
    def build(self, settings: Settings) -> nn.Module:
        """Our network, with the weights it is born with."""

    @abstractmethod
    def kept(self, network: Any) -> Settings:
        """All settings of our network, those at their default too."""

    @abstractmethod
    def save_settings(self, network: Any, folder: Path) -> None:
        """Write config.json of our network."""

    @abstractmethod
    def modules(self, settings: Settings) -> Iterable[tuple[str, Place]]:
        """Names of our modules and where they stand in the original; a module's tensors and modules keep their names within it."""

    @abstractmethod
    def reference(self, settings: Settings) -> nn.Module:
        """The original's network."""

    @abstractmethod
    def compared(self, ours: Any, reference: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Outputs of both networks on the same input."""

    def born_with(self, settings: Settings) -> dict[str, Tensor]:
        """What ours holds and the original does not, the same in every checkpoint."""
        return {}

    def places(self, network: nn.Module) -> dict[str, Place]:
        """For every tensor of our network but those it is born with, where it stands in the original.

        Raises:
            KeyError: Names one that has no place there.
        """
        settings = self.kept(network)
        table, born = dict(self.modules(settings)), self.born_with(settings)
        return {name: _place(name, table) for name in network.state_dict() if name not in born}

    def blank(self, settings: Settings) -> nn.Module:
        """Our network without memory for its weights."""
        with torch.device("meta"):
            return self.build(settings)


class DiffusersPart(Part):
    """A network of diffusers."""

    file = "diffusion_pytorch_model.safetensors"

    def build(self, settings: Settings) -> nn.Module:
        """By its settings, whatever else is among them."""
        return self.network.from_config(settings)  # type: ignore[attr-defined]  # ConfigMixin's

    def kept(self, network: Any) -> Settings:
        """Without what diffusers notes for itself."""
        return {name: value for name, value in network.config.items() if not name.startswith("_")}

    def save_settings(self, network: Any, folder: Path) -> None:
        """Write config.json."""
        network.save_config(folder)


class TransformersPart(Part):
    """A network of transformers."""

    file = "model.safetensors"
    network: ClassVar[type[PreTrainedModel]]

    def build(self, settings: Settings) -> nn.Module:
        """By its settings, whatever else is among them."""
        given = {name: value for name, value in settings.items() if name not in OWN}
        return self.network(self.network.config_class(**given))  # type: ignore[misc]  # all have one

    def kept(self, network: Any) -> Settings:
        """As transformers writes them."""
        return network.config.to_dict()

    def save_settings(self, network: Any, folder: Path) -> None:
        """Write config.json, with the class of the network."""
        network.config.architectures = [self.network.__name__]
        network.config.save_pretrained(folder)


def _place(name: str, table: Mapping[str, Place]) -> Place:
    """A tensor's place, by the innermost of the modules around it that has one."""
    module, within = name, ""
    while module not in table:
        module, dot, last = module.rpartition(".")
        if not dot:
            raise KeyError(name)
        within = f".{last}{within}"
    return replace(table[module], name=table[module].name + within)


def numbers(shapes: Shapes, before: str) -> int:
    """How many numbered modules follow a name: 3 where there are `before.0`, `before.1` and `before.2`."""
    found = {name.removeprefix(before).partition(".")[0] for name in shapes if name.startswith(before)}
    return len([one for one in found if one.isdigit()])
