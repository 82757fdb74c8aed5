"""Any folder of recordings: a table, a text file beside each clip, titles in the files, class sub-folders, or just files."""

import os
import re
import unicodedata
from functools import cached_property
from pathlib import Path
from typing import Any

import soundfile

from audioldm_lit.data.base import AudioDataModule, caption_from
from audioldm_lit.data.clips import Clip, Split
from audioldm_lit.data.files import AUDIO, entries, recordings
from audioldm_lit.data.selection import split_by_source
from audioldm_lit.data.table import read_table
from audioldm_lit.errors import InputError

TABLES = ("metadata.csv", "metadata.jsonl")
LONGEST = 2**20  # bytes of a caption


class Folder(AudioDataModule):
    """A folder of recordings, described by whatever is there.

    A table (columns `file` and `caption`; optional `id`, `label`, `source`, `split`) decides where there is one. Without one every
    audio file below the folder is a clip. Its caption is the text file of the same name beside it, else the title in its own tags
    (ID3, Vorbis, RIFF), else the name of its class, else the words of its file name; its class is the top sub-folder it lies in.
    Hidden files are passed over.

    Where no `split` column says otherwise, a fifth of the sources of every class (at least one) is for validation and a fifth for
    testing. A class of two sources trains on one and validates on the other, a class of one only trains. The choice depends on
    the sources' names alone, not on the machine, the order of files or the seed.

    Args:
        root: Folder of recordings.
        table: List of the clips, CSV or JSON lines, such as `prepare` writes; its files lie below `root`. By default
            `metadata.csv` or `metadata.jsonl` of the folder, where there is one.
        caption: Template of captions made from a class name or file name; `{label}` is the name in words. null for no captions,
            whatever the folder holds: training is then conditioned on sound alone, see `configs/conditioning/audio.yaml`.
        **kwargs: See `AudioDataModule`.
    """

    def __init__(self, root: Path, table: Path | None = None, caption: str | None = "{label}", **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.captioned = caption is not None
        if self.captioned:
            caption_from(caption, "")
        self.table = table and Path(table).expanduser()
        self.caption = caption

    def clips(self, split: Split) -> list[Clip]:
        """List the clips of a split."""
        clips, splits, _ = self._listing
        return [clip for clip in clips if splits[clip.id] == split]

    def empty(self, split: Split) -> InputError:
        """The error for a split without clips; where no table gives the splits, it says what it takes to have some."""
        if self._listing[2]:
            return super().empty(split)
        return InputError(
            self.root,
            f"no clip is left for the {split} split, no class has {2 if split == 'val' else 3} clips of different sources",
            "add clips, or write a metadata.csv with a split column",
        )

    @cached_property
    def _listing(self) -> tuple[list[Clip], dict[str, Split], bool]:
        """Every clip, its split, and whether a table says so; the folder is read once for all splits."""
        if not os.path.isdir(self.root):
            raise InputError(self.root, "no such folder", "correct data.init_args.root")
        tables = [self.table] if self.table else [self.root / name for name in TABLES if os.path.lexists(self.root / name)]
        if len(tables) > 1:
            raise InputError(tables[1], f"stands beside {TABLES[0]}", "keep one of the two tables")
        clips, given = self._from_table(tables[0]) if tables else (self._from_files(), None)
        return clips, given or split_by_source(clips), given is not None

    def _from_table(self, table: Path) -> tuple[list[Clip], dict[str, Split] | None]:
        """Clips of a table, and the split of each where it has that column."""
        clips: list[Clip] = []
        splits: dict[str, Split] = {}
        split_of_source: dict[str, str] = {}
        for where, row in read_table(table, self.root, "file", ("caption",) if self.captioned else ()):
            name = row.get("id") or row["file"]
            source = row.get("source") or row["file"]
            caption = " ".join(row["caption"].split()) if self.captioned else ""  # a table's field may have several lines
            clip = Clip(name, self.root / row["file"], caption, row.get("label", ""), source, where)
            clips.append(clip)
            if len(clips) > 1 and ("split" in row) != bool(splits):  # JSON lines may differ in what they say
                says = "a" if "split" in row else "no"
                raise InputError(where, f"says {says} split, unlike the lines before", "say it in all lines or in none")
            if "split" not in row:
                continue
            if row["split"] not in ("train", "val", "test"):
                raise InputError(where, f"split is '{row['split']}'", "write train, val or test")
            splits[name] = row["split"]
            home = split_of_source.setdefault(source, row["split"])
            if home != row["split"]:
                raise InputError(where, f"source '{source}' is in both {home} and {row['split']}", "keep it in one split")
        return clips, splits or None

    def _from_files(self) -> list[Clip]:
        """Clips of a folder without a table."""
        clips: list[Clip] = []
        for entry in entries(self.root):
            found = [self._from_file(path) for path in recordings(entry, (self.root.resolve(),))]
            if os.path.isdir(entry) and not found:
                raise InputError(entry, "this class has no audio file", "add clips or remove the folder")
            clips += found
        if not clips:
            raise InputError(self.root, f"holds no audio file ({', '.join(sorted(AUDIO))})", "correct data.init_args.root")
        return clips

    def _from_file(self, path: Path) -> Clip:
        name = path.relative_to(self.root)
        label = name.parts[0] if len(name.parts) > 1 else ""
        caption = self._caption(path, label) if self.captioned else ""
        # door.wav and door.flac are one recording, so the source leaves the suffix out.
        return Clip(name.as_posix(), path, caption, label, source=name.with_suffix("").as_posix())

    def _caption(self, path: Path, label: str) -> str:
        text = path.with_suffix(".txt")
        caption = _read_caption(text) if os.path.isfile(text) else _title(path)
        return caption or caption_from(self.caption, words(label or path.stem))


def _title(path: Path) -> str:
    """Title in a file's own tags; empty where it has none or cannot be opened, which is an error later, when it is read."""
    if not os.path.isfile(path):  # opening a pipe would wait for a writer
        return ""
    try:
        with soundfile.SoundFile(path) as file:
            return " ".join(file.title.split())
    except (RuntimeError, TypeError, UnicodeDecodeError):  # libsndfile's own errors; TypeError for headerless files
        return ""


def _read_caption(text: Path) -> str:
    try:
        if text.stat().st_size > LONGEST:
            raise InputError(text, f"is longer than a caption of {LONGEST:,} bytes", "shorten it or remove it")
        caption = " ".join(text.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise InputError(text, f"is not UTF-8 ({error.reason} at byte {error.start})", "save it as UTF-8") from error
    except OSError as error:
        raise InputError(text, f"cannot be opened ({error.strerror})", "see to its permissions") from error
    if not caption:
        raise InputError(text, "this caption is empty", "write one or remove the file")
    return caption


def words(name: str) -> str:
    """A file or folder name as a caption: `door_slam-03` -> `door slam`."""
    name = unicodedata.normalize("NFC", name)  # some systems write an accent as a character of its own, which is no letter
    spaced = re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    return re.sub(r"\s*\d+$", "", spaced).strip().lower() or spaced.strip()
