"""Recordings in zip files."""

import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from audioldm_lit.audio.member import Member
from audioldm_lit.data.packed import Packed
from audioldm_lit.errors import InputError

# What a damaged zip raises: the reader itself, what unpacks for it, and Python where a length or a name is not what it says.
DAMAGED: tuple[type[Exception], ...] = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)
DAMAGED += (OSError, EOFError, ValueError, LookupError, RuntimeError)  # RuntimeError for a password too


@dataclass(frozen=True)
class ZipBytes:
    """A file of a zip."""

    archive: Path
    name: str

    def __call__(self) -> bytes:
        """Unpack it."""
        try:
            return _opened(self.archive, os.getpid()).read(self.name)
        except DAMAGED as error:
            raise InputError(self.archive / self.name, f"cannot be unpacked ({error})", "pack it again") from error


class Zipped(Packed):
    """Zip files of sounds and what is said of them, read in place.

    See `Packed` for captions, classes and splits.
    """

    suffix = ".zip"

    def members(self, archive: Path) -> Iterator[tuple[str, Member]]:
        """The visible files of a zip."""
        try:
            entries = _opened(archive, os.getpid()).infolist()
        except DAMAGED as error:
            raise InputError(archive, f"is no whole zip ({error})", "copy it again") from error
        for entry in entries:
            if not entry.filename:
                raise InputError(archive, "holds a file without a name", "pack it again")
            hidden = any(part.startswith(".") or part == "__MACOSX" for part in entry.filename.split("/"))
            if not entry.is_dir() and not hidden:
                yield entry.filename, Member(archive / entry.filename, ZipBytes(archive, entry.filename), entry.file_size)


@lru_cache(maxsize=16)  # reading its list of files is what takes time
def _opened(archive: Path, process: int) -> zipfile.ZipFile:
    """A zip, opened once in each process: processes that share a file would read in each other's places."""
    return zipfile.ZipFile(archive)
