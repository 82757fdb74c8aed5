"""ESC-50 (Piczak 2015, doi 10.1145/2733373.2806390): 2,000 five-second recordings, 50 classes, five official folds."""

from pathlib import Path
from typing import Any, Literal

from audioldm_lit.data.base import AudioDataModule, caption_from
from audioldm_lit.data.clips import Clip, Split
from audioldm_lit.data.folds import fold_of, folds_of
from audioldm_lit.data.published import Published
from audioldm_lit.data.tables.table import Row, read_table
from audioldm_lit.errors import InputError

FOLDS = 5


class ESC50(AudioDataModule):
    """ESC-50: `meta/esc50.csv` and `audio/*.wav`, as published or anywhere below the root.

    Clips cut from one Freesound upload stay in one fold, so folds are never mixed: one fold tests, the next validates, three
    train.

    Args:
        root: Folder that holds `audio/` and `meta/`, or one above it.
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
            raise InputError("data.init_args.fold", f"is {fold}", f"give one of ESC-50's folds, 1 to {FOLDS}")
        caption_from(caption, "")
        self.published = Published(self.root, "meta/esc50.csv")
        self.fold = fold
        self.classes = classes
        self.caption = caption

    def clips(self, split: Split) -> list[Clip]:
        """List the clips of the split's folds that are of the chosen classes."""
        folds = folds_of(split, self.fold, FOLDS)
        return [
            Clip(
                id=row["filename"],
                path=self.published.recording(row["filename"]),
                caption=caption_from(self.caption, row["category"].replace("_", " ")),
                label=row["category"],
                source=row["src_file"],
                where=where,
            )
            for where, row in self._rows()
            if fold_of(where, row, FOLDS) in folds
        ]

    def _rows(self) -> list[Row]:
        """Rows of the official table that are of the chosen classes."""
        table = self.listing(self.published.table)
        rows = list(read_table(table, self.published.audio, "filename", ("fold", "category", "esc10", "src_file")))
        if self.classes == "all":
            return rows
        if self.classes == "esc10":
            return [(where, row) for where, row in rows if _is_esc10(where, row)]
        unknown = sorted(set(self.classes) - {row["category"] for _, row in rows})
        if unknown:
            raise InputError(table, f"has no category '{unknown[0]}'", "correct data.init_args.classes")
        return [(where, row) for where, row in rows if row["category"] in self.classes]


def _is_esc10(where: str, row: dict[str, str]) -> bool:
    if row["esc10"].lower() not in ("true", "false"):
        raise InputError(where, f"esc10 is '{row['esc10']}'", "write True or False")
    return row["esc10"].lower() == "true"
