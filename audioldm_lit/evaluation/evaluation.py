"""The scores of one system with their passport, and how those of two differ."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.passport import check_comparable
from audioldm_lit.evaluation.score import Comparison, Score, compare


@dataclass(frozen=True)
class Evaluation:
    """Scores of one system.

    Attributes:
        scores: By metric.
        passport: Everything the values depend on; `sha256` is the hash of what two systems must share to be compared.
        not_computed: Why a metric has no score, by metric; for JSON its fields.
    """

    scores: Mapping[str, Score]
    passport: Mapping[str, Any]
    not_computed: Mapping[str, InputError] = field(default_factory=dict)

    def noting(self, **entries: Any) -> "Evaluation":
        """The same scores with further entries in the passport."""
        return replace(self, passport={**self.passport, **entries})

    @property
    def suspected_copies(self) -> list[tuple[Any, ...]]:
        """Generated clips that are near-copies: (id, training clip, similarity, and of several its number)."""
        found = [score.estimate.details for score in self.scores.values() if "nearest" in score.estimate.details]
        return [tuple(pair) for details in found for pair in details["nearest"] if pair[2] > details["threshold"]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        figures = {name: score.as_dict() for name, score in self.scores.items()}
        missing = {name: vars(error) for name, error in self.not_computed.items()}
        return {"metrics": figures, "not_computed": missing, "passport": dict(self.passport)}


def compare_systems(first: Evaluation, second: Evaluation) -> dict[str, Comparison]:
    """How the second system differs from the first, by metric; see `compare` and `check_comparable`.

    Where their decoders differ, distances from reconstructions are left out: each is from what its own decoder makes.
    """
    check_comparable({"the first": first.passport, "the second": second.passport})
    decoders = [one.passport["decoder"] for one in (first, second) if "decoder" in one.passport]
    apart = len(decoders) == 2 and decoders[0] != decoders[1]
    shared = [
        name
        for name, score in first.scores.items()
        if name in second.scores and not (apart and "reconstructed" in score.side_names)
    ]
    return {name: compare(first.scores[name], second.scores[name]) for name in shared}
