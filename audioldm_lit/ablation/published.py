"""Values of other systems as published elsewhere, from `published.yaml`, for tables of their own beside ours."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any

from audioldm_lit.ablation.sheets import Sheet
from audioldm_lit.errors import InputError
from audioldm_lit.places import packaged
from audioldm_lit.storage.plain_files import read_yaml

FILE = packaged("ablation/published.yaml")
METRICS = ("fd", "is", "kl", "fad")
SIGN = "†"


@dataclass(frozen=True)
class Published:
    """A row of someone else's table.

    Attributes:
        system: As its authors call it.
        dataset: Class of `audioldm_lit.data` whose test clips it was measured on.
        training: What it was trained on; None where unknown.
        parameters: Their number as the source counts them; None where unknown.
        values: Values by the names in `METRICS`; None where unknown.
        source: Where the values were read.
        measured: What is known about how they were measured; None where nothing is.
        passport: Passport of values that were measured by this code, as in `results.csv`; None for all others.
    """

    system: str
    dataset: str
    training: str | None
    parameters: int | None
    values: Mapping[str, float | None]
    source: str
    measured: str | None
    passport: str | None = None

    @property
    def empty(self) -> bool:
        """Whether it still has to be filled in."""
        return all(value is None for value in self.values.values())

    def footnote(self, passport: str) -> str | None:
        """Why it must not stand in one column with values of a passport, to be printed under `SIGN`; None where it may."""
        if self.passport == passport:
            return None
        return f"measured elsewhere, not under this protocol: {self.measured or 'nothing is known of how.'} Source: {self.source}."


def published(dataset: str, file: Path = FILE) -> list[Published]:
    """Rows on a data set, those that wait to be filled in among them.

    Args:
        dataset: Name of a class of `audioldm_lit.data`.
        file: YAML with `rows`, as the one beside this module.

    Raises:
        InputError: If the file is wrong; names row and key.
    """
    try:
        content = read_yaml(file)
    except (OSError, ValueError) as error:
        raise InputError(file, f"cannot be read ({error})", "correct it") from error
    if not isinstance(content, dict) or list(content) != ["rows"] or not isinstance(content["rows"], list):
        raise InputError(file, "has other keys than `rows`, or no list there", "give it the one key `rows` with a list of rows")
    found = [_row(row, f"{file}: row {number}") for number, row in enumerate(content["rows"], 1)]
    return [row for row in found if row.dataset == dataset]


def sheet(dataset: str) -> Sheet:
    """What others published on a data set, as a table of its own: none of it was measured under a passport of ours."""
    rows = published(dataset)
    if not rows:
        raise InputError("--published", f"is '{dataset}', of which nothing is known", f"name a data set of {FILE}")
    notes = list(dict.fromkeys(note for row in rows if not row.empty and (note := row.footnote(""))))
    lines = []
    for row in rows:
        note = None if row.empty else row.footnote("")
        mark = f"{SIGN}{notes.index(note) + 1}" if note else ""
        values = ("" if row.values[name] is None else f"{row.values[name]:g}" for name in METRICS)
        parameters = f"{row.parameters / 1e6:,.0f} M" if row.parameters else ""
        lines.append([f"{row.system} {mark}".strip(), row.training or "", parameters, *values])
    marked = [f"{SIGN}{number} {note}" for number, note in enumerate(notes, 1)]
    return Sheet(f"{dataset}, as printed elsewhere", ["system", "trained on", "parameters", *METRICS], lines, 2, marked)


def _row(row: Any, where: str) -> Published:
    """Check one row."""
    if not isinstance(row, dict):
        raise InputError(where, "is no mapping", "give it the keys system, dataset, values and so on")
    where = f"{where} ({row.get('system', 'without system')})"
    _check_keys(row, {field.name for field in fields(Published)}, {"passport"}, where)
    for key in ("system", "dataset", "source"):
        if not isinstance(row[key], str) or not row[key].strip():
            raise InputError(where, f"{key} is {row[key]!r}", "give a text")
    for key in ("training", "measured", "passport"):
        if not isinstance(row.get(key), str | None):
            raise InputError(where, f"{key} is {row[key]!r}", "give a text or null")
    if row["parameters"] is not None and (type(row["parameters"]) is not int or row["parameters"] < 1):
        raise InputError(where, f"parameters is {row['parameters']!r}", "give their number or null")
    if not isinstance(row["values"], dict):
        raise InputError(where, f"values is {row['values']!r}", f"give {', '.join(METRICS)}")
    _check_keys(row["values"], set(METRICS), set(), f"{where}, values")
    for name, value in row["values"].items():
        if value is not None and (type(value) not in (int, float) or not isfinite(value)):
            raise InputError(where, f"values.{name} is {value!r}", "give a number or null")
    return Published(**row)


def _check_keys(content: Mapping[str, Any], known: set[str], optional: set[str], where: str) -> None:
    unknown, missing = sorted(map(str, content.keys() - known)), sorted(known - optional - content.keys())
    if unknown:
        raise InputError(where, f"has the unknown key '{unknown[0]}'", f"use {', '.join(sorted(known))}")
    if missing:
        raise InputError(where, f"has no {missing[0]}", "give it, or null where it is unknown")
