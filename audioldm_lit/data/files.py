"""Audio files below a folder."""

from collections.abc import Iterator
from pathlib import Path

from audioldm_lit.data.table import check_name
from audioldm_lit.errors import InputError

AUDIO = {".wav", ".flac", ".ogg", ".oga", ".mp3", ".aiff", ".aif", ".opus", ".au", ".caf", ".w64"}
UNREADABLE = {".m4a", ".aac", ".mp4", ".wma", ".webm", ".amr", ".ac3"}  # recordings all the same: refused, not passed over


def visible(path: Path) -> bool:
    """Whether an entry of a folder is meant for people."""
    return not path.name.startswith(".") and path.name != "__MACOSX"


def recordings(entry: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Audio files at or below an entry of a folder, in the order of their names.

    Args:
        entry: File or folder.
        above: Real paths of the folders it was reached through.

    Raises:
        InputError: If a recording is of a kind that cannot be read, its name cannot be written, or a link leads back to a folder
            that it lies in.
    """
    if entry.is_dir():
        real = entry.resolve()
        if real in above:
            raise InputError(f"{entry}: links back to {real}, in which it lies; remove the link.")
        for inner in sorted(entry.iterdir()):
            if visible(inner):
                yield from recordings(inner, (*above, real))
    elif entry.suffix.lower() in UNREADABLE:
        raise InputError(f"{entry}: {entry.suffix} files cannot be read; convert it to WAV or FLAC, or remove it.")
    elif entry.suffix.lower() in AUDIO:
        check_name(entry.name, str(entry))
        yield entry


def by_stem(folder: Path) -> dict[str, Path]:
    """Audio files below a folder by their names without suffix, wherever they lie.

    Raises:
        InputError: If the folder is missing, or two files have one name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; correct data.init_args.root.")
    found: dict[str, Path] = {}
    for path in recordings(folder):
        other = found.setdefault(path.stem, path)
        if other != path:
            raise InputError(f"{path}: has the name of {other}; keep one of the two.")
    return found
