"""Where the table and the recordings of a published data set lie, whatever an archive, a clone or a mirror made of its layout."""

import os
import re
from collections import defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath

from audioldm_lit.data.files import files_below, is_recording
from audioldm_lit.data.remark import listed
from audioldm_lit.errors import InputError

MIRRORS = (".parquet", ".arrow")  # as the package `datasets` keeps sounds
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
FOLD = re.compile(r"fold\d+")


class Published:
    """A data set of a table and a folder `audio`.

    The table may lie where it was published, or anywhere below the root; so may the recordings, under their names or with the
    suffix of another format.

    Args:
        root: The folder that was given.
        table: Where the table was published, below the data set's own folder: `meta/esc50.csv`.
    """

    def __init__(self, root: Path, table: str) -> None:
        self.root = root
        self.official = PurePosixPath(table)

    @cached_property
    def table(self) -> Path:
        """The table.

        Raises:
            InputError: If there is none, or more than one.
        """
        official = self.root / self.official
        if os.path.isfile(official):
            return official
        name = self.official.name.casefold()
        found = [path for path in self._files if path.name.casefold() == name]
        if len(found) > 1:
            raise InputError(self.root, f"holds {listed([str(path) for path in found])}", "set data.init_args.root to one's folder")
        return found[0] if found else self._missing()

    @property
    def audio(self) -> Path:
        """The folder of the recordings, as published."""
        folder = self.table.parent
        return (folder.parent if folder.name == self.official.parent.name else folder) / "audio"

    def recording(self, name: str, fold: int | None = None) -> Path:
        """A recording of the table; where it was published if it is nowhere.

        Args:
            name: Its file name.
            fold: Number of the folder `fold1`, `fold2` ... it was published in; none of another number is looked into.

        Raises:
            InputError: If two files have its name.
        """
        folder = "" if fold is None else f"fold{fold}"
        official = self.audio / folder / name
        if os.path.isfile(official):
            return official
        found = [path for path in self._by_stem.get(Path(name).stem, ()) if not folder or _may_be_in(path, folder)]
        found = [path for path in found if path.name == name] or found
        if len(found) > 1:
            raise InputError(found[1], f"has the name of {found[0]}", "keep one of the two")
        return found[0] if found else official

    @cached_property
    def _files(self) -> list[Path]:
        return files_below(self.root)

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = defaultdict(list)
        for path in self._files:
            if is_recording(path):
                found[path.stem].append(path)
        return found

    def _missing(self) -> Path:
        """Say where the table was looked for, and why it is not there where that can be seen."""
        parent = self.root.absolute().parent
        if os.path.isfile(parent / self.official):
            raise InputError(self.root, f"is a part of {parent}, which has {self.official}", f"set data.init_args.root to {parent}")
        check_unpacked(self._files)
        where = f"{self.root / self.official}, or below {self.root} any other {self.official.name}"
        raise InputError(where, "no such file", f"set data.init_args.root to the folder of {self.official.parent} and audio")


def check_unpacked(files: list[Path]) -> None:
    """Refuse what holds recordings within other files."""
    for path in files:
        if path.suffix.lower() in MIRRORS:
            mend = "write its sounds to files and its columns to a CSV, as docs/data.md shows"
            raise InputError(path, "is a table that holds the sounds themselves, which is not read", mend)
        if path.suffix.lower() in ARCHIVES:
            raise InputError(path, "is an archive, which is not read", "unpack it, or read it in place as docs/data.md shows")


def _may_be_in(path: Path, folder: str) -> bool:
    """Whether a recording lies in the folder of its fold, or in none of a fold."""
    return path.parent.name == folder or not FOLD.fullmatch(path.parent.name)
