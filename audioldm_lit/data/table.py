"""Tables that describe recordings: CSV as people really write it, refused with its line where it is wrong."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from audioldm_lit.errors import InputError

Row = tuple[str, dict[str, str]]  # where it stands ("metadata.csv, line 3"), value of each column


def read_table(table: Path, folder: Path, file: str, columns: Sequence[str]) -> list[Row]:
    """Read a comma-separated list of recordings in UTF-8, with or without a byte order mark; blank lines are left out.

    Args:
        table: The list; its first line names the columns.
        folder: Where the recordings are; none may lie outside.
        file: Column of the recording's path, absolute or relative to `folder`.
        columns: Further columns it must have.

    Returns:
        Its rows, every value stripped of surrounding spaces, the path relative to `folder` with forward slashes.

    Raises:
        InputError: If the table is missing or unreadable, lacks a column, or a line is wrong or lists a recording again.
    """
    rows = [row for row in _read(table, (file, *columns)) if any(row[1].values())]
    if not rows:
        raise InputError(f"{table}: lists no clip; add a line for every clip.")
    listed: set[str] = set()
    for where, row in rows:
        row[file] = _inside(folder, row[file], where)
        if row[file] in listed:
            raise InputError(f"{where}: '{row[file]}' is listed twice; keep one line for every clip.")
        listed.add(row[file])
    return rows


def _read(table: Path, columns: Sequence[str]) -> list[Row]:
    if not table.is_file():
        raise InputError(f"{table}: no such file; data.init_args.root must be the folder of the data set.")
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True, strict=True)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            missing = [name for name in columns if name not in reader.fieldnames]
            if missing:
                raise InputError(
                    f"{table}: lacks the columns {', '.join(missing)}; name them in its first line, separated by commas."
                )
            rows = [(f"{table}, line {reader.line_num}", row) for row in reader]
    except UnicodeDecodeError as error:
        raise InputError(f"{table}: is not UTF-8 ({error.reason} at byte {error.start}); save it as CSV UTF-8.") from error
    except csv.Error as error:
        raise InputError(f"{table}: is no readable CSV ({error}); close every double quote and save it again.") from error
    for where, row in rows:
        if None in row:
            raise InputError(f"{where}: has more values than columns; put a value that holds a comma in double quotes.")
    return [(where, {name: (value or "").strip() for name, value in row.items()}) for where, row in rows]


def _inside(folder: Path, name: str, where: str) -> str:
    top = os.path.abspath(folder)
    path = Path(os.path.abspath(os.path.join(top, name)))
    if path == Path(top):
        raise InputError(f"{where}: names no file; write one or remove the line.")
    if not path.is_relative_to(top):
        raise InputError(f"{where}: '{name}' lies outside {folder}; move the file into that folder.")
    return path.relative_to(top).as_posix()
