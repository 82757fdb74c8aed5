"""Tables that describe recordings: CSV and JSON lines as people really write them, refused with their line where they are wrong."""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from audioldm_lit.errors import InputError

Row = tuple[str, dict[str, str]]  # where it stands ("metadata.csv, line 3"), value of each column
MAX_ROWS = 3_000_000  # AudioSet's longest list has 2,041,789; beyond, a table would fill the memory before anything is trained


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
    for where, row in read_rows(table, (file, *columns)):
        row[file] = _inside(folder, row[file], where)
        name = row.get("id") or row[file]
        if name in listed:
            raise InputError(f"{where}: '{name}' is listed twice; keep one line for every clip.")
        listed.add(name)
        yield where, row
    if not listed:
        raise InputError(f"{table}: lists no clip; add a line for every clip.")


def read_rows(table: Path, columns: Sequence[str], names: Sequence[str] | None = None) -> Iterator[Row]:
    """Read a table in UTF-8, with or without a byte order mark; blank lines are left out.

    Args:
        table: JSON lines (`.jsonl`, one object a line), else comma-separated values.
        columns: Columns it must have.
        names: Names of all columns where the table's first line does not say them; lines that start with # are then comments.

    Yields:
        Where the row stands and its values, stripped of surrounding spaces.

    Raises:
        InputError: If the table is missing, unreadable or too long, lacks a column, or a line is wrong.
    """
    if not table.is_file():
        raise InputError(f"{table}: no such file; data.init_args.root must be the folder of the data set.")
    rows = _json_lines(table, columns) if table.suffix.lower() == ".jsonl" else _comma_separated(table, columns, names)
    try:
        for number, (where, row) in enumerate(rows):
            if number == MAX_ROWS:
                raise InputError(f"{where}: is beyond the {MAX_ROWS:,} lines that can be held; split the table.")
            yield where, row
    except UnicodeDecodeError as error:
        raise InputError(f"{table}: is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8.") from error
    except csv.Error as error:
        raise InputError(f"{table}: is no readable CSV ({error}); close every double quote and save it again.") from error


def _comma_separated(table: Path, columns: Sequence[str], names: Sequence[str] | None) -> Iterator[Row]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        # A blank line in a comment's place keeps the count of lines.
        lines = file if names is None else ("\n" if line.startswith("#") else line for line in file)
        reader = csv.DictReader(lines, fieldnames=names, skipinitialspace=True, strict=True)
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        _check_header(table, reader.fieldnames, columns)
        for row in reader:
            where = f"{table}, line {reader.line_num}"
            if None in row:
                raise InputError(f"{where}: has more values than columns; put a value that holds a comma in double quotes.")
            row = {name: (value or "").strip() for name, value in row.items()}
            if any(row.values()):
                yield where, row


def _check_header(table: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in header]
    if not missing:
        return
    delimiter = next((name for mark, name in ((";", "semicolons"), ("\t", "tabs")) if len(header) == 1 and mark in header[0]), None)
    if delimiter:
        raise InputError(f"{table}, line 1: is separated by {delimiter}; save the table with commas between its values.")
    twice = [name for name in header if name and header.count(name) > 1]
    reason = f"names the column {twice[0]} twice and lacks" if twice else "lacks"
    raise InputError(
        f"{table}, line 1: {reason} the columns {', '.join(missing)}; name them in its first line, separated by commas."
    )


def _json_lines(table: Path, columns: Sequence[str]) -> Iterator[Row]:
    with table.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{table}, line {number}"
            try:
                row: Any = json.loads(line)
            except ValueError as error:
                raise InputError(f"{where}: is no JSON ({error}); write one object a line.") from error
            if not isinstance(row, dict) or any(isinstance(value, dict | list) for value in row.values()):
                raise InputError(f'{where}: is no flat JSON object; write one a line, such as {{"file": ..., "caption": ...}}.')
            missing = [name for name in columns if name not in row]
            if missing:
                raise InputError(f"{where}: lacks {', '.join(missing)}; every line must say them.")
            yield where, {name: "" if value is None else str(value).strip() for name, value in row.items()}


def _inside(folder: Path, name: str, where: str) -> str:
    check_name(name, where)
    top = os.path.abspath(folder)
    path = Path(os.path.abspath(os.path.join(top, name)))
    if path == Path(top):
        raise InputError(f"{where}: names no file; write one or remove the line.")
    if not path.is_relative_to(top):
        raise InputError(f"{where}: '{name}' lies outside {folder}; move the file into that folder.")
    return path.relative_to(top).as_posix()


def check_name(name: str, where: str) -> None:
    """Refuse a file name that cannot be written into a table or a message.

    Raises:
        InputError: If it is not UTF-8 or holds a control character.
    """
    where = where if where.isprintable() else ascii(where)
    if any("\ud800" <= letter <= "\udfff" for letter in name):  # how Python marks bytes that are not UTF-8
        raise InputError(f"{where}: the name {name!a} is not UTF-8; rename it.")
    if any(letter < " " or letter == "\x7f" for letter in name):
        raise InputError(f"{where}: the name {name!a} holds a line break or another control character; rename it.")
