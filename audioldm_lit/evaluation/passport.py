"""The passport of an evaluation: everything its values depend on, and whether two may stand side by side."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from audioldm_lit.errors import InputError

KNOWN_OF_SOME = {"train": "training clips", "num_candidates": "numbers of candidates"}


def stamp(shared: Mapping[str, Any], sides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A passport of what two systems must share, and of each side's clips, of which they must share the reference."""
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
        for entry, what in KNOWN_OF_SOME.items():
            if entry in passport and entry in other and passport[entry] != other[entry]:
                raise InputError(f"{first} and {name}", f"were scored with different {what}", "give both the same")
        if other["sha256"] == passport["sha256"]:
            continue
        counts = passport["n_generated"], other["n_generated"]
        if counts[0] != counts[1]:
            problem = f"have {counts[0]} and {counts[1]} clips, and values depend on the number of clips"
            raise InputError(f"{first} and {name}", problem, "give both as many")
        for entry in sorted({*passport, *other} - {"sha256", "preds", "reconstructed", "decoder", "rules", *KNOWN_OF_SOME}):
            if passport.get(entry) != other.get(entry):
                where, here, there = _first_difference(entry, passport.get(entry), other.get(entry))
                problem = f"were scored differently, {where} is {_brief(here)} and {_brief(there)}"
                raise InputError(f"{first} and {name}", problem, "score both alike")


def _first_difference(entry: str, here: Any, there: Any) -> tuple[str, Any, Any]:
    """The first setting within an entry that differs, `protocol.peak`, and its two values."""
    if not isinstance(here, Mapping) or not isinstance(there, Mapping):
        return entry, here, there
    name = next(name for name in sorted({*here, *there}) if here.get(name) != there.get(name))
    return _first_difference(f"{entry}.{name}", here.get(name), there.get(name))


def _brief(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 120 else f"{text[:120]} ..."
