"""Recordings that are no files of their own but lie within others: archives, tables, whatever can give their bytes."""

import io
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import Any


class Member(PosixPath):
    """A path within another file, such as `shard.tar/dog/1.wav`, whose bytes an opener gives.

    Everything that reads recordings takes one for a file: decoding, hashes, the cache, `prepare`.

    Args:
        path: What it is called in messages; unique in the data set.
        opener: Gives its bytes; can be pickled, and called in any thread and process.
        size: Their number, where it is known without reading them.
    """

    opener: Callable[[], bytes]
    size: int | None

    def __new__(cls, path: str | Path, opener: Callable[[], bytes], size: int | None = None) -> "Member":  # noqa: D102
        made = super().__new__(cls, path)
        made.opener, made.size = opener, size
        return made

    def __init__(self, path: str | Path, opener: Callable[[], bytes], size: int | None = None) -> None:
        if sys.version_info >= (3, 12):
            super().__init__(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return Member, (str(self), self.opener, self.size)

    def with_segments(self, *segments: str | Path) -> Path:
        """Paths made of this one are plain (Python 3.12)."""
        return Path(*segments)

    def open(self, mode: str = "rb", *_: Any, **__: Any) -> Any:
        """Its bytes."""
        assert mode == "rb"
        return io.BytesIO(self.opener())

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """A regular file of its size."""
        size = len(self.opener()) if self.size is None else self.size
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, size, 0, 0, 0))


def is_there(path: Path) -> bool:
    """Whether a path is a file, or something within one."""
    return isinstance(path, Member) or os.path.isfile(path)
