"""Pairs of sounds of one caption, of which people, or something that stands in for them, preferred one."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from audioldm_lit.data.tables.table import read_rows
from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import atomic_write
from audioldm_lit.storage.csv_cell import to_cell

COLUMNS = ("caption", "better", "worse")


@dataclass(frozen=True)
class Pair:
    """Two files of sounds of one caption; `better` was preferred."""

    caption: str
    better: Path
    worse: Path


def read_pairs(table: Path) -> list[Pair]:
    """Read a table of the columns `caption`, `better` and `worse`, paths absolute or relative to the table.

    Raises:
        InputError: If the table cannot be read, lists none, or names a file that is not there, or one against itself.
    """
    if not table.is_file():
        raise InputError(table, "no such file of pairs", "give the pairs.csv that `listen merge` wrote")
    pairs = []
    for where, row in read_rows(table, COLUMNS):
        better, worse = (table.parent / row[side] for side in ("better", "worse"))
        for path in (better, worse):
            if not path.is_file():
                raise InputError(where, f"{path} is not there", "correct the path, or take the line out")
        if better == worse:
            raise InputError(where, f"{better.name} is better than itself", "name two sounds, or take the line out")
        pairs.append(Pair(row["caption"], better, worse))
    if not pairs:
        raise InputError(table, "lists no pair", "ask more people, or write pairs by hand")
    return pairs


def write_pairs(table: Path, pairs: Iterable[tuple[str, Path, Path]]) -> None:
    """Write captions with the paths of the better and the worse sound, whole or not at all."""
    with atomic_write(table) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([to_cell(caption), better.resolve(), worse.resolve()] for caption, better, worse in pairs)
