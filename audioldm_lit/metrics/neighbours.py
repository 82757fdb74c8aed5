"""Precision, recall, density and coverage: whether generated clips lie among the recorded ones, and the other way round.

Every clip has a ball that reaches to its k-th nearest neighbour of its own side (Kynkaanniemi et al. 2019, arXiv 1904.06991; Naeem
et al. 2020, arXiv 2002.09797). They have no interval: one over the counted clips, with the other side's balls held fixed, would
call two systems of one distribution different every fifth time.
"""

import torch
from torch import Tensor

from audioldm_lit.errors import InputError
from audioldm_lit.metrics.base import ClipMetric, Rows
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.metrics.extractors.base import Extractor


class Neighbours(ClipMetric):
    """Base of the four; more is better.

    Args:
        extractor: What turns clips into rows; several rows of a clip are averaged.
        features: Which of its features.
        k: Number of the neighbour that a ball reaches to; each side needs more clips than that.
    """

    higher_is_better = True

    def __init__(self, extractor: Extractor | None = None, features: str = "embedding", k: int = 5) -> None:
        super().__init__(extractor, features)
        if k < 1:
            raise InputError(type(self).__name__, f"k is {k}", "give at least 1")
        self.k = k

    def radii(self, rows: Tensor) -> Tensor:
        """Distance (N,) of each row to its k-th nearest other row."""
        if len(rows) <= self.k:
            raise InputError(
                type(self).__name__, f"needs more than {self.k} clips on either side, not {len(rows)}", "give more, or a smaller k"
            )
        distances = _distances(rows, rows).fill_diagonal_(torch.inf)
        return distances.kthvalue(self.k, dim=1).values


class Precision(Neighbours):
    """Share of generated clips inside the ball of at least one recorded clip."""

    def measure(self, preds: Rows, target: Rows) -> Estimate:
        """In [0, 1]."""
        x, y = preds.mean(), target.mean()
        return _mean((_distances(x, y) <= self.radii(y)).any(dim=1))


class Recall(Neighbours):
    """Share of recorded clips inside the ball of at least one generated clip."""

    def measure(self, preds: Rows, target: Rows) -> Estimate:
        """In [0, 1]."""
        x, y = preds.mean(), target.mean()
        return _mean((_distances(y, x) <= self.radii(x)).any(dim=1))


class Density(Neighbours):
    """Number of recorded clips' balls that a generated clip lies in, divided by k; about 1 for recordings themselves."""

    def measure(self, preds: Rows, target: Rows) -> Estimate:
        """From 0 upwards."""
        x, y = preds.mean(), target.mean()
        return _mean((_distances(x, y) <= self.radii(y)).double().sum(dim=1) / self.k)


class Coverage(Neighbours):
    """Share of recorded clips whose ball holds at least one generated clip."""

    def measure(self, preds: Rows, target: Rows) -> Estimate:
        """In [0, 1]."""
        x, y = preds.mean(), target.mean()
        return _mean((_distances(x, y) <= self.radii(y)).any(dim=0))


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _mean(counted: Tensor) -> Estimate:
    """Mean over clips (N,), without interval."""
    return Estimate(counted.double().mean().item(), covers=False, caution="no interval is known that covers")
