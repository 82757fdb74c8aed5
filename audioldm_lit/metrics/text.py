"""Scores of sound against text: does a clip sound like its caption, and does an adapted model still follow general prompts."""

from audioldm_lit.metrics.base import ClipMetric, Rows, paired
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.metrics.extractors.base import Extractor


class CLAPScore(ClipMetric):
    """Mean cosine, in [-1, 1], of CLAP's embeddings of generated clips and their captions; comparable within one CLAP model only.

    Args:
        extractor: A CLAP model.
        features: Its cosine of sound and caption.
    """

    higher_is_better = True
    sides = ("preds",)

    def __init__(self, extractor: Extractor | None = None, features: str = "similarity") -> None:
        super().__init__(extractor, features)

    def measure(self, preds: Rows) -> Estimate:
        """Mean over clips."""
        return Estimate.of_mean(preds.mean()[:, 0])


class Retention(ClipMetric):
    """How much better the adapted model (`preds`) follows general prompts than the base (`target`); below 0 it has forgotten.

    Mean over prompts of the difference of the two CLAP scores. Both must have generated from the same prompts, and should have used
    the same seeds; clips are paired by id.

    Args:
        extractor: A CLAP model.
        features: Its cosine of sound and caption.
    """

    higher_is_better = True

    def __init__(self, extractor: Extractor | None = None, features: str = "similarity") -> None:
        super().__init__(extractor, features)

    def measure(self, preds: Rows, target: Rows) -> Estimate:
        """Mean difference, in [-2, 2]; details hold both scores."""
        adapted, base = paired(preds, target)
        estimate = Estimate.of_mean((adapted - base)[:, 0])
        estimate.details.update(adapted=adapted.mean().item(), base=base.mean().item())
        return estimate
