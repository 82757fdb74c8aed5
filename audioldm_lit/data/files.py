"""Audio files below a folder."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from audioldm_lit.errors import InputError
from audioldm_lit.storage.names import check_name

AUDIO = {  # what libsndfile or FFmpeg decodes, the sound of videos too
    ".3g2", ".3gp", ".aac", ".ac3", ".adts", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi", ".awb", ".caf",
    ".dff", ".dsf", ".dts", ".eac3", ".f4v", ".flac", ".flv", ".gsm", ".m2ts", ".m4a", ".m4b", ".m4r", ".m4v", ".mka", ".mkv",
    ".mov", ".mp2", ".mp3", ".mp4", ".mpc", ".mpeg", ".mpg", ".mts", ".oga", ".ogg", ".ogv", ".opus", ".ra", ".rf64", ".rm", ".snd",
    ".spx", ".tak", ".tta", ".voc", ".vob", ".w64", ".wav", ".wave", ".webm", ".wma", ".wmv", ".wv",
}  # fmt: skip
OTHER = {  # never sound, so never looked into
    ".caption", ".csv", ".doc", ".docx", ".gif", ".htm", ".html", ".ini", ".jpeg", ".jpg", ".json", ".jsonl", ".lab", ".log", ".md",
    ".ods", ".parquet", ".pdf", ".png", ".py", ".srt", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml", ".zip",
}  # fmt: skip
SOUND = re.compile(  # how files begin that hold sound, or a video
    rb"(RIF[FX]|RF64)....(WAVE|AVI )|riff\x2e\x91|FORM....AIF[FC]|fLaC|OggS|ID3|\xff[\xf2\xf3\xfa\xfb\xf0\xf1\xf8\xf9]|\.snd|caff"
    rb"|....ftyp(?!hei|avif|mif1|msf1|crx)|\x1a\x45\xdf\xa3|\x30\x26\xb2\x75\x8e\x66\xcf\x11|#!AMR|wvpk|TTA[12]|MAC |MPCK|MP\+"
    rb"|\x0b\x77|FLV\x01|\.RMF|tBaK|DSD |\0\0\x01\xba|G.{187}G.{187}G",
    re.DOTALL,
)
DEEPEST = 100  # folders in each other


def visible(path: Path) -> bool:
    """Whether an entry of a folder is visible, neither hidden nor a system's own file."""
    return not path.name.startswith(".") and path.name != "__MACOSX"


def is_recording(path: Path) -> bool:
    """Whether a file is taken for a recording: by the end of its name, or where that says nothing by how it begins."""
    suffix = path.suffix.lower()
    if suffix in AUDIO or suffix in OTHER or not os.path.isfile(path):
        return suffix in AUDIO
    try:
        with path.open("rb") as file:
            return SOUND.match(file.read(512)) is not None
    except OSError:
        return False


def recordings(entry: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Audio files at or below an entry of a folder, in the order of their names.

    Args:
        entry: File or folder.
        above: Real paths of the folders it was reached through.

    Raises:
        InputError: If a name cannot be written, a folder cannot be listed, or a link leads to nothing or back to a folder that it
            lies in.
    """
    if os.path.isdir(entry):
        check_name(entry.name, str(entry))
        real = entry.resolve()
        if real in above:
            raise InputError(entry, f"links back to {real}, in which it lies", "remove the link")
        if len(above) == DEEPEST:
            raise InputError(entry, f"lies {DEEPEST} folders deep", "move its recordings up")
        for inner in entries(entry):
            yield from recordings(inner, (*above, real))
    elif is_recording(entry):
        check_name(entry.name, str(entry))
        yield entry
    elif os.path.islink(entry) and not os.path.exists(entry):  # a class or a caption that would be missing without a word
        raise InputError(entry, "is a link to nothing", "remove it or put back what it points to")


def entries(folder: Path) -> list[Path]:
    """The visible entries of a folder, in the order of their names.

    Raises:
        InputError: If it cannot be listed.
    """
    try:
        return sorted(filter(visible, folder.iterdir()))
    except OSError as error:
        raise InputError(folder, f"cannot be listed ({error.strerror})", "see to its permissions") from error


def check_root(folder: Path) -> None:
    """Refuse a root that is no folder."""
    if not os.path.isdir(folder):
        raise InputError(folder, "no such folder", "correct data.init_args.root")


def by_stem(folder: Path) -> dict[str, Path]:
    """Audio files below a folder by their names without suffix, wherever they lie.

    Raises:
        InputError: If the folder is missing, or two files have the same name.
    """
    check_root(folder)
    found: dict[str, Path] = {}
    for path in recordings(folder):
        other = found.setdefault(path.stem, path)
        if other != path:
            raise InputError(path, f"has the name of {other}", "keep one of the two")
    return found


def files_below(folder: Path, follow_links: bool = True) -> list[Path]:
    """Visible files anywhere below a folder, in the order of their names.

    A folder that links reach again, or that holds this one, is looked into once or not at all; one that cannot be listed has none.

    Raises:
        InputError: If a folder is reached by a link that leads out, unless `follow_links`.
    """
    found: list[Path] = []
    seen = set(map(str, Path(os.path.realpath(folder)).parents))
    for here, folders, names in os.walk(folder, followlinks=True):
        if not follow_links:
            check_links(folder, [Path(here)])
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if visible(Path(name)))
        found += [path for name in names if visible(path := Path(here, name))]
    return sorted(found)


def links_out(folder: Path, paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Those of the paths that lead out of a folder by a link, and where to."""
    top, parents = os.path.realpath(folder), dict[Path, str]()
    for path in paths:
        if path.parent not in parents:
            parents[path.parent] = os.path.realpath(path.parent)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(parents[path.parent], path.name)
        if not Path(real).is_relative_to(top) and Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder)):
            yield path, real


def check_links(folder: Path, paths: Iterable[Path]) -> None:
    """Refuse links that lead out of a folder.

    Raises:
        InputError: If one does; it names where to.
    """
    for path, real in links_out(folder, paths):
        problem, mend = leads_out(folder, real)
        raise InputError(path, problem, mend)


def leads_out(folder: Path, real: str) -> tuple[str, str]:
    """What is wrong with a link to `real` out of a folder, and how to mend it."""
    problem = f"leads by a link to {real}, outside {folder}"
    return problem, "copy it into that folder, or set data.init_args.follow_links to true"
