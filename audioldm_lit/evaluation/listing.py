"""The clips in a folder, table or manifest, whatever system made them."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from audioldm_lit.data.clips import Clip
from audioldm_lit.data.files import AUDIO, is_recording, recordings, visible
from audioldm_lit.data.tables.listed import named_span
from audioldm_lit.data.tables.table import read_table
from audioldm_lit.errors import InputError
from audioldm_lit.inference.manifest import UNFINISHED
from audioldm_lit.storage.plain_files import read_json


def list_clips(source: Path) -> list[Clip]:
    """List clips to score, sorted by id.

    Args:
        source: A folder of audio files, with a `manifest.json` (as `generate` and `predict` write it) or a `metadata.csv` (columns
            `file`; optional `id`, `caption`, `label`, and `start` and `end` of a part in seconds) that describes them or without;
            or such a file itself, or the same as JSON lines. Without either, every audio file below the folder is a clip, and its
            class the top sub-folder it lies in.

    Returns:
        The clips. An id is the file's path without suffix, or what the table or manifest says.

    Raises:
        InputError: If there is no clip, an id comes twice, or a file is missing or lies outside of the folder.
    """
    if source.is_dir():
        described = [source / name for name in ("manifest.json", "metadata.csv") if (source / name).is_file()]
        clips = _from_file(described[0]) if described else _from_folder(source)
    elif source.suffix.lower() in (".csv", ".json", ".jsonl") and source.is_file():
        clips = _from_file(source)
    else:
        raise InputError(source, "no such folder, CSV or manifest.json", "give what holds or lists the clips")
    if not clips:
        raise InputError(source, "holds no audio file", "correct the path")
    _check(clips, source)
    _check_inside(clips, source if source.is_dir() else source.parent)
    return sorted(clips, key=lambda clip: clip.id)


def left_out(source: Path, clips: Sequence[Clip]) -> list[tuple[str, str]]:
    """Visible files below a folder that are not clips and describe none: the reason, `not audio` or `unlisted`, and the name."""
    if not source.is_dir():
        return []
    listed = {clip.path for clip in clips}
    others = sorted(path for path in _visible_files(source) if path not in listed)
    return [
        ("unlisted" if is_recording(path) else "not audio", str(path))
        for path in others
        if path.suffix.lower() not in (".csv", ".json", ".txt")
    ]


def _visible_files(folder: Path) -> Iterator[Path]:
    for entry in filter(visible, folder.iterdir()):
        if entry.is_dir():
            yield from _visible_files(entry)
        else:
            yield entry


def _from_folder(folder: Path) -> list[Clip]:
    clips = []
    for path in (path for entry in sorted(folder.iterdir()) if visible(entry) for path in recordings(entry)):
        name = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
        clips.append(Clip(name, path, "", name.partition("/")[0] if "/" in name else ""))
    return clips


def _from_file(path: Path) -> list[Clip]:
    if path.suffix.lower() == ".json":
        return _from_manifest(path)
    folder = path.parent
    return [
        Clip(
            plain_id(row.get("id") or row["file"]),
            folder / row["file"],
            row.get("caption", ""),
            row.get("label", ""),
            span=named_span(row, where),
        )
        for where, row in read_table(path, folder, "file", ())
    ]


def _from_manifest(path: Path) -> list[Clip]:
    try:
        content = read_json(path)
        rows = content["clips"]
        clips = [(str(row["id"]), str(row["file"]), row.get("prompt") or "", row.get("candidate", 0)) for row in rows]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(path, f"is no manifest of generated clips ({error})", "give the folder that `generate` wrote") from error
    if content.get(UNFINISHED):
        raise InputError(path, "is of a generation that was ended early", "run the same `generate` again, which goes on with it")
    several = Counter(clip[0] for clip in clips)
    return [
        Clip(plain_id(name) if several[name] == 1 else f"{plain_id(name)} #{candidate}", path.parent / file, prompt)
        for name, file, prompt, candidate in clips
    ]


def plain_id(name: str) -> str:
    """An id without the suffix of an audio file, in NFC: `door.wav` and `door.flac` pair, and so do copies from other systems."""
    plain = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in AUDIO else name
    return unicodedata.normalize("NFC", plain)


def _check_inside(clips: Sequence[Clip], folder: Path) -> None:
    """Refuse clips outside of the folder: a list or a link that came with it would have files read that it was not given for."""
    top = os.path.realpath(folder)
    for clip in clips:
        if not Path(real := os.path.realpath(clip.path)).is_relative_to(top):
            raise InputError(clip.path, f"leads to {real}, outside {folder}", "copy it into that folder")


def _check(clips: list[Clip], source: Path) -> None:
    repeated, count = Counter(clip.id for clip in clips).most_common(1)[0]
    if count > 1:
        raise InputError(source, f"{count} clips have the id '{repeated}'", "give every clip a name of its own")
    for clip in clips:
        if not clip.path.is_file():
            mend = f"correct {source}, make the clip again, or put the list into the folder that it names files from"
            raise InputError(clip.path, "no such audio file", mend)
