"""The file that a table means: systems write letters, separators and letter case in more than one way."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from audioldm_lit.errors import InputError


def plain(name: str) -> str:
    """A name without what systems and people write in two ways: letter case, accents, the width of letters (ＤＯＧ, ｶﾞﾗｽ)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


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
            place = path.relative_to(folder)
            name = place.as_posix()
            for other in dict.fromkeys((place, place.with_suffix(""))):  # a table may leave the suffix out
                self.by_name[plain(other.as_posix())].append(name)
                self.by_end[plain(other.name)].append(name)

    def find(self, name: str, where: str) -> str | None:
        r"""Path relative to the folder of the file that a table calls `name`; None where there is none.

        A file of exactly that name is meant before one that differs in its normal form (NFC, NFD), its letter case, the width of
        its letters, its separators (`\`) or by a suffix.

        Raises:
            InputError: If several files may be meant.
        """
        if os.path.lexists(self.folder / name):
            return name
        asked = name.replace("\\", "/").removeprefix("./")
        return _one_of(self.by_name.get(plain(asked), ()), asked, where)

    def anywhere(self, name: str, where: str) -> str | None:
        """The same for a bare file name, whichever folder the file lies in."""
        return _one_of(self.by_end.get(plain(name), ()), name, where)


def _one_of(claims: Sequence[str], name: str, where: str) -> str | None:
    same = [claim for claim in claims if unicodedata.normalize("NFC", claim) == unicodedata.normalize("NFC", name)]
    claims = same or claims
    if len(claims) > 1:
        raise InputError(where, f"'{name}' may be {claims[0]} or {claims[1]}", "write the name as it is")
    return claims[0] if claims else None
