"""Any folder of recordings: a table, a text file beside each clip, class sub-folders, or just files."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from audioldm_lit import noise
from audioldm_lit.data.base import AudioDataModule, Clip, Split, caption_from
from audioldm_lit.data.table import read_table
from audioldm_lit.errors import InputError

AUDIO = {".wav", ".flac", ".ogg", ".oga", ".mp3", ".aiff", ".aif", ".opus", ".au", ".caf", ".w64"}
UNREADABLE = {".m4a", ".aac", ".mp4", ".wma", ".webm", ".amr", ".ac3"}  # recordings all the same: refused, not passed over


class Folder(AudioDataModule):
    """A folder of recordings, described by whatever is there.

    With `metadata.csv` (columns `file` and `caption`; optional `label`, `source`, `split`) the table rules. Without it every audio
    file below the folder is a clip: its caption is the text file of the same name beside it, else the name of its class, else the
    words of its file name; its class is the top sub-folder it lies in. Hidden files are passed over.

    Where no `split` column says otherwise, a fifth of the sources of every class (at least one) validates and a fifth tests. A
    class of two sources trains on one and validates on the other, a class of one only trains. The choice hangs on the sources'
    names alone: not on the machine, the order of files or the seed.

    Args:
        root: Folder of recordings.
        caption: Template of captions made from a class name or file name; `{label}` is the name in words.
        **kwargs: See `AudioDataModule`.
    """

    def __init__(self, root: Path, caption: str = "{label}", **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        caption_from(caption, "")
        self.caption = caption

    def clips(self, split: Split) -> list[Clip]:
        """List the clips of a split."""
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder; correct data.init_args.root.")
        table = self.root / "metadata.csv"
        clips, given = self._from_table(table) if table.is_file() else (self._from_files(), None)
        splits = given or split_by_source(clips)
        chosen = [clip for clip in clips if splits[clip.id] == split]
        if not chosen and not given:
            raise InputError(
                f"{self.root}: no clip is left for the {split} split, no class has {2 if split == 'val' else 3} clips of different "
                "sources; add clips, or write a metadata.csv with a split column."
            )
        return chosen

    def _from_table(self, table: Path) -> tuple[list[Clip], dict[str, str] | None]:
        """Clips of a metadata.csv, and the split of each where it has that column."""
        clips: list[Clip] = []
        splits: dict[str, str] = {}
        split_of_source: dict[str, str] = {}
        for where, row in read_table(table, self.root, "file", ("caption",)):
            name, caption = row["file"], row["caption"]
            if not caption:
                raise InputError(f"{where}: the caption of '{name}' is empty; write one.")
            clip = Clip(name, self.root / name, caption, row.get("label", ""), row.get("source", ""))
            clips.append(clip)
            if "split" not in row:
                continue
            splits[name] = row["split"]
            if row["split"] not in ("train", "val", "test"):
                raise InputError(f"{where}: split is '{row['split']}'; write train, val or test.")
            home = split_of_source.setdefault(clip.source, row["split"])
            if home != row["split"]:
                raise InputError(f"{where}: source '{clip.source}' is in both {home} and {row['split']}; keep it in one split.")
        return clips, splits or None

    def _from_files(self) -> list[Clip]:
        """Clips of a folder without a table."""
        clips: list[Clip] = []
        for entry in sorted(self.root.iterdir()):
            if not visible(entry):
                continue
            found = [self._from_file(path) for path in recordings(entry)]
            if entry.is_dir() and not found:
                raise InputError(f"{entry}: this class has no audio file; add clips or remove the folder.")
            clips += found
        if not clips:
            raise InputError(f"{self.root}: holds no audio file ({', '.join(sorted(AUDIO))}); correct data.init_args.root.")
        return clips

    def _from_file(self, path: Path) -> Clip:
        name = path.relative_to(self.root)
        label = name.parts[0] if len(name.parts) > 1 else ""
        text = path.with_suffix(".txt")
        caption = _read_caption(text) if text.is_file() else caption_from(self.caption, words(label or path.stem))
        # door.wav and door.flac are one recording, so the source leaves the suffix out.
        return Clip(name.as_posix(), path, caption, label, source=name.with_suffix("").as_posix())


def visible(path: Path) -> bool:
    """Whether an entry of a folder is meant for people."""
    return not path.name.startswith(".") and path.name != "__MACOSX"


def recordings(entry: Path) -> Iterator[Path]:
    """Audio files at or below an entry of the root."""
    if entry.is_dir():
        for inner in sorted(entry.iterdir()):
            if visible(inner):
                yield from recordings(inner)
    elif entry.suffix.lower() in UNREADABLE:
        raise InputError(f"{entry}: {entry.suffix} files cannot be read; convert it to WAV or FLAC, or remove it.")
    elif entry.suffix.lower() in AUDIO:
        if any("\ud800" <= letter <= "\udfff" for letter in str(entry)):  # how Python marks bytes that are not UTF-8
            raise InputError(f"{str(entry)!a}: its name is not UTF-8; rename it.")
        yield entry


def _read_caption(text: Path) -> str:
    try:
        caption = " ".join(text.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise InputError(f"{text}: is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8.") from error
    if not caption:
        raise InputError(f"{text}: this caption is empty; write one or remove the file.")
    return caption


def words(name: str) -> str:
    """A file or folder name as a caption: `door_slam-03` -> `door slam`."""
    spaced = re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    return re.sub(r"\s*\d+$", "", spaced).strip().lower() or spaced.strip()


def split_by_source(clips: Sequence[Clip]) -> dict[str, str]:
    """Give every clip a split, whole sources at a time; every class trains, validates from two sources on, tests from three on."""
    sources: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        sources[clip.label].add(clip.source)
    splits: dict[str, str] = {}
    # A source that several classes share is placed once. The class with fewest sources chooses first, it has least to spare.
    for label, members in sorted(sources.items(), key=lambda item: (len(item[1]), item[0])):
        held_out = max(1, round(len(members) / 5))
        quota = {"train": 1, "val": held_out * (len(members) >= 2), "test": held_out * (len(members) >= 3)}
        placed = Counter(splits[source] for source in members if source in splits)
        for source in sorted(members - set(splits), key=lambda source: noise.number("split", source)):
            splits[source] = next((split for split in quota if placed[split] < quota[split]), "train")
            placed[splits[source]] += 1
        if not placed["train"]:
            raise InputError(
                f"class '{label}': all its sources are held out with other classes that share them; "
                "add clips of its own, or write a metadata.csv with a split column."
            )
    return {clip.id: splits[clip.source] for clip in clips}
