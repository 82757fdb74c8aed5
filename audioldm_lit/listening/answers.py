"""The answers of raters: small files that the page of a test lets them download, read strictly."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from audioldm_lit.errors import InputError
from audioldm_lit.listening.blind_test import BlindTest, Item, Question, Trial
from audioldm_lit.storage.plain_files import read_json

FORMAT = "audioldm_lit listening answers 1"
Ratings = Mapping[str, Mapping[str, Mapping[str, float]]]  # by trial, question and item
NOTHING = "ask the rater for the file again; the page keeps the answers"


@dataclass(frozen=True)
class Answers:
    """What one rater said.

    Attributes:
        path: The file.
        rater: Name.
        finished: When, by the rater's own clock, ISO 8601.
        ratings: By trial, question and item.
    """

    path: Path
    rater: str
    finished: str
    ratings: Ratings

    @property
    def who(self) -> str:
        """The name without what people type differently from day to day."""
        return " ".join(self.rater.casefold().split())


def read_all(sources: Sequence[Path], test: BlindTest) -> tuple[list[Answers], list[InputError]]:
    """Answers to a test, one a rater, and why each of the other files is not used.

    Of two files of one rater the one that was finished first counts: later answers know the sounds.

    Args:
        sources: Files, and folders whose `.json` files are meant.
        test: The test.

    Raises:
        InputError: If there is no file.
    """
    files = [path for source in sources for path in (sorted(source.glob("*.json")) if source.is_dir() else [source])]
    if not files:
        raise InputError(", ".join(map(str, sources)), "holds no .json", "give the files that raters have sent, or their folder")
    found: list[Answers] = []
    errors: list[InputError] = []
    for path in files:
        try:
            found.append(read(path, test))
        except InputError as error:
            errors.append(error.with_traceback(None))
    first: dict[str, Answers] = {}
    for one in sorted(found, key=lambda one: (one.finished, str(one.path))):
        if (known := first.setdefault(one.who, one)) is not one:
            problem = f"is a second file of '{one.rater}'; {known.path.name}, which was finished first, counts"
            errors.append(InputError(one.path, problem, "give two people two names"))
    return list(first.values()), errors


def read(path: Path, test: BlindTest) -> Answers:
    """One file of answers.

    Raises:
        InputError: If it is broken, of another test, or lacks an answer.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(path, f"is no whole file of answers, perhaps half a download ({error})", NOTHING) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(path, "holds no answers of a listening test", "leave it out")
    if content.get("test") != test.sha256:
        raise InputError(path, f"holds answers to another test than '{test.title}'", "merge it with its own test's file")
    if not isinstance(rater := content.get("rater"), str) or not rater.strip():
        raise InputError(path, "does not say who answered", NOTHING)
    ratings: Any = content.get("ratings")
    for trial in test.asked:
        for name in trial.questions:
            _check(path, trial, test.question[name], _part(_part(ratings, trial.id), name))
    return Answers(path, rater, str(content.get("finished")), ratings)


def _part(content: Any, key: str) -> Any:
    return content.get(key) if isinstance(content, dict) else None


def _check(path: Path, trial: Trial, question: Question, given: Any) -> None:
    """Refuse a missing answer, and one that the page cannot have given."""
    ids = {item.id for item in trial.items}
    if not isinstance(given, dict) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in given.values()
    ):
        raise InputError(path, f"lacks an answer to '{question.name}' in trial {trial.id}", NOTHING)
    whole = set(given) == ids if question.way != "match" else len(given) == 1 and set(given) <= ids
    if not whole or not all(question.low <= value <= question.high for value in given.values()):
        raise InputError(path, f"holds an answer to '{question.name}' in trial {trial.id} that the page cannot have given", NOTHING)


def table(test: BlindTest, answers: Sequence[Answers]) -> pd.DataFrame:
    """All answers that count, a row each: `rater`, `question`, `system`, `clip`, `value`."""
    rows = [row for one in answers for row in _rows(test, one)]
    return pd.DataFrame(rows, columns=["rater", "question", "system", "clip", "value"])


def _rows(test: BlindTest, answers: Answers) -> Iterator[tuple[str, str, str, str, float]]:
    for trial, name, item, value in given(test, answers):
        if trial.kind == "rated":
            yield answers.rater, name, item.system, trial.clip, value


def given(test: BlindTest, answers: Answers) -> Iterator[tuple[Trial, str, Item, float]]:
    """Trial, question, item and answer of everything that a rater said."""
    for trial in test.asked:
        for name in trial.questions:
            for item in trial.items:
                value = answers.ratings[trial.id][name].get(item.id)
                if value is not None:
                    yield trial, name, item, float(value)
