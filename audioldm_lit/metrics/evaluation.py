"""The scores of one system with their passport, and what may stand beside them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from audioldm_lit.errors import InputError
from audioldm_lit.metrics.score import Comparison, Score, compare


@dataclass(frozen=True)
class Evaluation:
    """Scores of one system.

    Attributes:
        scores: By metric.
        passport: Everything the values depend on; `sha256` is the hash of what two systems must share to be compared.
        not_computed: Reasons, by metric.
    """

    scores: Mapping[str, Score]
    passport: Mapping[str, Any]
    not_computed: Mapping[str, str] = field(default_factory=dict)

    def noting(self, **entries: Any) -> "Evaluation":
        """The same scores with further entries in the passport."""
        return replace(self, passport={**self.passport, **entries})

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        figures = {name: score.as_dict() for name, score in self.scores.items()}
        return {"metrics": figures, "not_computed": dict(self.not_computed), "passport": dict(self.passport)}


def stamp(shared: Mapping[str, Any], sides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A passport from what two systems must share and from each side's clips, of which they must share the reference."""
    shared = {**shared, "target": sides.get("target")}
    digest = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()
    return {**shared, **sides, "sha256": digest}


def check_comparable(systems: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to put systems in one table, given by name and passport, unless they were scored alike.

    Raises:
        InputError: Names the first entry that differs.
    """
    (first, passport), *others = systems.items()
    for name, other in others:
        if "train" in passport and "train" in other and passport["train"] != other["train"]:
            raise InputError(f"{first} and {name} were compared with different training clips; give both the same.")
        if other["sha256"] == passport["sha256"]:
            continue
        counts = passport["n_generated"], other["n_generated"]
        if counts[0] != counts[1]:
            raise InputError(f"{first} has {counts[0]} clips and {name} {counts[1]}; values hang on the count, give both as many.")
        for entry in sorted({*passport, *other} - {"sha256", "preds", "train", "rules"}):
            if passport.get(entry) != other.get(entry):
                where, here, there = _first_difference(entry, passport.get(entry), other.get(entry))
                raise InputError(
                    f"{first} and {name} were scored differently: {where} is {_brief(here)} and {_brief(there)}; score both alike."
                )


def compare_systems(first: Evaluation, second: Evaluation) -> dict[str, Comparison]:
    """How the second system differs from the first, by metric; see `compare` and `check_comparable`."""
    check_comparable({"the first": first.passport, "the second": second.passport})
    shared = [name for name in first.scores if name in second.scores]
    return {name: compare(first.scores[name], second.scores[name]) for name in shared}


def _first_difference(entry: str, here: Any, there: Any) -> tuple[str, Any, Any]:
    """The first setting within an entry that differs, `protocol.peak`, and its two values."""
    if not isinstance(here, Mapping) or not isinstance(there, Mapping):
        return entry, here, there
    name = next(name for name in sorted({*here, *there}) if here.get(name) != there.get(name))
    return _first_difference(f"{entry}.{name}", here.get(name), there.get(name))


def _brief(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 120 else f"{text[:120]} ..."
