"""A listening test as its file tells it: what is asked of which sounds, and which system each is of.

The page knows no system: this file stays with whoever leads the test.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.storage.plain_files import read_json

FORMAT = "audioldm_lit listening test 1"
Kind = Literal["rated", "check", "practice"]
Way = Literal["steps", "slider", "choice", "match"]
REFERENCE, ANCHOR = "reference", "anchor"  # what stands among the systems of a test with a hidden reference


@dataclass(frozen=True)
class Question:
    """What is asked of an item.

    Attributes:
        name: Of its texts, and in all tables.
        way: How it is answered: one of so many steps, a slider, a choice of one item or none, or which item X is.
        low: Lowest answer.
        high: Highest answer.
        weight: Its share in the score, relative to those of the other questions; 0 where it has none.
        chance: The mean of raters who hear no difference, of a question that asks for one.
    """

    name: str
    way: Way
    low: float
    high: float
    weight: float = 0.0
    chance: float | None = None


@dataclass(frozen=True)
class Expected:
    """An answer that an attentive rater gives: to which question and rule it belongs, and its lowest and highest value."""

    rule: str
    question: str
    low: float
    high: float


@dataclass(frozen=True)
class Item:
    """What is judged: one sound, or several that are judged as a set.

    Attributes:
        id: Unique in the test, and says nothing.
        system: Whose it is.
        sounds: Ids of its sounds.
        expected: What an attentive rater answers.
    """

    id: str
    system: str
    sounds: tuple[str, ...]
    expected: tuple[Expected, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One page of the test.

    Attributes:
        id: Unique in the test, and says nothing.
        kind: Whether it counts, is a check of attention, or practice.
        clip: What is drawn from many: the id of the clip, or the class of a set.
        caption: What was asked for.
        questions: Names of the questions asked of every item.
        items: What is judged, in no order.
        reference: Id of the sound that the items are compared with.
    """

    id: str
    kind: Kind
    clip: str
    caption: str
    questions: tuple[str, ...]
    items: tuple[Item, ...]
    reference: str | None = None


@dataclass(frozen=True)
class Rule:
    """When a rater is left out: where more than this share of what the rule expects is answered otherwise."""

    name: str
    limit: float


@dataclass(frozen=True)
class Sound:
    """What is heard.

    Attributes:
        system: Whose it is.
        clip: Id of the clip.
        sha256: Of the samples, before they were encoded.
        file: Where it is from; None where it was made for the test.
        span: Seconds of its start and end there.
    """

    system: str
    clip: str
    sha256: str
    file: str | None = None
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class BlindTest:
    """A listening test.

    Attributes:
        title: What raters read above it.
        scheme: Class of the scheme.
        systems: Names of what is compared.
        questions: What is asked.
        rules: Whose answers count.
        trials: Its pages.
        sounds: What is heard, by id.
        recordings: All recordings that metrics may compare with, by id of the clip.
        notes: How the sounds were made comparable.
    """

    title: str
    scheme: str
    systems: tuple[str, ...]
    questions: tuple[Question, ...]
    rules: tuple[Rule, ...]
    trials: tuple[Trial, ...]
    sounds: Mapping[str, Sound]
    recordings: Mapping[str, Sound] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """Hash of everything in it, by which answers name their test."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def asked(self) -> list[Trial]:
        """Trials whose answers are kept."""
        return [trial for trial in self.trials if trial.kind != "practice"]

    @property
    def question(self) -> dict[str, Question]:
        """Questions by name."""
        return {question.name: question for question in self.questions}

    def write(self, path: Path) -> None:
        """Write the test's file; raises `InputError` if it cannot be written."""
        write_json(path, {"format": FORMAT, "sha256": self.sha256, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> "BlindTest":
        """Read a test's file.

        Raises:
            InputError: If it is none, or was changed.
        """
        mend = "give the .json that `listen build` wrote beside the page"
        try:
            content = read_json(path)
            if content.pop("format") != FORMAT:
                raise KeyError("format")
            digest = content.pop("sha256")
            test = cls(**{**content, **_parts(content)})
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(path, f"is no listening test ({error!r})", mend) from error
        if test.sha256 != digest:
            raise InputError(path, "was changed after the test was built", "restore it, or build the test again")
        return test


def _parts(content: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a test from plain values."""
    return {
        "questions": tuple(Question(**one) for one in content["questions"]),
        "rules": tuple(Rule(**one) for one in content["rules"]),
        "trials": tuple(_trial(one) for one in content["trials"]),
        "systems": tuple(content["systems"]),
        **{part: {name: _sound(one) for name, one in content[part].items()} for part in ("sounds", "recordings")},
    }


def _sound(content: Mapping[str, Any]) -> Sound:
    return Sound(**{**content, "span": content["span"] and tuple(content["span"])})


def _trial(content: Mapping[str, Any]) -> Trial:
    return Trial(**{**content, "questions": tuple(content["questions"]), "items": tuple(_items(content["items"]))})


def _items(content: Sequence[Mapping[str, Any]]) -> Iterator[Item]:
    for one in content:
        expected = tuple(Expected(**answer) for answer in one["expected"])
        yield Item(**{**one, "sounds": tuple(one["sounds"]), "expected": expected})
