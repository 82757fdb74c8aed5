"""UrbanSound8K (Salamon et al. 2014, doi 10.1145/2647868.2655045): 8,732 street sounds of up to 4 s, ten classes, ten folds."""

from pathlib import Path
from typing import Any, Literal

from audioldm_lit.data.base import AudioDataModule, caption_from
from audioldm_lit.data.clips import Clip, Split
from audioldm_lit.data.folds import fold_of, folds_of
from audioldm_lit.data.published import Published
from audioldm_lit.data.tables.table import read_table
from audioldm_lit.errors import InputError

FOLDS = 10
SALIENCE = {"1": "foreground", "2": "background"}


class UrbanSound8K(AudioDataModule):
    """UrbanSound8K: `metadata/UrbanSound8K.csv` and `audio/fold1` to `audio/fold10`, as published or anywhere below the root.

    Slices cut from one Freesound recording stay in one fold, so folds are never mixed: one fold tests, the next validates,
    eight train.

    Args:
        root: Folder that holds `audio/` and `metadata/`, or one above it.
        fold: Test fold, 1 to 10; validation is the next one, 10 being followed by 1.
        salience: Whether the sound stands in the `foreground` of its recording or in the `background`, or `all`.
        caption: Template of the caption; `{label}` is the class in words, e.g. "street music".
        **kwargs: See `AudioDataModule`.
    """

    def __init__(
        self,
        root: Path,
        fold: int = 1,
        salience: Literal["all", "foreground", "background"] = "all",
        caption: str = "{label}",
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        if not 1 <= fold <= FOLDS:
            raise InputError("data.init_args.fold", f"is {fold}", f"give one of UrbanSound8K's folds, 1 to {FOLDS}")
        caption_from(caption, "")
        self.published = Published(self.root, "metadata/UrbanSound8K.csv")
        self.fold = fold
        self.salience = salience
        self.caption = caption

    def clips(self, split: Split) -> list[Clip]:
        """List the clips of the split's folds that have the asked salience."""
        folds = folds_of(split, self.fold, FOLDS)
        table, audio = self.listing(self.published.table), self.published.audio
        clips = []
        for where, row in read_table(table, audio, "slice_file_name", ("fsID", "salience", "fold", "class")):
            fold, salience = fold_of(where, row, FOLDS), _salience(where, row)
            if fold in folds and self.salience in ("all", salience):
                name = row["slice_file_name"]
                caption = caption_from(self.caption, row["class"].replace("_", " "))
                clips.append(Clip(name, self.published.recording(name, fold), caption, row["class"], row["fsID"], where))
        return clips


def _salience(where: str, row: dict[str, str]) -> str:
    if row["salience"] not in SALIENCE:
        raise InputError(where, f"salience is '{row['salience']}'", "write 1 (foreground) or 2 (background)")
    return SALIENCE[row["salience"]]
