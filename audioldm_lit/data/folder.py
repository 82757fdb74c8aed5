"""Any folder of recordings: a table, a text file beside each clip, class sub-folders, or just files."""

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audioldm_lit import noise
from audioldm_lit.data.base import AudioDataModule, Clip, Split
from audioldm_lit.errors import InputError

AUDIO = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus"}


class Folder(AudioDataModule):
    """A folder of recordings, described by whatever is there.

    With `metadata.csv` (columns `file` and `caption`; optional `label`, `source`, `split`) the table rules. Without it every audio
    file below the folder is a clip: its caption is the text file of the same name beside it, else its sub-folder's name, else the
    words of its file name; its class is its sub-folder.

    Where no `split` column says otherwise, a fifth of the sources of every class (at least one) validates and a fifth tests. The
    choice hangs on the source's name, so it stays when clips are added.

    Args:
        root: Folder of recordings.
        caption: Template of captions made from a class name or file name; `{label}` is the name in words.
        **kwargs: See `AudioDataModule`.
    """

    def __init__(self, root: Path, caption: str = "{label}", **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.caption = caption

    def clips(self, split: Split) -> list[Clip]:
        """List the clips of a split."""
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder; correct data.init_args.root.")
        table = self.root / "metadata.csv"
        clips, splits = self._from_table(table) if table.is_file() else (self._from_files(), None)
        splits = splits or split_by_source(clips)
        return [clip for clip in clips if splits[clip.id] == split]

    def _from_table(self, table: Path) -> tuple[list[Clip], dict[str, str] | None]:
        """Clips of a metadata.csv, and their splits where it has that column."""
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"file", "caption"} <= set(rows[0]):
            raise InputError(f"{table}: needs a first line with the columns file and caption, and a line for every clip.")
        clips = [
            Clip(
                id=row["file"],
                path=self.root / row["file"],
                caption=row["caption"] or "",
                label=row.get("label") or "",
                source=row.get("source") or row["file"],
            )
            for row in rows
        ]
        if "split" not in rows[0]:
            return clips, None
        for number, row in enumerate(rows, start=2):
            if row["split"] not in ("train", "val", "test"):
                raise InputError(f"{table}, line {number}: split is '{row['split']}'; write train, val or test.")
        return clips, {row["file"]: row["split"] for row in rows}

    def _from_files(self) -> list[Clip]:
        """Clips of a folder without a table."""
        paths = sorted(path for path in self.root.rglob("*") if path.suffix.lower() in AUDIO)
        for folder in (path for path in self.root.iterdir() if path.is_dir()):
            if not any(folder in path.parents for path in paths):
                raise InputError(f"{folder}: this class has no audio file; add clips or remove the folder.")
        return [self._from_file(path) for path in paths]

    def _from_file(self, path: Path) -> Clip:
        name = path.relative_to(self.root)
        label = name.parts[0] if len(name.parts) > 1 else ""
        text = path.with_suffix(".txt")
        caption = (
            text.read_text(encoding="utf-8").strip() if text.is_file() else self.caption.format(label=words(label or path.stem))
        )
        return Clip(id=name.as_posix(), path=path, caption=caption, label=label, source=name.as_posix())


def words(name: str) -> str:
    """A file or folder name as a caption: `door_slam-03` -> `door slam`."""
    spaced = re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    return re.sub(r"\s*\d+$", "", spaced).strip().lower() or spaced.strip()


def split_by_source(clips: Sequence[Clip]) -> dict[str, str]:
    """Give every clip a split, whole sources at a time, every class in every split where it has three sources or more."""
    sources: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        sources[clip.label].add(clip.source)
    splits: dict[str, str] = {}
    for label in sorted(sources):
        # A source that an earlier class already placed keeps its split.
        ranked = sorted(sources[label] - set(splits), key=lambda source: noise.number("split", source))
        held_out = max(1, round(len(ranked) / 5)) if len(ranked) >= 3 else 0
        for place, source in enumerate(ranked):
            splits[source] = "val" if place < held_out else "test" if place < 2 * held_out else "train"
    return {clip.id: splits[clip.source] for clip in clips}
