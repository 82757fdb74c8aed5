"""What archives of recordings have in common: names as in a folder, texts beside the sounds, and no file that is unpacked."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from audioldm_lit.audio.member import Member
from audioldm_lit.data.base import AudioDataModule, caption_from
from audioldm_lit.data.clips import Clip, Split
from audioldm_lit.data.files import AUDIO
from audioldm_lit.data.folder import words
from audioldm_lit.data.folder_remarks import several_captions
from audioldm_lit.data.selection import split_by_source, with_validation
from audioldm_lit.data.splits import Place, places, role_of
from audioldm_lit.errors import InputError
from audioldm_lit.storage.names import check_name
from audioldm_lit.storage.plain_files import parse_json

TEXTS = ("caption", "captions", "text")  # keys of a JSON file beside a sound
LABELS = ("label", "class", "category")


class Packed(AudioDataModule):
    """Recordings within archives, read in place.

    A sound's caption is that of the file of its name beside it: the lines of a `.txt`, or `caption` or `text` of a `.json`; else
    its class in words. Its class is that of a `.cls` or of `label` in the `.json`, else the folder it lies in within the archive.
    Archives, or folders within them, that are named after splits (`train-000.tar`) are the splits; otherwise they are chosen as in
    `Folder`.

    Args:
        root: An archive, or a folder of them.
        caption: Template of captions made from a class; `{label}` is its name in words. null for no captions.
        **kwargs: See `AudioDataModule`.
    """

    suffix: str  # of the archives

    def __init__(self, root: Path, caption: str | None = "{label}", **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.captioned = caption is not None
        if caption is not None:
            caption_from(caption, "")
        self.caption = caption

    @abstractmethod
    def members(self, archive: Path) -> Iterator[tuple[str, Member]]:
        """Name within the archive, and content, of everything in it.

        Raises:
            InputError: If it cannot be read.
        """

    def clips(self, split: Split) -> list[Clip]:
        """List the clips of a split."""
        clips, splits = self._listing
        return [clip for clip in clips if splits[clip.id] == split]

    @cached_property
    def _archives(self) -> list[Path]:
        found = [self.root] if self.root.is_file() else sorted(self.root.rglob(f"*{self.suffix}"))
        if not found:
            raise InputError(self.root, f"holds no {self.suffix}", "correct data.init_args.root")
        return found

    @cached_property
    def _listing(self) -> tuple[list[Clip], dict[str, Split]]:
        """Every clip and its split."""
        sounds: dict[str, Member] = {}
        beside: dict[str, dict[str, Member]] = defaultdict(dict)
        for archive in self._archives:
            role = role_of(archive.stem)
            for inner, member in self.members(archive):
                check_name(inner, str(archive))
                name = str(PurePosixPath(role[1] if role else "", inner))
                if PurePosixPath(inner).suffix.lower() not in AUDIO:
                    beside[str(PurePosixPath(name).with_suffix(""))][PurePosixPath(inner).suffix.lower()] = member
                elif name in sounds:
                    raise InputError(member, f"has the name of {sounds[name]}", "rename one of the two")
                else:
                    sounds[name] = member
        if not sounds:
            raise InputError(self.root, "holds no recording", f"put sounds into its {self.suffix} files")
        placed = places(self.root, list(sounds))
        clips = [self._clip(name, member, placed[name], beside) for name, member in sounds.items()]
        self.remarks += several_captions(self.root, clips)
        splits = {name: place.split for name, place in placed.items() if place.split}
        if not splits:
            return clips, split_by_source(clips)
        return clips, with_validation(self.root, clips, splits, self.remarks)

    def _clip(self, name: str, member: Member, place: Place, beside: Mapping[str, Mapping[str, Member]]) -> Clip:
        stem = str(PurePosixPath(name).with_suffix(""))
        texts = {suffix: _text(file) for suffix, file in beside.get(stem, {}).items() if suffix in (".txt", ".json", ".cls")}
        described = _mapping(texts.get(".json", "{}"), member)
        label = texts.get(".cls", "").strip() or next((str(described[key]) for key in LABELS if key in described), place.label)
        said = next((described[key] for key in TEXTS if described.get(key)), texts.get(".txt", "").splitlines())
        captions = [str(text).strip() for text in ([said] if isinstance(said, str) else said) if str(text).strip()]
        if self.caption is not None and not captions:
            captions = [caption_from(self.caption, words(label or PurePosixPath(name).stem))]
        given = captions if self.captioned else [""]
        return Clip(name, member, given[0], label, stem, where=str(member), others=tuple(given[1:]))


def _text(member: Member) -> str:
    try:
        return member.opener().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(member, f"is not UTF-8 ({error})", "save it as UTF-8") from error


def _mapping(text: str, member: Member) -> dict[str, Any]:
    try:
        found = parse_json(text)
    except ValueError as error:
        raise InputError(member.with_suffix(".json"), f"is no JSON ({error})", "correct it") from error
    return found if isinstance(found, dict) else {}
