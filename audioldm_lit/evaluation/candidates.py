"""Several clips a caption: scores of each candidate by itself, and their mean.

Two noises for one caption make two different clips, so that a value of one candidate a caption carries the luck of the noise. The
mean over candidates has less of it. It is no larger sample: captions and recordings are as many as before, and intervals are over
them.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from audioldm_lit.evaluation.evaluation import Evaluation
from audioldm_lit.evaluation.score import Floor, Score
from audioldm_lit.metrics.estimate import Estimate


def mean_of_candidates(evaluations: Sequence[Evaluation], seed: int = 0) -> Evaluation:
    """The mean of evaluations of the same captions, one for each candidate.

    Args:
        evaluations: Of one system against the same recordings, the first candidate's first; its passport is kept, with
            `num_candidates`.
        seed: Of the intervals' resampling.
    """
    first, *others = evaluations
    passport = {**first.passport, "num_candidates": len(evaluations)}
    if not others:
        return replace(first, passport=passport)
    computed = [name for name in first.scores if all(name in evaluation.scores for evaluation in others)]
    scores = {name: _mean_score([evaluation.scores[name] for evaluation in evaluations], seed) for name in computed}
    reasons = {name: error for evaluation in evaluations for name, error in evaluation.not_computed.items()}
    return Evaluation(scores, passport, reasons)


def _mean_score(scores: Sequence[Score], seed: int) -> Score:
    """Value, influence and floor are means; nearest training clips are those of every candidate, by its number."""
    first = scores[0]
    estimate = Estimate.mean([score.estimate for score in scores])
    details: dict[str, Any] = dict(first.estimate.details)
    if "nearest" in details:
        details["nearest"] = sorted(
            ((*pair[:3], number) for number, score in enumerate(scores) for pair in score.estimate.details["nearest"]),
            key=lambda pair: -pair[2],
        )
    estimate = replace(estimate, details=details)
    values, excesses = ([getattr(score.floor, name) for score in scores] for name in ("value", "excess"))
    floor = Floor(sum(values) / len(scores), sum(excesses) / len(scores), first.floor.num_clips)
    return replace(first, estimate=estimate, interval=estimate.interval(seed), floor=floor, classes={})
