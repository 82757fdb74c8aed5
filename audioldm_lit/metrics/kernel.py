"""Kernel distances: the unbiased squared maximum mean discrepancy (Gretton et al. 2012, JMLR 13:723), with two kernels.

MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)  (1)

Unbiased at any number of clips, so it can be a little negative, and it separates models where a Frechet distance cannot. All rows
take part: no subsets are drawn.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from audioldm_lit.metrics.base import ClipMetric, Rows
from audioldm_lit.metrics.estimate import Estimate

AT_ONCE = 4_000_000  # kernel values held in memory


class KernelDistance(ClipMetric):
    """Base of the kernel distances of generated from recorded clips, one row a clip (several are averaged); 0 is best."""

    higher_is_better = False
    floor = True

    @abstractmethod
    def kernel(self, reference: Tensor) -> "Kernel":
        """The kernel, whose parameters may depend on the reference's rows (M, D) only."""

    def measure(self, preds: Rows, target: Rows) -> Estimate:
        """Equation (1); each clip's influence is that of the jackknife."""
        x, y = preds.mean(), target.mean()
        kernel = self.kernel(y)
        within_x, within_y = _others(kernel, x), _others(kernel, y)
        cross_x, cross_y = _means(kernel, x, y)
        value = within_x.mean() + within_y.mean() - 2 * cross_x.mean()
        influence = [_deviation(within_x, cross_x), _deviation(within_y, cross_y)]
        return Estimate(value.item(), influence)


class Kernel(ABC):
    """A positive definite function of pairs of rows."""

    @abstractmethod
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """(N, D) and (M, D) -> (N, M)."""


class GaussianKernel(Kernel):
    """scale * exp(-|x - y|^2 / (2 bandwidth^2))."""

    def __init__(self, bandwidth: float, scale: float) -> None:
        self.bandwidth = bandwidth
        self.scale = scale

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """(N, D) and (M, D) -> (N, M)."""
        return self.scale * torch.exp(-squared_distances(x, y) / (2 * self.bandwidth**2))


class CubicKernel(Kernel):
    """(x.y / D + 1)^3."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """(N, D) and (M, D) -> (N, M)."""
        return (x @ y.T / x.shape[1] + 1) ** 3


class KAD(KernelDistance):
    """Kernel audio distance: 100 times the squared MMD with a Gaussian kernel (Chung et al. 2025, arXiv 2502.15602).

    The bandwidth is the median distance between the reference's clips (the lower of the two middle ones), as the paper says; the
    paper's own program takes that of the evaluated clips, which makes the values of two models incomparable.
    """

    def kernel(self, reference: Tensor) -> Kernel:
        """Gaussian at the reference's median distance."""
        return GaussianKernel(median_distance(reference), 100.0)


class ReconstructionKAD(KAD):
    """KAD of generated clips from recordings that went through the same VAE and vocoder.

    What the decoder does to sound is on both sides and cancels: how well the UNet has learned is seen even where the decoder is
    poor.
    """

    sides = ("preds", "reconstructed")


class KID(KernelDistance):
    """Kernel distance with the cubic kernel of the kernel inception distance (Binkowski et al. 2018, arXiv 1801.01401)."""

    def kernel(self, reference: Tensor) -> Kernel:
        """Cubic; it has no parameter."""
        return CubicKernel()


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(N, D) and (M, D) float64 -> squared Euclidean distances (N, M), by a matrix product of rows centred on y's mean."""
    x, y = x - y.mean(dim=0), y - y.mean(dim=0)  # the product would lose what rows far from 0 differ by
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    return (squares - 2 * x @ y.T).clamp(min=0)


def median_distance(rows: Tensor) -> float:
    """Lower median of the Euclidean distances between different rows (N, D); the smallest positive one where that is 0."""
    distances = torch.pdist(rows)
    median = distances.median().item()
    if median > 0:
        return median
    positive = distances[distances > 0]
    return positive.min().item() if len(positive) else 1.0


def _means(kernel: Kernel, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean kernel value of each row of x with the rows of y, (N,), and of each row of y with those of x, (M,)."""
    of_x, of_y = [], torch.zeros_like(y[:, 0])
    for part in x.split(max(1, AT_ONCE // len(y))):
        values = kernel(part, y)
        of_x.append(values.mean(dim=1))
        of_y += values.sum(dim=0) / len(x)
    return torch.cat(of_x), of_y


def _others(kernel: Kernel, x: Tensor) -> Tensor:
    """Mean kernel value of each row with the other rows, (N,)."""
    itself = torch.cat([kernel(part, part).diagonal() for part in x.split(64)])
    return (_means(kernel, x, x)[0] * len(x) - itself) / (len(x) - 1)


def _deviation(within: Tensor, cross: Tensor) -> Tensor:
    """Jackknife deviations of one side's clips; leaving a clip out also thins its pairs, hence (N - 1) / (N - 2)."""
    count = len(within)
    own = within - within.mean()
    return 2 * own * ((count - 1) / max(1, count - 2)) - 2 * (cross - cross.mean())
