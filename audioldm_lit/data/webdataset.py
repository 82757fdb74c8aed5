"""WebDataset (github.com/webdataset): tar files, in which files of one name and several suffixes are one sample."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audioldm_lit.audio.member import Member
from audioldm_lit.data.packed import Packed
from audioldm_lit.errors import InputError


@dataclass(frozen=True)
class TarBytes:
    """So many bytes of a tar, from an offset on."""

    archive: Path
    offset: int
    size: int

    def __call__(self) -> bytes:
        """Read them."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


class WebDataset(Packed):
    """Tar files of sounds and what is said of them, read in place; the sounds of few shots are all that is read.

    See `Packed` for captions, classes and splits.
    """

    suffix = ".tar"

    def members(self, archive: Path) -> Iterator[tuple[str, Member]]:
        """The files of a tar; a compressed one, which can only be read from its start, is refused."""
        try:
            with tarfile.open(archive, "r:") as tar:
                for entry in tar:
                    if entry.issparse() or entry.size < 0:
                        raise InputError(archive / entry.name, "is stored with gaps, not as it is", "pack it without --sparse")
                    if entry.isfile():
                        read = TarBytes(archive, entry.offset_data, entry.size)
                        yield entry.name.removeprefix("./"), Member(archive / entry.name, read, entry.size)
        except (tarfile.TarError, OSError, ValueError) as error:  # its headers' numbers need not be numbers
            raise InputError(archive, f"cannot be read as a tar that is not compressed ({error})", "pack it again") from error
