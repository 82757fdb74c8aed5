"""Frechet distance between Gaussians fitted to two sets of rows: FAD on VGGish's windows, FD on one vector a clip.

FD = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)  (1)

(Dowson and Landau 1982, J. Multivariate Analysis 12:450; as FAD: Kilgour et al. 2019, arXiv 1812.08466). With S = F^T F for each
set, tr (S1 S2)^(1/2) is the nuclear norm of F1 F2^T (2): no matrix square root, any rank, exact in float64.
"""

import math

import torch
from torch import Tensor

from audioldm_lit.errors import InputError
from audioldm_lit.metrics.base import ClipMetric, Rows
from audioldm_lit.metrics.estimate import Estimate

GROUPS = 10  # of clips, left out in turn to find the bias
ROWS, CLIPS = 10, 4  # needed per dimension for an interval that covers; rows of one clip resemble each other
EXACT = 1e-12  # relative error allowed on the fast way
CONDITION = 1e-6  # ratio of Cholesky pivots below which a covariance counts as singular


class FrechetDistance(ClipMetric):
    """Frechet distance of generated from recorded clips; 0 is best.

    Its sample-size bias is larger than most differences between models until there are many more rows than dimensions, so read it
    beside its floor. The debiased value estimates that of infinitely many clips by the extrapolation of Chong and Forsyth (2020,
    arXiv 1911.07023; FAD-infinity: Gui et al. 2023, arXiv 2311.01616), with groups of clips left out in turn instead of drawn at
    random, which leaves two thirds of the spread.
    """

    higher_is_better = False
    floor = True

    def measure(self, preds: Rows, target: Rows) -> Estimate:
        """Equation (1), debiased from 2 rows a dimension on, with an interval from 10 rows and 4 clips a dimension on."""
        _check(preds, target)
        first, second = Gaussian(preds.values), Gaussian(target.values)
        value = _distance(first, second)
        rows, dims = min(first.num_rows, second.num_rows), preds.values.shape[1]
        clips = min(preds.num_clips, target.num_clips)
        debiased = value - _bias(preds, target, value) if rows >= 2 * dims and clips > 1 else None
        if rows < ROWS * dims or clips < CLIPS * dims:
            return Estimate(value, debiased=debiased, covers=False, caution=self._caution(rows, dims))
        per_row = _influence(first, second)
        influence = [_per_clip(*pair) for pair in zip(per_row, (preds, target), strict=True)]
        return Estimate(value, influence, debiased, limits=(0.0, math.inf))

    def value(self, preds: Rows, target: Rows) -> float:
        """Equation (1)."""
        _check(preds, target)
        return frechet_distance(preds.values, target.values)

    @staticmethod
    def _caution(rows: int, dims: int) -> str:
        return (
            f"{rows:,} rows of {dims:,} dimensions: mostly sample-size bias, compare it with the floor and only at equal counts; "
            f"an interval needs {ROWS * dims:,} rows of {CLIPS * dims:,} clips"
        )


def _check(preds: Rows, target: Rows) -> None:
    """Refuse a side that has no covariance."""
    for side, rows in (("preds", preds), ("target", target)):
        if len(rows.values) < 2:
            raise InputError(f"`{side}`", "has one row, and a covariance needs two", "give more clips")


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Equation (1) for rows (N, D) and (M, D), unbiased covariances, float64; N and M at least 2."""
    return _distance(Gaussian(first), Gaussian(second))


class Gaussian:
    """Mean and a factor F of the covariance F^T F of rows (N, D).

    Up to D rows, F is the centred rows themselves; with more, the transposed Cholesky factor (D, D) of the covariance, or the
    triangle of a QR decomposition where the covariance is singular.
    """

    def __init__(self, rows: Tensor) -> None:
        rows = rows.double()
        self.mean = rows.mean(dim=0)
        self.num_rows = len(rows)
        self.centred = rows - self.mean
        scaled = self.centred / (len(rows) - 1) ** 0.5
        self.full_rank = False
        if len(rows) <= rows.shape[1]:
            self.factor = scaled
            return
        lower, failed = torch.linalg.cholesky_ex(scaled.T @ scaled)
        pivots = lower.diagonal()
        self.full_rank = not failed and bool(pivots.min() > CONDITION * pivots.max())
        self.factor = lower.T if self.full_rank else torch.linalg.qr(scaled, mode="r").R

    @property
    def trace(self) -> Tensor:
        """Trace of the covariance."""
        return self.factor.square().sum()


def _distance(first: Gaussian, second: Gaussian) -> float:
    shift = (first.mean - second.mean).square().sum()
    norm = _nuclear_norm(first.factor @ second.factor.T, first.full_rank and second.full_rank)
    return max(0.0, (shift + first.trace + second.trace - 2 * norm).item())


def _nuclear_norm(matrix: Tensor, full_rank: bool) -> Tensor:
    """Sum of singular values; of a matrix of full rank by its Gram matrix, three times faster, if that is exact enough."""
    if full_rank:
        values = torch.linalg.eigvalsh(matrix @ matrix.T)
        if values[0] > 0:
            singular = values.sqrt()
            # An error of eps times the largest eigenvalue moves sqrt(value) by that over 2 sqrt(value).
            error = torch.finfo(values.dtype).eps * values[-1] * (0.5 / singular).sum()
            if error < EXACT * singular.sum():
                return singular.sum()
    return torch.linalg.svdvals(matrix).sum()


def _bias(preds: Rows, target: Rows, value: float) -> float:
    """Sample-size bias of `value`: the delete-a-group jackknife (Quenouille 1956, Biometrika 43:353) over both sides' clips."""
    bias = 0.0
    for side, other in ((preds, target), (target, preds)):
        groups, fixed = min(GROUPS, side.num_clips), Gaussian(other.values)
        group = torch.arange(side.num_clips, device=side.ids.device) % groups
        left_out = [_distance(Gaussian(side.take(group != index).values), fixed) for index in range(groups)]
        bias += (groups - 1) * (sum(left_out) / groups - value)
    return bias


def _influence(first: Gaussian, second: Gaussian) -> tuple[Tensor, Tensor]:
    """Influence of each row on equation (1), (N,) and (M,).

    The derivative of (1) by S1 is I - T, T = L W^(-1/2) L^T with S2 = L L^T and W = L^T S1 L: T moves one Gaussian onto the other
    (Gelbrich 1990, Mathematische Nachrichten 147:185).
    """
    lower = second.factor.T
    values, vectors = torch.linalg.eigh(lower.T @ first.factor.T @ first.factor @ lower)
    spanned = values > CONDITION**2 * values.max()  # a dimension that never varies has no say
    turned = lower @ vectors[:, spanned]
    transport = turned / values[spanned].sqrt() @ turned.T
    inverse = torch.linalg.pinv(transport, hermitian=True)
    shift = first.mean - second.mean
    return _quadratic(first.centred, shift, transport), _quadratic(second.centred, -shift, inverse)


def _quadratic(centred: Tensor, shift: Tensor, transport: Tensor) -> Tensor:
    return 2 * centred @ shift + ((centred - centred @ transport) * centred).sum(dim=1)


def _per_clip(influence: Tensor, rows: Rows) -> Tensor:
    """Influence of each clip (N,), mean zero, from that of its rows (R,)."""
    sums = torch.zeros(rows.num_clips, dtype=torch.float64, device=influence.device)
    sums.index_add_(0, rows.clip, influence - influence.mean())
    return sums * (rows.num_clips / len(influence))
