"""ESC-50 (Piczak 2015, doi 10.1145/2733373.2806390): 2,000 five-second recordings, 50 classes, five official folds."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from audioldm_lit.data.base import AudioDataModule, Clip, Split
from audioldm_lit.errors import InputError

FOLDS = 5


class ESC50(AudioDataModule):
    """ESC-50 in its official layout: `audio/*.wav` and `meta/esc50.csv`.

    Clips cut from one Freesound upload stay in one fold, so folds are never mixed: one fold is tested, the next validates, three
    train.

    Args:
        root: Folder that holds `audio/` and `meta/`.
        fold: Test fold, 1 to 5; validation is the next one, 5 being followed by 1.
        classes: `all` fifty, the ten of `esc10`, or a list of category names.
        caption: Template of the caption; `{label}` is the category in words, e.g. "crying baby".
        **kwargs: See `AudioDataModule`.
    """

    def __init__(
        self,
        root: Path,
        fold: int = 1,
        classes: Literal["all", "esc10"] | list[str] = "all",
        caption: str = "{label}",
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        if not 1 <= fold <= FOLDS:
            raise InputError(f"data.init_args.fold is {fold}; ESC-50 has folds 1 to {FOLDS}.")
        self.fold = fold
        self.classes = classes
        self.caption = caption

    def clips(self, split: Split) -> list[Clip]:
        """List the clips of the split's folds that are of the chosen classes."""
        rows = self._rows()
        folds = {"test": {self.fold}, "val": {self.fold % FOLDS + 1}}
        folds["train"] = set(range(1, FOLDS + 1)) - folds["test"] - folds["val"]
        return [
            Clip(
                id=row["filename"],
                path=self.root / "audio" / row["filename"],
                caption=self.caption.format(label=row["category"].replace("_", " ")),
                label=row["category"],
                source=row["src_file"],
            )
            for row in rows
            if int(row["fold"]) in folds[split]
        ]

    def _rows(self) -> list[dict[str, str]]:
        """Rows of the official table that are of the chosen classes."""
        table = self.root / "meta" / "esc50.csv"
        if not table.is_file():
            raise InputError(f"{table}: no such file; data.init_args.root must be the ESC-50 folder with audio/ and meta/.")
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        missing = {"filename", "fold", "category", "esc10", "src_file"} - set(rows[0] if rows else ())
        if missing:
            raise InputError(f"{table}: lacks the columns {', '.join(sorted(missing))}; take the data set's own table.")
        if self.classes == "all":
            return rows
        if self.classes == "esc10":
            return [row for row in rows if row["esc10"].lower() == "true"]
        return _of_categories(rows, self.classes, table)


def _of_categories(rows: Sequence[dict[str, str]], categories: Sequence[str], table: Path) -> list[dict[str, str]]:
    unknown = set(categories) - {row["category"] for row in rows}
    if unknown:
        raise InputError(f"{table}: has no category '{min(unknown)}'; correct data.init_args.classes.")
    return [row for row in rows if row["category"] in categories]
