"""KL divergence between the class probabilities of a recording and of the clip generated from its caption."""

import torch
import torch.nn.functional as F
from torch import Tensor

from audioldm_lit.metrics.base import ClipMetric, Rows, paired
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.metrics.extractors.base import Extractor


class KLDivergence(ClipMetric):
    """Mean over clips of KL(recorded || generated) in nats; 0 is best. Clips are paired by id.

    Args:
        extractor: A classifier.
        features: Its logits.
        epsilon: Added to the generated clip's probabilities. 0 is exact; 1e-6 is what audioldm_eval adds, which lowers the value by
            about 0.3 % and caps it at 13.8.
        sigmoid: Take an independent probability for each class and sum p log(p / q) over them, as audioldm_eval's `KL_sigmoid`
            does; that is not a divergence and can be negative.
    """

    higher_is_better = False

    def __init__(
        self, extractor: Extractor | None = None, features: str = "logits", epsilon: float = 0.0, sigmoid: bool = False
    ) -> None:
        super().__init__(extractor, features)
        self.epsilon = epsilon
        self.sigmoid = sigmoid

    def measure(self, preds: Rows, target: Rows) -> Estimate:
        """Mean over pairs of sum_c p_c (log p_c - log(q_c + epsilon))."""
        generated, recorded = paired(preds, target)
        log_p, log_q = self._log_probs(recorded), self._log_probs(generated)
        if self.epsilon:
            log_q = torch.log(log_q.exp() + self.epsilon)
        return Estimate.of_mean((log_p.exp() * (log_p - log_q)).sum(dim=1))

    def _log_probs(self, logits: Tensor) -> Tensor:
        return F.logsigmoid(logits) if self.sigmoid else logits.log_softmax(dim=1)
