"""Which tables of a folder say what its recordings are."""

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from audioldm_lit.data.clips import Split
from audioldm_lit.data.files import AUDIO
from audioldm_lit.data.remark import below
from audioldm_lit.data.splits import GENERIC, resolve, role_of, words_of
from audioldm_lit.data.tables.columns import COLUMNS
from audioldm_lit.data.tables.encoding import UTF_8, encoding_of
from audioldm_lit.data.tables.table import ColumnsError, read_rows
from audioldm_lit.errors import InputError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".xlsx", ".txt")
OURS = ("metadata.csv", "metadata.jsonl")  # always read, so that what is wrong with them is said
USUAL = {"metadata", "meta", "caption", "captions", "label", "labels", "list", "annotation", "annotations", "index", "prompts"}


@dataclass(frozen=True, slots=True)
class Table:
    """A list of recordings.

    Attributes:
        path: The file.
        split: What its recordings are for, where tables are named after splits.
    """

    path: Path
    split: Split | None = None

    @property
    def encoding(self) -> str:
        """Encoding of its text."""
        is_text = self.path.suffix.lower() != ".xlsx" and os.path.isfile(self.path)  # opening a pipe would wait for a writer
        return encoding_of(self.path) if is_text else UTF_8


def find_tables(root: Path, files: Collection[Path], columns: Sequence[str]) -> tuple[list[Table], dict[Path, str]]:
    """Find the tables that name recordings: the one of the root, one for each split, or one of each folder below it.

    Of several in a folder, one that is called as such tables usually are comes before all others.

    Args:
        root: The folder.
        files: Files below it that may be tables.
        columns: What a table must say.

    Returns:
        The tables, and why others that were looked at name no recordings.

    Raises:
        InputError: If two tables of a folder compete, or one of a usual name cannot be read.
    """
    by_depth: dict[int, dict[Path, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in files:
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("~$"):  # Excel's lock of an open file
            by_depth[len(path.relative_to(root).parts)][path.parent].append(path)
    reasons: dict[Path, str] = {}
    for _, folders in sorted(by_depth.items()):
        usable = [[path for path in paths if _is_usable(path, columns, reasons)] for paths in folders.values()]
        if tables := [table for paths in usable if paths for table in _chosen(root, paths)]:
            return tables, reasons
    return [], reasons


def _rank(path: Path) -> int:
    """How surely a table is meant by its name, 0 most."""
    if path.name.casefold() in OURS:
        return 0
    if set(words_of(path.stem)) <= USUAL:
        return 1
    return 1 if (role_of(path.stem, GENERIC | USUAL) or ("",))[0] == () else 2


def _is_usable(path: Path, columns: Sequence[str], reasons: dict[Path, str]) -> bool:
    """Whether it names recordings as asked; if not, says why not."""
    rank = _rank(path)
    if rank == 0:
        return True
    try:
        wanted = columns if "caption" in columns else (*columns, "caption")  # else any list of files would do
        if next(read_rows(path, wanted, names=COLUMNS, encoding=Table(path).encoding), None) is not None:
            return True
        reasons[path] = "lists no clip"
    except InputError as error:
        about_others = isinstance(error, ColumnsError) and not any(Path(name).suffix.lower() in AUDIO for name in error.header)
        if rank == 1 and path.suffix.lower() != ".txt" and not about_others:
            raise
        reasons[path] = error.problem
    return False


def _chosen(root: Path, paths: Sequence[Path]) -> list[Table]:
    """Those of a folder's usable tables that are read."""
    best = min(map(_rank, paths))
    paths = [path for path in paths if _rank(path) == best]
    if len(paths) == 1:
        return [Table(paths[0])]
    roles = {path: role_of(path.stem, GENERIC | USUAL) for path in paths}
    names = {role[1] for role in roles.values() if role and not role[0]}
    splits = resolve(names) if len(names) == len(paths) else None
    if splits is None:
        mend = "keep one of the two tables, or name the one to read with data.init_args.table"
        raise InputError(paths[1], f"stands beside {below(root, paths[0])}", mend)
    return [Table(path, splits[role[1]]) for path, role in roles.items() if role]
