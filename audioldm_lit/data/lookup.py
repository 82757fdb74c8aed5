"""The file that a table means: systems write letters, separators and letter case in more than one way."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from audioldm_lit.errors import InputError


def plain(name: str) -> str:
    """A name as systems compare it that know neither letter case nor two ways to write an accent."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class Lookup:
    """Recordings below a folder by the names that tables give them.

    Args:
        folder: The folder.
        recordings: Its recordings.
    """

    def __init__(self, folder: Path, recordings: Iterable[Path]) -> None:
        self.folder = folder
        self.by_name: dict[str, list[str]] = defaultdict(list)
        self.by_end: dict[str, list[str]] = defaultdict(list)
        for path in recordings:
            name = path.relative_to(folder).as_posix()
            self.by_name[plain(name)].append(name)
            self.by_name[plain(name[: -len(path.suffix)])].append(name)  # a table may leave the suffix out
            self.by_end[plain(path.name)].append(name)

    def find(self, name: str, where: str) -> str:
        r"""Path relative to the folder of the file that a table calls `name`; `name` itself where there is none.

        A file of exactly that name is meant before one that differs in its normal form (NFC, NFD), its letter case, its separators
        (`\`) or by a suffix, and this before one in a folder that a bare file name leaves out.

        Raises:
            InputError: If several files may be meant.
        """
        if os.path.lexists(self.folder / name):
            return name
        asked = unicodedata.normalize("NFC", name.replace("\\", "/").removeprefix("./"))
        claims = self.by_name.get(plain(asked)) or ([] if "/" in asked else self.by_end.get(plain(asked), []))
        claims = [claim for claim in claims if unicodedata.normalize("NFC", claim) == asked] or claims
        if len(claims) > 1:
            raise InputError(where, f"'{name}' may be {claims[0]} or {claims[1]}", "write the name as it is")
        return claims[0] if claims else name
