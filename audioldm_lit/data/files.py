"""Audio files below a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from audioldm_lit.errors import InputError
from audioldm_lit.storage.names import check_name

AUDIO = {".wav", ".flac", ".ogg", ".oga", ".mp3", ".aiff", ".aif", ".opus", ".au", ".caf", ".w64"}
DEEPEST = 100  # folders in each other
UNREADABLE = {".m4a", ".aac", ".mp4", ".wma", ".webm", ".amr", ".ac3"}  # recordings all the same: refused, not passed over


def visible(path: Path) -> bool:
    """Whether an entry of a folder is visible, neither hidden nor a system's own file."""
    return not path.name.startswith(".") and path.name != "__MACOSX"


def recordings(entry: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Audio files at or below an entry of a folder, in the order of their names.

    Args:
        entry: File or folder.
        above: Real paths of the folders it was reached through.

    Raises:
        InputError: If a recording is of a kind that cannot be read, a name cannot be written, a folder cannot be listed, or a link
            leads to nothing or back to a folder that it lies in.
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
    elif entry.suffix.lower() in UNREADABLE:
        raise InputError(entry, f"{entry.suffix} files cannot be read", "convert it to WAV or FLAC, or remove it")
    elif entry.suffix.lower() in AUDIO:
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


def files_below(folder: Path) -> list[Path]:
    """Visible files anywhere below a folder, in the order of their names; what cannot be listed or loops has none."""
    found: list[Path] = []
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = [] if real in seen else sorted(name for name in folders if visible(Path(name)))
        if real not in seen:
            found += [path for name in names if visible(path := Path(here, name))]
        seen.add(real)
    return sorted(found)
