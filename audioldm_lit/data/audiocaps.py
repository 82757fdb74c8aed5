"""AudioCaps (Kim et al. 2019, aclanthology.org/N19-1011): 10 s clips of AudioSet, each with a sentence that people wrote."""

from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

from audioldm_lit import seeding
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.clips import Clip, Split
from audioldm_lit.data.files import check_root
from audioldm_lit.data.tables.table import Row, read_rows
from audioldm_lit.data.videos import VIDEO, Videos
from audioldm_lit.errors import InputError

COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")


class AudioCaps(AudioDataModule):
    """AudioCaps: the published `train.csv`, `val.csv` and `test.csv`, and the audio anywhere below the same folder.

    A clip's file is named after the video, `{youtube_id}` or `Y{youtube_id}`, alone or with start and end behind it, in seconds or
    milliseconds (`{youtube_id}_30`, `_30.000_40.000`, `_000030`, `_30000_40000`), or after a row, `{audiocap_id}`; each with any
    suffix that can be read. Videos vanish from the web, so some audio is always missing.

    Args:
        root: Folder of the three lists.
        captions: Validation and test clips have five captions each: take `one` of them, or `all`, each as an item of its own.
        caption_seed: Seed of that choice, which is the same on every machine.
        min_coverage: Share in [0, 1] of a split's listed clips whose audio must be there; how many are left out is said.
        **kwargs: See `AudioDataModule`.
    """

    def __init__(
        self,
        root: Path,
        captions: Literal["one", "all"] = "one",
        caption_seed: int = 0,
        min_coverage: float = 0.8,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, min_coverage=min_coverage, **kwargs)
        self.captions = captions
        self.caption_seed = caption_seed

    def clips(self, split: Split) -> list[Clip]:
        """List the clips of an official split."""
        check_root(self.root)
        by_clip: dict[str, list[Row]] = defaultdict(list)
        for where, row in read_rows(self.listing(self.root / f"{split}.csv"), COLUMNS):
            if not VIDEO.fullmatch(row["youtube_id"]) or not row["start_time"].isdecimal():
                raise InputError(where, "names no video or no start in whole seconds", "copy the published list again")
            by_clip[f"{row['youtube_id']}_{row['start_time']}"].append((where, row))
        self.videos = Videos(self.root, {rows[0][1]["youtube_id"] for rows in by_clip.values()})
        return [clip for name, rows in by_clip.items() for clip in self._items(name, rows)]

    def missing(self, clip: Clip) -> InputError:
        """The error for a clip whose audio is not there."""
        return self.videos.missing(clip, float(clip.id.partition("#")[0].rpartition("_")[2]))

    def _items(self, name: str, rows: list[Row]) -> list[Clip]:
        """The items of one clip: one, or one a caption."""
        video, start = rows[0][1]["youtube_id"], int(rows[0][1]["start_time"])
        path = self.videos.find(video, start, [row["audiocap_id"] for _, row in rows]) or self.root / f"Y{video}.wav"
        if self.captions == "all" and len(rows) > 1:
            return [Clip(f"{name}#{row['audiocap_id']}", path, row["caption"], source=video, where=where) for where, row in rows]
        where, row = min(rows, key=lambda listed: seeding.number(self.caption_seed, "caption", listed[1]["audiocap_id"]))
        return [Clip(name, path, row["caption"], source=video, where=where)]
