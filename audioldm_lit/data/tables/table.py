"""Tables that describe recordings: CSV, JSON and Excel as people really write them; an error names the line."""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from audioldm_lit.data.tables.columns import Names, canonical, lacking
from audioldm_lit.data.tables.encoding import UTF_8
from audioldm_lit.data.tables.json_table import json_lines, json_rows
from audioldm_lit.data.tables.spreadsheet import spreadsheet_rows
from audioldm_lit.errors import InputError
from audioldm_lit.storage.csv_cell import from_cell
from audioldm_lit.storage.names import check_name, is_mark, why_no_file

Row = tuple[str, dict[str, str]]  # where it stands ("metadata.csv, line 3"), value of each column
MAX_LINES = 3_000_000  # AudioSet's longest list has 2,041,792; beyond, a table would fill the memory before anything is trained
MAX_LETTERS = 2**20  # of a line; a caption of 10,000 words has a tenth of them
MAX_PATH = 4095  # bytes that Linux takes
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
OURS: Names = {}  # columns are called as we call them


class ColumnsError(InputError):
    """A table that does not say what is needed, such as one about other things; `header` is its first line."""

    header: Sequence[str] = ()


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
        row[file] = inside(folder, row[file], where)
        name = row.get("id") or row[file]
        if name in listed:
            raise InputError(where, f"'{name}' is listed twice", "keep one line for every clip")
        listed.add(name)
        yield where, row
    if not listed:
        raise InputError(table, "lists no clip", "add a line for every clip")


def read_rows(
    table: Path,
    columns: Sequence[str],
    header: Sequence[str] | None = None,
    raw: str = "",
    names: Names = OURS,
    encoding: str = UTF_8,
) -> Iterator[Row]:
    """Read a table; blank lines are left out.

    Args:
        table: JSON lines (`.jsonl`, one object a line), JSON, Excel (`.xlsx`), else values separated by commas, semicolons or tabs.
        columns: Columns it must have.
        header: Names of all columns where the table's first line does not say them; lines that start with # are then comments.
        raw: Column whose values keep their line breaks; in all others these become spaces.
        names: What columns may also be called.
        encoding: Of a table of text.

    Yields:
        Where the row stands and its values, stripped of surrounding spaces.

    Raises:
        ColumnsError: If it lacks a column.
        InputError: If the table is missing, unreadable or too long, or a line is wrong.
    """
    if not os.path.isfile(table):
        raise InputError(table, why_no_file(table, "file"), "set data.init_args.root to the folder of the data set")
    try:
        _check_size(table)
        for where, row in _rows(table, columns, header, names, encoding):
            if not "".join(row.values()).isprintable():
                row = {name: _legible(where, name, value, name == raw) for name, value in row.items()}
            yield where, row
    except UnicodeDecodeError as error:
        kind = "UTF-8" if encoding == UTF_8 else encoding
        raise InputError(table, f"is not {kind} ({error.reason} at byte {error.start})", "save it as UTF-8") from error
    except OSError as error:
        raise InputError(table, f"cannot be opened ({error.strerror})", "see to its permissions") from error


def _rows(table: Path, columns: Sequence[str], header: Sequence[str] | None, names: Names, encoding: str) -> Iterator[Row]:
    if table.suffix.lower() == ".xlsx":
        yield from _named(table, spreadsheet_rows(table), columns, header, names)
        return
    with table.open(newline="", encoding=encoding) as file:
        lines = _lines(table, file)
        if table.suffix.lower() in (".jsonl", ".ndjson"):
            yield from _objects(json_lines(table, lines), columns, names)
        elif table.suffix.lower() == ".json":
            yield from _objects(json_rows(table, file), columns, names)
        else:
            yield from _named(table, _separated(table, lines, columns, header, names), columns, header, names)


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


def _separated(
    table: Path, lines: Iterator[str], columns: Sequence[str], header: Sequence[str] | None, names: Names
) -> Iterator[tuple[int, list[str]]]:
    """Number and values of each line; what separates them is what makes the first line name the most columns."""
    if header is not None:  # a blank line in a comment's place keeps the count of lines
        lines = ("\n" if line.startswith("#") else line for line in lines)
    first = next(lines, "")
    separator = max(SEPARATORS, key=lambda mark: -len(lacking(_header(first, mark, names), columns, names))) if not header else ","
    reader = csv.reader(chain([first], lines), delimiter=separator, skipinitialspace=True, strict=True)
    before = 0
    try:
        for values in reader:
            before = reader.line_num
            yield before, [from_cell(value) for value in values]
    except csv.Error as error:
        mend = "close every double quote and save it again"
        raise InputError(f"{table}, line {before + 1}", f"is no readable CSV ({error})", mend) from error


def _header(line: str, separator: str, names: Names) -> list[str]:
    try:
        return canonical([name.strip() for name in next(csv.reader([line], delimiter=separator, skipinitialspace=True), ())], names)
    except csv.Error:
        return []


def _named(
    table: Path, rows: Iterator[tuple[int, list[str]]], columns: Sequence[str], header: Sequence[str] | None, names: Names
) -> Iterator[Row]:
    """Rows by the names of the columns, which the first of them says where no header is given."""
    if header is None:
        header = canonical([name.strip() for name in next(rows, (1, []))[1]], names)
        _check_header(table, header, columns, names)
    for number, values in rows:
        where = f"{table}, line {number}"
        if len(values) > len(header):
            raise InputError(where, "has more values than columns", "put a value that holds a comma in double quotes")
        if any(value.strip() for value in values):
            values += [""] * (len(header) - len(values))
            yield where, {name: value.strip() for name, value in zip(header, values, strict=True)}


def _check_header(table: Path, header: Sequence[str], columns: Sequence[str], names: Names) -> None:
    missing, where = lacking(header, columns, names), f"{table}, line 1"
    twice = [name for name in header if name and header.count(name) > 1]
    if not missing and twice:
        raise InputError(where, f"names the column {twice[0]!a} twice", "rename or remove one of the two")
    if not missing:
        return
    separator = next((words for mark, words in SEPARATORS.items() if len(header) == 1 and mark in header[0]), None)
    problem = f"names the column {twice[0]!a} twice and lacks" if twice else "lacks"
    error = ColumnsError(
        where,
        f"is separated by {separator}" if separator else f"{problem} the columns {', '.join(missing)}",
        "save the table with commas between its values" if separator else "name them in its first line, separated by commas",
    )
    error.header = header
    raise error


def _objects(objects: Iterable[tuple[str, Any]], columns: Sequence[str], names: Names) -> Iterator[Row]:
    """Objects of a JSON file as rows."""
    for where, row in objects:
        if not isinstance(row, dict) or any(isinstance(value, dict | list) for value in row.values()):
            raise InputError(where, "is no flat JSON object", 'write one a line, such as {"file": ..., "caption": ...}')
        row = dict(zip(canonical(list(row), names), row.values(), strict=True))
        if missing := lacking(row, columns, names):
            raise ColumnsError(where, f"lacks {', '.join(missing)}", "say them in every line")
        yield where, {name: "" if value is None else str(value).strip() for name, value in row.items()}


def inside(folder: Path, name: str, where: str) -> str:
    """A path that a table says, relative to `folder` with forward slashes; one that leads out of it is refused."""
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
