"""From answers to what they say: mean ratings with intervals, pairs of systems, agreement."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal

import pandas as pd

from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.opinion import SCORE, MeanRating, Opinion, Preference, Trust
from audioldm_lit.listening.agreement import alpha, correlation
from audioldm_lit.listening.answers import Answers, table
from audioldm_lit.listening.blind_test import BlindTest
from audioldm_lit.listening.crossed import CrossedMean, crossed_mean, crossed_share
from audioldm_lit.listening.screening import screened

TOGETHER = " | "  # between the systems of a question that asks about all of them


def opinion(test: BlindTest, answers: Sequence[Answers], not_read: Sequence[InputError] = ()) -> Opinion:
    """What the raters of a test said.

    Args:
        test: The test.
        answers: Of its raters, before any is screened.
        not_read: What is wrong with other files.

    Raises:
        InputError: If no rater is left.
    """
    kept, left_out = screened(test, answers)
    if not kept:
        why = "; ".join([*(f"{rater}: {reason}" for rater, reason in left_out.items()), *map(str, not_read)])
        raise InputError(test.title, f"no answers count ({why})", "ask more people")
    ratings = table(test, kept)
    names = [*(question.name for question in test.questions if question.name in set(ratings["question"]))]
    main = main_question(test)
    return Opinion(
        title=test.title,
        test=test.sha256,
        scheme=test.scheme,
        main=main,
        scales={name: (test.question[name].low, test.question[name].high) for name in names} | _score_scale(test),
        chance={name: chance for name in names if (chance := test.question[name].chance) is not None},
        raters=sorted(one.rater for one in kept),
        left_out=left_out,
        not_read=[str(error) for error in not_read],
        means=list(_means(test, ratings, [*names, *_score_scale(test)])),
        preferences=list(_preferences(test, ratings, [*names, *_score_scale(test)])),
        alpha={name: alpha(ratings[ratings["question"] == name]) for name in names},
    )


def main_question(test: BlindTest) -> str:
    """The score of a test that weighs several questions, or the one question that has weight."""
    weighed = [question.name for question in test.questions if question.weight]
    return SCORE if len(weighed) > 1 else weighed[0]


def trust(test: BlindTest, answers: Sequence[Answers], metrics: Mapping[str, pd.Series]) -> tuple[list[Trust], dict[str, str]]:
    """Which metrics order sounds as the listeners do, the best first, and why the others were not compared.

    Args:
        test: The test.
        answers: Of its raters, before any is screened.
        metrics: A number, larger for better, for every system and clip, by metric.
    """
    ratings = table(test, screened(test, answers)[0])
    single = [question.name for question in test.questions if question.weight and question.way in ("steps", "slider", "choice")]
    judged = ratings[ratings["question"].isin(single)]
    judged = judged.groupby(["rater", "system", "clip"], as_index=False)["value"].mean()
    found, not_compared = [], {}
    for name, values in metrics.items():
        result = correlation(judged, values)
        if result is None:
            not_compared[name] = "too few sounds, or all are alike"
        else:
            low, high = result.interval or (None, None)
            found.append(Trust(name, result.value, low, high, result.sounds, result.verdict))
    return sorted(found, key=lambda one: -one.correlation), not_compared


def _score_scale(test: BlindTest) -> dict[str, tuple[float, float]]:
    """The scale of the score, where there is one."""
    weighed = [question for question in test.questions if question.weight]
    total = sum(question.weight for question in weighed)
    ends = (sum(one.weight * one.low for one in weighed) / total, sum(one.weight * one.high for one in weighed) / total)
    return {SCORE: ends} if len(weighed) > 1 else {}


def _of_question(test: BlindTest, ratings: pd.DataFrame, name: str) -> pd.DataFrame:
    """Answers to a question; those that the score is of come with their weights, of systems that all its questions are asked of."""
    if name != SCORE:
        found = ratings[ratings["question"] == name]
        return found.assign(system=TOGETHER.join(test.systems)) if test.question[name].way == "match" else found
    asked = set(ratings["question"])
    weights = {question.name: question.weight for question in test.questions if question.weight and question.name in asked}
    weighed = ratings[ratings["question"].isin(weights)]
    whole = weighed.groupby("system")["question"].transform("nunique") == len(weights)
    return weighed[whole].assign(weight=lambda rows: rows["question"].map(weights) / sum(weights.values()))


def _means(test: BlindTest, ratings: pd.DataFrame, names: Sequence[str]) -> Iterator[MeanRating]:
    for name in names:
        for system, rows in _of_question(test, ratings, name).groupby("system", sort=False):
            mean = _mean(test, name, rows)
            yield MeanRating(name, str(system), mean.value, _finite(mean.low), _finite(mean.high), mean.raters, mean.clips)


def _mean(test: BlindTest, name: str, rows: pd.DataFrame) -> CrossedMean:
    if name != SCORE and test.question[name].chance is not None:
        return crossed_share(rows)
    low, high = _score_scale(test)[SCORE] if name == SCORE else (test.question[name].low, test.question[name].high)
    return crossed_mean(rows).within(low, high)


def _preferences(test: BlindTest, ratings: pd.DataFrame, names: Sequence[str]) -> Iterator[Preference]:
    """Every pair of compared systems on every question, paired by rater and clip."""
    for name in names:
        if name != SCORE and test.question[name].way == "match":
            continue
        rows = _of_question(test, ratings, name)
        for first, second in combinations(test.systems, 2):
            found = _difference(test, name, rows, first, second)
            low, high = _finite(found.low), _finite(found.high)
            yield Preference(name, first, second, found.value, low, high, _verdict(low, high))


def _verdict(low: float | None, high: float | None) -> Literal["better", "worse", "cannot tell"]:
    if low is None or high is None or low <= 0 <= high:
        return "cannot tell"
    return "better" if low > 0 else "worse"


def _difference(test: BlindTest, name: str, rows: pd.DataFrame, first: str, second: str) -> CrossedMean:
    """Second minus first; of a choice between the two, what the share of the second is beyond that of the first."""
    if name != SCORE and test.question[name].way == "choice":
        share = crossed_share(rows[rows["system"] == second])
        return CrossedMean(2 * share.value - 1, 2 * share.low - 1, 2 * share.high - 1, share.raters, share.clips, 2 * share.error)
    keys = ["rater", "question", "clip", *(["weight"] if name == SCORE else [])]
    sides = [rows[rows["system"] == system].set_index(keys)["value"] for system in (first, second)]
    return crossed_mean((sides[1] - sides[0]).dropna().reset_index())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
