"""What listeners said, as one JSON: `listen merge` writes it, pages show it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.storage.typed_json import parse_json_as

SCORE = "score"  # the weighted mean of a test's questions


@dataclass(frozen=True)
class MeanRating:
    """What a system was given on a question; `low` and `high` are None at too few raters or clips for an interval."""

    question: str
    system: str
    value: float
    low: float | None
    high: float | None
    raters: int
    clips: int


@dataclass(frozen=True)
class Preference:
    """How a second system differs from a first on a question: `better`, `worse` or `cannot tell`, of the second."""

    question: str
    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    verdict: Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class Trust:
    """A metric's rank correlation with the listeners, 1 where both order sounds alike; `follows`, `against` or `cannot tell`."""

    metric: str
    correlation: float
    low: float | None
    high: float | None
    sounds: int
    verdict: Literal["follows", "against", "cannot tell"]


@dataclass(frozen=True)
class Opinion:
    """What listeners said.

    Attributes:
        title: Of the test.
        test: Its hash.
        scheme: Its scheme's class.
        main: The question that the verdict is taken from.
        scales: Lowest and highest answer to every question.
        chance: The mean of raters who hear no difference, of questions that ask for one.
        raters: Whose answers count.
        left_out: Raters whose answers do not count, and why.
        not_read: What is wrong with files that were left out, one sentence each.
        means: Mean ratings, the questions in order.
        preferences: Pairs of systems.
        alpha: Krippendorff's alpha of every question; None where nothing can be told.
        metrics: Which automatic metric follows these listeners, the best first.
        not_compared: Why a metric was not compared, by metric.
        format: Of its file.
    """

    title: str
    test: str
    scheme: str
    main: str
    scales: Mapping[str, tuple[float, float]]
    chance: Mapping[str, float]
    raters: Sequence[str]
    left_out: Mapping[str, str]
    not_read: Sequence[str]
    means: Sequence[MeanRating]
    preferences: Sequence[Preference]
    alpha: Mapping[str, float | None]
    metrics: Sequence[Trust] = ()
    not_compared: Mapping[str, str] = field(default_factory=dict)
    format: Literal["audioldm_lit opinion 1"] = "audioldm_lit opinion 1"

    def write(self, path: Path) -> None:
        """Write it as JSON; raises `InputError` if it cannot be written."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Opinion":
        """Read such a JSON.

        Raises:
            InputError: If it is none.
        """
        try:
            return parse_json_as(cls, path.read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(path, f"is no merged listening test ({error})", "give what `listen merge` wrote") from error
