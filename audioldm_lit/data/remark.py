"""What a data set says about how it was read: nothing that stops a run, but nothing to be silent about."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN = 20  # names in a remark; more are counted


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark in the fields of an `InputError`.

    Attributes:
        kind: What it is about, in a word or two.
        where: File, or folder of the data set.
        problem: What was found there.
        mend: What to do about it.
    """

    kind: str
    where: str
    problem: str
    mend: str

    def __str__(self) -> str:
        """One sentence."""
        return f"{self.where}: {self.problem}; {self.mend}."


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: "a.wav, b.wav and 3 more"."""
    shown = [name if name.isprintable() else ascii(name) for name in names[:SHOWN]]
    if len(names) > SHOWN:
        return f"{', '.join(shown)} and {len(names) - SHOWN:,} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def below(root: Path, path: Path) -> str:
    """A path as remarks about a folder name it."""
    return path.relative_to(root).as_posix()
