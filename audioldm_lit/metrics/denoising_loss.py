"""The held-out denoising loss as a metric."""

from collections.abc import Sequence

from torch import Tensor

from audioldm_lit.metrics.base import ClipMetric, Rows
from audioldm_lit.metrics.estimate import Estimate


class HeldOutLoss(ClipMetric):
    """Mean denoising loss over clips, in float64.

    `update` accepts `ids`, the clips' names, and `losses` (B, K), their losses on fixed noise at K timesteps. `compute` returns the
    mean, a scalar.
    """

    higher_is_better = False
    sides = ("preds",)

    def update(self, ids: Sequence[str], losses: Tensor) -> None:  # type: ignore[override]  # it is given no sound
        """Add the clips' losses."""
        self.add("preds", ids, losses.double())

    def measure(self, preds: Rows) -> Estimate:
        """Mean over clips and timesteps."""
        return Estimate.of_mean(preds.values.mean(dim=1))

    def by_timestep(self) -> Tensor:
        """Mean over the clips of all processes at each timestep, (K,) float64."""
        (preds,) = self.gathered()
        return preds.values.mean(dim=0)
