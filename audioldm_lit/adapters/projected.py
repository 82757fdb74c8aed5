"""LoRA-XS and VeRA: between two frozen projections of every layer only a few numbers train."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.adapters.targets import resolve
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError

Layer = nn.Linear | nn.Conv2d


class SidePath(nn.Module):
    """A low-rank path beside a layer, up(down(x)): `down` is shaped as the layer's weight with r outputs, `up` is (outputs, r)."""

    def __init__(self, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.down, self.up = nn.Buffer(down), nn.Buffer(up)

    @abstractmethod
    def factors(self) -> tuple[Tensor, Tensor]:
        """`down` and `up` with what trains in them."""

    def forward(self, layer: Layer, inputs: Tensor) -> Tensor:
        """What is added to the layer's output."""
        down, up = self.factors()
        if isinstance(layer, nn.Linear):
            return F.linear(F.linear(inputs, down), up)
        hidden = F.conv2d(inputs, down, None, layer.stride, layer.padding, layer.dilation)
        return F.conv2d(hidden, up[:, :, None, None])

    def delta(self) -> Tensor:
        """What the path adds to the layer's weight, in float64."""
        down, up = (factor.double() for factor in self.factors())
        return (up @ down.flatten(1)).unflatten(1, down.shape[1:])


class ProjectedAdapter(Adapter):
    """Put a path beside every target layer and train what is between its two frozen projections.

    Args:
        rank: Of the projections, at least 1; a layer with fewer inputs or outputs gets as many as it has.
        targets: Which layers, as in `PeftAdapter`; norms cannot be.
    """

    def __init__(self, rank: int, targets: Sequence[str] = ("all",)) -> None:
        if rank < 1:
            raise InputError("model.adapter.init_args.rank", f"is {rank}", "give at least 1")
        self.rank = rank
        self.targets = list(targets)

    @abstractmethod
    def paths(self, layers: Sequence[Layer]) -> Sequence[SidePath]:
        """The path of each layer, in order."""

    def inject(self, backbone: Backbone) -> None:
        """Add the paths.

        Raises:
            InputError: If a target is neither a linear nor an ungrouped convolution layer.
        """
        names = resolve(self.targets, backbone.unet)
        layers = [_plain_layer(name, backbone.unet.get_submodule(name)) for name in names]
        for layer, path in zip(layers, self.paths(layers), strict=True):
            layer.side_path = path.to(layer.weight.device).train(layer.training)
            layer.register_forward_hook(_beside)  # so that the layer's own weights keep their names

    @torch.no_grad()
    def merge(self, backbone: Backbone) -> None:
        """Add what each path does to its layer's weight, and take the path away."""
        for layer in backbone.unet.modules():
            if isinstance(path := getattr(layer, "side_path", None), SidePath):
                weight = layer.get_parameter("weight")
                weight.copy_(weight.double() + path.delta())
                del layer.side_path


class CorePath(SidePath):
    """A square core (r, r) trains, zero at the start."""

    def __init__(self, down: Tensor, up: Tensor) -> None:
        super().__init__(down, up)
        self.core = nn.Parameter(down.new_zeros(len(down), len(down)))

    def factors(self) -> tuple[Tensor, Tensor]:
        """The core goes into `up`."""
        return self.down, self.up @ self.core


class LoRAXS(ProjectedAdapter):
    """LoRA-XS (Bałazy et al. 2024, arXiv 2405.17604): an update U_r S_r R V_r^T of the layer's own first singular vectors.

    Only R, rank x rank numbers a layer, trains; the paper draws it from a normal distribution of deviation 1e-5, here it begins at
    zero, so that the start is exactly the base.
    """

    @torch.no_grad()
    def paths(self, layers: Sequence[Layer]) -> Sequence[SidePath]:
        """Singular vectors in float64 and with a fixed sign, so that every machine finds the same."""
        return [CorePath(*_singular(layer.weight, self.rank)) for layer in layers]


class VectorPath(SidePath):
    """Two vectors train: `inner` (r,) between the projections and `outer` (outputs,) behind them."""

    def __init__(self, down: Tensor, up: Tensor, start: float) -> None:
        super().__init__(down, up)
        self.inner = nn.Parameter(down.new_full((len(down),), start))
        self.outer = nn.Parameter(up.new_zeros(len(up)))

    def factors(self) -> tuple[Tensor, Tensor]:
        """The outer vector scales the outputs, the inner one the ranks."""
        return self.down, self.outer[:, None] * self.up * self.inner


class VeRA(ProjectedAdapter):
    """VeRA (Kopiczko et al. 2023, arXiv 2310.11454): diag(b) B diag(d) A with random A and B that all layers share; b and d train.

    A and B are drawn once, as large as the largest layer needs, and every layer uses their first rows and columns. They come from
    a fixed seed, so an adapter file holds the vectors alone.

    Args:
        rank: Columns of B; VeRA wants many, 256 or so.
        targets: Which layers, as in `PeftAdapter`; norms cannot be.
        start: Value that d begins with; b begins at zero.
        projection_seed: Seed of A and B.
    """

    def __init__(self, rank: int = 256, targets: Sequence[str] = ("all",), start: float = 0.1, projection_seed: int = 0) -> None:
        super().__init__(rank, targets)
        self.start = start
        self.projection_seed = projection_seed

    def paths(self, layers: Sequence[Layer]) -> Sequence[SidePath]:
        """Parts of two matrices with Kaiming's uniform numbers, scaled by each layer's own number of inputs."""
        generator = torch.Generator().manual_seed(self.projection_seed)
        inputs, outputs = (max(flat.shape[side] for flat in (layer.weight.flatten(1) for layer in layers)) for side in (1, 0))
        down = 2 * torch.rand(self.rank, inputs, generator=generator) - 1
        up = 2 * torch.rand(outputs, self.rank, generator=generator) - 1
        made = []
        for layer in layers:
            of_layer = layer.weight.flatten(1).shape[1]
            bounds = (3 / of_layer) ** 0.5, (3 / self.rank) ** 0.5  # variance 1 / inputs
            own = (bounds[0] * down[:, :of_layer]).unflatten(1, layer.weight.shape[1:])
            made.append(VectorPath(own.clone(), bounds[1] * up[: len(layer.weight)], self.start))
        return made


def _plain_layer(name: str, layer: nn.Module) -> Layer:
    if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
        return layer
    problem = f"names {name}, which is neither a linear nor an ungrouped convolution layer"
    raise InputError("model.adapter.init_args.targets", problem, "leave it out")


def _singular(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """V_r^T, shaped as the weight, and U_r S_r of the weight (outputs, ...): from the smaller Gram matrix, twenty times faster."""
    flat = weight.detach().double().flatten(1).cpu()
    wide = flat.shape[0] <= flat.shape[1]
    vectors = torch.linalg.eigh(flat @ flat.T if wide else flat.T @ flat).eigenvectors
    first = vectors.flip(1)[:, :rank].T  # (r, outputs) or (r, inputs), the largest first
    v = F.normalize(first @ flat) if wide else first
    sign = v.gather(1, v.abs().argmax(dim=1, keepdim=True)).sign()
    v = sign * v
    return v.float().unflatten(1, weight.shape[1:]), (flat @ v.T).float()


def _beside(layer: Layer, inputs: Any, output: Tensor) -> Tensor:
    path = getattr(layer, "side_path", None)  # none any more once it is merged
    return output if path is None else output + path(layer, inputs[0])
