"""The official folds of a data set, which keep clips of one recording together: one tests, the next validates, the others train."""

from audioldm_lit.data.clips import Split
from audioldm_lit.errors import InputError


def folds_of(split: Split, test_fold: int, count: int) -> set[int]:
    """Folds of a split, numbered from 1; after the last one comes the first."""
    held_out = {"test": test_fold, "val": test_fold % count + 1}
    return {held_out[split]} if split in held_out else set(range(1, count + 1)) - set(held_out.values())


def fold_of(where: str, row: dict[str, str], count: int) -> int:
    """Fold of a row of a table, its column `fold`."""
    if row["fold"] not in map(str, range(1, count + 1)):
        raise InputError(where, f"fold is '{row['fold']}'", f"write a whole number from 1 to {count}")
    return int(row["fold"])
