"""Memorisation: does a model trained on a few clips reproduce them?"""

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audioldm_lit.metrics.base import ClipMetric, Rows
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.metrics.similarity import near_copy_threshold, shift_tolerant_similarity


class Memorisation(ClipMetric):
    """Share of generated clips that are near-copies of a training clip, at any gain, shifted by up to 1.5 s, in noise; 0 is best.

    The reference, which training must not have seen, shows how alike independent recordings of these sounds are; a near-copy is
    more like a training clip than they are. The details name each generated clip's nearest training clip.

    The extractor makes one row a frame, zero where there is silence.
    """

    higher_is_better = False
    sides = ("preds", "target", "train")

    def measure(self, preds: Rows, target: Rows, train: Rows) -> Estimate:
        """In [0, 1]; `nearest` in the details is, for every generated clip, (its number, the training clip's, similarity)."""
        wanted = _by_clip(train)
        threshold = near_copy_threshold(shift_tolerant_similarity(_by_clip(target), wanted).amax(dim=1)).item()
        similarity, nearest = shift_tolerant_similarity(_by_clip(preds), wanted).max(dim=1)
        pairs = zip(preds.ids.tolist(), train.ids[nearest].tolist(), similarity.tolist(), strict=True)
        return Estimate.of_share(similarity > threshold, threshold=threshold, nearest=list(pairs))


def _by_clip(rows: Rows) -> Tensor:
    """Rows as (N, F, M), shorter clips padded with zeros."""
    return pad_sequence(rows.values.split(rows.clip.bincount(minlength=rows.num_clips).tolist()), batch_first=True)
