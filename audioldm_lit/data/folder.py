"""Any folder of recordings: tables, files beside the clips, titles in the files, folders of splits and classes, or just files."""

import os
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import soundfile

from audioldm_lit.data.base import AudioDataModule, caption_from
from audioldm_lit.data.clips import Clip, Split
from audioldm_lit.data.files import check_root, entries, files_below, is_recording, recordings
from audioldm_lit.data.folder_remarks import encoded, named_like_splits, several_captions, unlisted, unread, without_sound
from audioldm_lit.data.published import check_unpacked
from audioldm_lit.data.remark import below, listed
from audioldm_lit.data.segments import Segment, segmented, share_used
from audioldm_lit.data.selection import split_by_source, with_validation
from audioldm_lit.data.splits import places, role_of
from audioldm_lit.data.tables.in_folder import OURS, Table, find_tables
from audioldm_lit.data.tables.in_folder import SUFFIXES as TABLES
from audioldm_lit.data.tables.listed import Listed
from audioldm_lit.data.tables.lookup import Lookup
from audioldm_lit.data.tables.sidecars import SUFFIXES as BESIDE
from audioldm_lit.data.tables.sidecars import candidates, read_captions
from audioldm_lit.errors import InputError
from audioldm_lit.storage.names import expanded

DESCRIBING = {*BESIDE, *TABLES}  # how files end that may say what recordings are


class Folder(AudioDataModule):
    """A folder of recordings, described by whatever is there.

    A table (columns `file` and `caption`; optional `id`, `label`, `source`, `split`, `start` and `end`) decides where there is one.
    Without one every audio file below the folder is a clip. Its captions are those of the file of the same name beside it (.txt,
    .caption, .lab, .json), else the title in its own tags (ID3, Vorbis, RIFF), else the name of its class, else the words of its
    file name; its class is the top sub-folder it lies in. Hidden files are passed over. Of several captions, the lines of a .txt
    or the rows of a table, training draws one each time. docs/data.md lists what is read; `fit` and `prepare` say what was not.

    Folders that are named after splits (`train`, `Validation`, `dev`, `test_set`, `学習`) are the splits, and classes the level
    above or below. Where neither they nor a `split` column say otherwise, a fifth of the sources of every class (at least one) is
    for validation and a fifth for testing. A class of two sources trains on one and validates on the other, a class of one only
    trains. The choice depends on the sources' names alone, not on the machine, the order of files or the seed.

    Args:
        root: Folder of recordings.
        table: List of the clips, CSV, JSON lines, JSON or Excel, such as `prepare` writes; its files lie below `root`. By default
            the folder's own, such as `metadata.csv`, where there is one.
        caption: Template of captions made from a class name or file name; `{label}` is the name in words. null for no captions,
            whatever the folder holds: training is then conditioned on sound alone, see `configs/conditioning/audio.yaml`.
        segment: `none`: a recording is a clip, however long. `events`: each stretch of it that sounds is one (12 dB above the
            recording's floor or within 20 dB of its loudest; stretches less than 0.5 s apart are one, each with 0.1 s around it).
            `windows`: each window of the duration, one after the other, the last over at most half of the one before. The source
            of all of them is the recording. Parts that a table names by `start` and `end`, in seconds, stay as they are.
        **kwargs: See `AudioDataModule`.
    """

    documents: Collection[str] = ()  # of texts that say nothing of single clips, and need not be told of

    def __init__(
        self, root: Path, table: Path | None = None, caption: str | None = "{label}", segment: Segment = "none", **kwargs: Any
    ) -> None:
        super().__init__(root, **kwargs)
        self.captioned = caption is not None
        if caption is not None:
            caption_from(caption, "")
        self.table = table and expanded(table)
        self.caption = caption
        self.segment = segment

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
        """Every clip, its split, and whether the folder says so; it is read once for all splits."""
        check_root(self.root)
        files = files_below(self.root, self.follow_links)
        for path in files:
            if path.suffix.lower() in DESCRIBING:
                self.listing(path)
        sounds = [path for path in files if is_recording(path)]
        beside = candidates(sounds, files)
        tables, reasons = self._tables(files, beside)
        if tables:
            clips, splits = self._from_tables(tables, sounds)
            used = {table.path for table in tables}
        else:
            if not sounds:
                check_unpacked(files)
            (clips, used), splits = self._from_files(beside), {}
        self.remarks += several_captions(self.root, clips)
        self.remarks += without_sound(self.root, files)
        if self.captioned:
            texts = [path for path in files if path.name not in self.documents]
            self.remarks += unread(self.root, texts, used, reasons)
        splits = splits or self._from_folders(clips)
        given, splits = bool(splits), splits or split_by_source(clips)
        parts = segmented(clips, self.segment, self.duration)
        splits = {part.id: splits[name] for name, several in parts.items() for part in several}
        clips = [part for several in parts.values() for part in several]
        self.remarks += share_used(self.root, clips, self.segment, self.duration)
        return clips, splits, given

    def _tables(self, files: Sequence[Path], beside: Mapping[Path, Sequence[Path]]) -> tuple[list[Table], dict[Path, str]]:
        """The tables to read, and why others are not; a file beside a recording is none."""
        if self.table:
            return [Table(self.table)], {}
        sidecars = {file for found in beside.values() for file in found}
        folders = [path for name in OURS if os.path.isdir(path := self.root / name)]  # refused when it is read
        columns = ("file", "caption") if self.captioned else ("file",)
        return find_tables(self.root, [*folders, *(file for file in files if file not in sidecars)], columns)

    def _from_tables(self, tables: Sequence[Table], sounds: Sequence[Path]) -> tuple[list[Clip], dict[str, Split]]:
        """Clips that tables list, and the split of each where they say it."""
        found = Listed(self.root, Lookup(self.root, sounds), self.caption)
        for table in tables:
            before = len(found.clips)
            found.read(table, self.root if self.table else table.path.parent)
            captions = [clip.caption for clip in list(found.clips.values())[before:]]
            self.remarks += encoded(str(table.path), table.encoding, captions)
        clips = list(found.clips.values())
        self.remarks += unlisted(self.root, sounds, clips, [table.path for table in tables])
        if any(table.split for table in tables):
            return clips, with_validation(self.root, clips, found.splits, self.remarks)
        return clips, found.splits

    def _from_files(self, beside: Mapping[Path, Sequence[Path]]) -> tuple[list[Clip], set[Path]]:
        """Clips of a folder without a table, and the files that say their captions."""
        below_entry = {entry: list(recordings(entry, (self.root.resolve(),))) for entry in entries(self.root)}
        empty = [entry for entry, found in below_entry.items() if os.path.isdir(entry) and not found]
        paths = [path for found in below_entry.values() for path in found]
        if not paths and not empty:
            raise InputError(self.root, "holds no audio file (docs/data.md lists the formats)", "correct data.init_args.root")
        captions = self._captions(beside) if self.captioned else {}
        placed = places(self.root, [below(self.root, path) for path in paths])
        self.remarks += named_like_splits(self.root, [place.label for place in placed.values() if not place.split])
        split = any(place.split for place in placed.values())  # beside splits there may be folders of other things
        for entry in empty:
            if not split or role_of(entry.name):
                raise InputError(entry, f"this {'split' if split else 'class'} has no audio file", "add clips or remove the folder")
        chosen = {path: file for path in paths for file in reversed(beside.get(path, ())) if captions.get(file)}
        said = {path: captions[file] for path, file in chosen.items()}
        clips = [self._clip(path, placed[below(self.root, path)].label, said.get(path, [])) for path in paths]
        return clips, set(chosen.values())

    def _captions(self, beside: Mapping[Path, Sequence[Path]]) -> dict[Path, list[str]]:
        """Captions of all files beside recordings."""
        captions, encodings = read_captions(sorted({file for found in beside.values() for file in found}))
        for encoding, files in encodings.items():
            where = listed([below(self.root, path) for path in files])
            self.remarks += encoded(where, encoding, [text for path in files for text in captions[path]])
        return captions

    def _clip(self, path: Path, label: str, captions: Sequence[str]) -> Clip:
        name = path.relative_to(self.root)
        if self.caption is not None and not captions:
            captions = [_title(path) or caption_from(self.caption, words(label or path.stem))]
        # door.wav and door.flac are one recording, so the source leaves the suffix out.
        source = name.with_suffix("").as_posix()
        return Clip(name.as_posix(), path, captions[0] if captions else "", label, source, others=tuple(captions[1:]))

    def _from_folders(self, clips: Sequence[Clip]) -> dict[str, Split]:
        """Split of each clip where folders are splits."""
        placed = places(self.root, [below(self.root, clip.path) for clip in clips])
        splits = {clip.id: split for clip in clips if (split := placed[below(self.root, clip.path)].split)}
        if set(splits.values()) <= {"train"}:
            return {}
        return with_validation(self.root, clips, splits, self.remarks)


def _title(path: Path) -> str:
    """Title in a file's own tags; empty where it has none or cannot be opened, which is an error later, when it is read."""
    if not os.path.isfile(path):  # opening a pipe would wait for a writer
        return ""
    try:
        with soundfile.SoundFile(path) as file:
            return " ".join(file.title.split())
    except (RuntimeError, TypeError, UnicodeDecodeError):  # libsndfile's own errors; TypeError for headerless files
        return ""


def words(name: str) -> str:
    """A file or folder name as a caption: `door_slam-03` -> `door slam`."""
    name = unicodedata.normalize("NFC", name)  # some systems write an accent as a character of its own, which is no letter
    spaced = re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    return re.sub(r"\s*\d+$", "", spaced).strip().lower() or spaced.strip()
