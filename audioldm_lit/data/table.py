"""Tables that describe recordings: CSV and JSON lines as people really write them; an error names the line."""

import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from audioldm_lit.errors import InputError
from audioldm_lit.storage.names import check_name, is_mark, why_no_file

Row = tuple[str, dict[str, str]]  # where it stands ("metadata.csv, line 3"), value of each column
MAX_LINES = 3_000_000  # AudioSet's longest list has 2,041,792; beyond, a table would fill the memory before anything is trained
MAX_LETTERS = 2**20  # of a line; a caption of 10,000 words has a tenth of them
MAX_PATH = 4095  # bytes that Linux takes


def read_table(table: Path, folder: Path, file: str, columns: Sequence[str]) -> Iterator[Row]:
    """Read a list of recordings, see `read_rows`.

    Args:
        table: The list.
        folder: Where the recordings are; none may lie outside.
        file: Column of the recording's path, absolute or relative to `folder`.
        columns: Further columns it must have.

    Yields:
        Its rows, the path relative to `folder` with forward slashes.

    Raises:
        InputError: If the table is wrong, see `read_rows`, or a recording comes again without an `id` of its own.
    """
    listed: set[str] = set()
    for where, row in read_rows(table, (file, *columns), raw=file):
        row[file] = _inside(folder, row[file], where)
        name = row.get("id") or row[file]
        if name in listed:
            raise InputError(where, f"'{name}' is listed twice", "keep one line for every clip")
        listed.add(name)
        yield where, row
    if not listed:
        raise InputError(table, "lists no clip", "add a line for every clip")


def read_rows(table: Path, columns: Sequence[str], names: Sequence[str] | None = None, raw: str = "") -> Iterator[Row]:
    """Read a table in UTF-8, with or without a byte order mark; blank lines are left out.

    Args:
        table: JSON lines (`.jsonl`, one object a line), else comma-separated values.
        columns: Columns it must have.
        names: Names of all columns where the table's first line does not say them; lines that start with # are then comments.
        raw: Column whose values keep their line breaks; in all others these become spaces.

    Yields:
        Where the row stands and its values, stripped of surrounding spaces.

    Raises:
        InputError: If the table is missing, unreadable or too long, lacks a column, or a line is wrong.
    """
    if not os.path.isfile(table):
        raise InputError(table, why_no_file(table, "file"), "set data.init_args.root to the folder of the data set")
    rows = _json_lines(table, columns) if table.suffix.lower() == ".jsonl" else _comma_separated(table, columns, names)
    try:
        _check_size(table)
        for where, row in rows:
            if not "".join(row.values()).isprintable():
                row = {name: _legible(where, name, value, name == raw) for name, value in row.items()}
            yield where, row
    except UnicodeDecodeError as error:
        raise InputError(table, f"is not UTF-8 ({error.reason} at byte {error.start})", "save it as UTF-8") from error
    except OSError as error:
        raise InputError(table, f"cannot be opened ({error.strerror})", "see to its permissions") from error


def _check_size(table: Path) -> None:
    """Refuse a table of too many lines before any of them is held."""
    lines = 0
    with table.open("rb") as file:
        while piece := file.read(2**20):
            lines += max(piece.count(b"\n"), piece.count(b"\r"))
            if lines > MAX_LINES:
                raise InputError(
                    f"{table}, line {MAX_LINES + 1:,}", f"is beyond the {MAX_LINES:,} that can be held", "split the table"
                )


def _lines(table: Path, file: TextIO) -> Iterator[str]:
    """Lines of a table; one that is too long is refused before it fills the memory."""
    number = 0
    while line := file.readline(MAX_LETTERS + 1):
        number += 1
        if len(line) > MAX_LETTERS:
            raise InputError(f"{table}, line {number}", f"is longer than {MAX_LETTERS:,} letters", "break it into one line a clip")
        yield line


def _legible(where: str, column: str, value: str, raw: bool) -> str:
    """A value on one line; characters that no text contains are refused."""
    letter = next((letter for letter in value if is_mark(letter) and letter not in "\t\r\n"), None)
    if letter and not raw:
        raise InputError(where, f"its {column!a} holds {letter!a}, which is no text", "save the table as UTF-8 or retype it")
    return value if raw else re.sub(r"\s*[\t\r\n]\s*", " ", value)


def _comma_separated(table: Path, columns: Sequence[str], names: Sequence[str] | None) -> Iterator[Row]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        lines = _lines(table, file)
        if names is not None:  # a blank line in a comment's place keeps the count of lines
            lines = ("\n" if line.startswith("#") else line for line in lines)
        reader = csv.DictReader(lines, fieldnames=names, skipinitialspace=True, strict=True)
        before = 0
        try:
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            _check_header(table, reader.fieldnames, columns)
            before = reader.line_num
            for row in reader:
                before = reader.line_num
                where = f"{table}, line {before}"
                if None in row:
                    raise InputError(where, "has more values than columns", "put a value that holds a comma in double quotes")
                row = {name: (value or "").strip() for name, value in row.items()}
                if any(row.values()):
                    yield where, row
        except csv.Error as error:
            mend = "close every double quote and save it again"
            raise InputError(f"{table}, line {before + 1}", f"is no readable CSV ({error})", mend) from error


def _check_header(table: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in header]
    twice = [name for name in header if name and header.count(name) > 1]
    if not missing and twice:
        raise InputError(f"{table}, line 1", f"names the column {twice[0]!a} twice", "rename or remove one of the two")
    if not missing:
        return
    delimiter = next((name for mark, name in ((";", "semicolons"), ("\t", "tabs")) if len(header) == 1 and mark in header[0]), None)
    if delimiter:
        raise InputError(f"{table}, line 1", f"is separated by {delimiter}", "save the table with commas between its values")
    reason = f"names the column {twice[0]!a} twice and lacks" if twice else "lacks"
    raise InputError(
        f"{table}, line 1", f"{reason} the columns {', '.join(missing)}", "name them in its first line, separated by commas"
    )


def _json_lines(table: Path, columns: Sequence[str]) -> Iterator[Row]:
    with table.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(_lines(table, lines), 1):
            if not line.strip():
                continue
            where = f"{table}, line {number}"
            try:
                row: Any = json.loads(line, object_pairs_hook=_unique, parse_constant=_no_number)
            except (ValueError, RecursionError) as error:
                raise InputError(where, f"is no JSON ({error})", "write one object a line") from error
            if not isinstance(row, dict) or any(isinstance(value, dict | list) for value in row.values()):
                raise InputError(where, "is no flat JSON object", 'write one a line, such as {"file": ..., "caption": ...}')
            missing = [name for name in columns if name not in row]
            if missing:
                raise InputError(where, f"lacks {', '.join(missing)}", "say them in every line")
            yield where, {name: "" if value is None else str(value).strip() for name, value in row.items()}


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a name comes twice")
    return row


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _inside(folder: Path, name: str, where: str) -> str:
    check_name(name, where)
    for top in (os.path.abspath(folder), os.path.realpath(folder)):  # an absolute path may avoid a link that the folder is
        path = Path(os.path.abspath(os.path.join(top, name)))
        if len(os.fsencode(path)) > MAX_PATH:
            raise InputError(where, f"the path '{name[:60]}...' is longer than {MAX_PATH} bytes", "correct it")
        if path == Path(top):
            raise InputError(where, "names no file", "write one or remove the line")
        if path.is_relative_to(top):
            return path.relative_to(top).as_posix()
    raise InputError(where, f"'{name}' lies outside {folder}", "move the file into that folder")
