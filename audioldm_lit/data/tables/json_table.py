"""Tables in JSON: one object a line, or one file in any of the shapes that tools write."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from audioldm_lit.data.files import AUDIO
from audioldm_lit.errors import InputError

Entry = tuple[str, Any]  # where it stands, and what stands there
LARGEST = 2**28  # letters of a file that is read at once


def json_lines(table: Path, lines: Iterable[str]) -> Iterator[Entry]:
    """What each line holds."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{table}, line {number}"
            yield where, parse(line, where, "write one object a line")


def json_rows(table: Path, file: TextIO) -> Iterator[Entry]:
    """The objects of a file: a list of them, such a list under a name (`{"data": [...]}`), or each under its recording's path.

    In the last shape a text may stand in an object's place (`{"a.wav": "a dog"}`).
    """
    text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise InputError(table, f"is longer than {LARGEST:,} letters", "write it as JSON lines (.jsonl)")
    content = parse(text, str(table), "correct it")
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        if len(lists) == 1:
            content = lists[0]
        elif all(Path(name).suffix.lower() in AUDIO for name in content):
            content = [_entry(name, value) for name, value in content.items()]
    entries = content if isinstance(content, list) else [content]
    for number, entry in enumerate(entries, 1):
        yield f"{table}, entry {number}", entry


def _entry(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return {"file": name, "caption": value}
    return {"file": name, **value} if isinstance(value, dict) else value


def parse(text: str, where: str, mend: str) -> Any:
    """Parse JSON strictly.

    Raises:
        InputError: If it is none, a name comes twice in an object, or a number is none that others can read.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputError(where, f"is no JSON ({error})", mend) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a name comes twice")
    return row


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")
