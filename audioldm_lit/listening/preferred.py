"""Pairs that raters ordered, for a model to learn from."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from audioldm_lit.listening.answers import Answers, given
from audioldm_lit.listening.blind_test import ANCHOR, REFERENCE, BlindTest
from audioldm_lit.listening.screening import screened


def preferred(test: BlindTest, answers: Sequence[Answers]) -> Iterator[tuple[str, Path, Path]]:
    """Caption, better and worse file of every two systems' sounds of a clip, by the raters who count; none where they are even.

    Rated is the mean over raters of the questions that have weight, each by its own. The hidden reference and the anchor are no
    model's answers; what was judged as one of a set, or is a part of a longer file, is left out.
    """
    rated: dict[tuple[str, str], dict[Path, float]] = defaultdict(lambda: defaultdict(float))  # by clip and caption
    for rater in screened(test, answers)[0]:
        for trial, name, item, value in given(test, rater):
            sound = test.sounds[item.sounds[0]]
            alone = trial.kind == "rated" and len(item.sounds) == 1 and item.system not in (REFERENCE, ANCHOR)
            if alone and test.question[name].weight and sound.file and not sound.span:
                rated[trial.clip, trial.caption][Path(sound.file)] += test.question[name].weight * value
    for (_, caption), sums in rated.items():
        for one, other in combinations(sums, 2):
            if sums[one] != sums[other]:
                better, worse = sorted((one, other), key=sums.__getitem__, reverse=True)
                yield caption, better, worse
