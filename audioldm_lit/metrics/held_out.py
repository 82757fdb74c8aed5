"""The held-out denoising loss as a metric."""

from collections.abc import Sequence

from torch import Tensor

from audioldm_lit.metrics.base import ClipMetric, Rows
from audioldm_lit.metrics.estimate import Estimate


class HeldOutLoss(ClipMetric):
    """Mean denoising loss over clips, in float64.

    As input to `update` the metric accepts `ids`, the clips' names, and `loss` (B,), their losses on fixed noise. As output of
    `compute` it returns the mean, a scalar.
    """

    higher_is_better = False
    sides = ("preds",)

    def update(self, ids: Sequence[str], loss: Tensor) -> None:
        """Add the clips' losses."""
        self.add("preds", ids, loss.double())

    def measure(self, preds: Rows) -> Estimate:
        """Mean over clips."""
        return Estimate.of_mean(preds.values[:, 0])
