"""Inception score (Salimans et al. 2016, arXiv 1606.03498) on a sound classifier's logits: clear and varied sounds score high.

log IS = H(mean_i p_i) - mean_i H(p_i)  (1)   with p_i the class probabilities of clip i and H the entropy in nats.
"""

from itertools import pairwise

import torch
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.base import ClipMetric, Rows
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.metrics.extractors.base import Extractor

PAIRS = 200  # clips up to which every two are left out together
CLIPS_PER_CLASS = 3  # clips needed per unit of the score for an interval that covers


class InceptionScore(ClipMetric):
    """Inception score of generated clips alone; 1 is worst, the number of classes best.

    It cannot exceed the number of clips of a split, so the score of few clips is low for that reason alone. The interval is for
    infinitely many clips and may lie above the value.

    Args:
        extractor: A classifier.
        features: Its logits.
        splits: Parts that the shuffled clips are cut into; the value is the mean over parts. 1 is least biased, papers used 10.
        seed: Seed of the shuffle.
    """

    higher_is_better = True
    sides = ("preds",)

    def __init__(self, extractor: Extractor | None = None, features: str = "logits", splits: int = 1, seed: int = 0) -> None:
        super().__init__(extractor, features)
        if splits < 1:
            raise InputError("InceptionScore", f"splits is {splits}", "give at least 1")
        self.splits = splits
        self.seed = seed

    def measure(self, preds: Rows) -> Estimate:
        """Exponential of equation (1), the mean over splits; debiased by the jackknife."""
        probs = preds.mean().softmax(dim=1)  # (N, classes)
        count = len(probs)
        if count < 2 * self.splits:
            problem = f"needs at least {2 * self.splits} clips for {self.splits} splits, not {count}"
            raise InputError("InceptionScore", problem, "give more, or fewer splits")
        order = torch.randperm(count, generator=seeding.generator(self.seed, "splits")).to(probs.device)
        bounds = [count * part // self.splits for part in range(self.splits + 1)]
        parts = [probs[order[low:high]] for low, high in pairwise(bounds)]
        scores = torch.stack([log_score(part.sum(dim=0), _entropy(part).sum(), len(part)) for part in parts]).exp()
        pseudo = _pseudo_values(probs)
        debiased = pseudo.mean().exp().item()
        covers = count >= CLIPS_PER_CLASS * debiased
        return Estimate(
            scores.mean().item(),
            (pseudo - pseudo.mean(),),
            debiased,
            log=True,
            limits=(1.0, probs.shape[1]),
            covers=covers,
            caution="" if covers else f"{count} clips cannot resolve it; about {CLIPS_PER_CLASS * debiased:.0f} would",
            details={"std_over_splits": scores.std(correction=0).item()} if self.splits > 1 else {},
        )


def log_score(prob_sum: Tensor, entropy_sum: Tensor, count: int) -> Tensor:
    """Equation (1) from sums over `count` clips: of probabilities (..., classes) and of entropies (...)."""
    return _entropy(prob_sum / count) - entropy_sum / count


def _entropy(probs: Tensor) -> Tensor:
    """In nats, over the last axis; rounding below 0 counts as 0."""
    return torch.special.entr(probs.clamp(min=0)).sum(dim=-1)


def _pseudo_values(probs: Tensor) -> Tensor:
    """Jackknife pseudo-values (N,) of equation (1).

    Few clips need the second order: the statistic that is jackknifed is itself the jackknifed one, with every two clips left out.
    """
    count = len(probs)
    entropies = _entropy(probs)
    prob_sum, entropy_sum = probs.sum(dim=0), entropies.sum()
    whole = log_score(prob_sum, entropy_sum, count)
    without = log_score(prob_sum - probs, entropy_sum - entropies, count - 1)  # (N,)
    if count > PAIRS or count < 3:
        return count * whole - (count - 1) * without
    two = torch.stack([
        log_score(prob_sum - probs - prob, entropy_sum - entropies - entropy, count - 2)
        for prob, entropy in zip(probs, entropies, strict=True)
    ])  # (N, N): without clips i and j  # fmt: skip
    two.fill_diagonal_(0)
    debiased = count * whole - (count - 1) * without.mean()
    debiased_without = (count - 1) * without - (count - 2) * two.sum(dim=1) / (count - 1)
    return count * debiased - (count - 1) * debiased_without
