"""What can be wrong with a path before anything is read."""

import os
import sys
from pathlib import Path

from audioldm_lit.errors import InputError

MAX_NAME = 255  # bytes that Linux takes


def expanded(path: str | Path) -> Path:
    """A path with `~` as the user's folder; a `~x` of no user is a name like others."""
    return Path(os.path.expanduser(path))


def check_name(name: str, where: str) -> None:
    """Refuse a file name that cannot be written into a table or a message.

    Raises:
        InputError: If it is not UTF-8, this terminal's encoding cannot say it, or it holds a control character.
    """
    if (encoding := sys.getfilesystemencoding()) != "utf-8" and is_utf_8(os.fsencode(name)) and not name.isascii():
        real = [os.fsencode(text).decode("utf-8", "backslashreplace") for text in (where, name)]
        problem = f"this terminal's encoding, {encoding}, has no letters for the name '{real[1]}'"
        raise InputError(real[0], problem, "set PYTHONUTF8=1, or LC_ALL=C.UTF-8")
    where = where if where.isprintable() else ascii(where)
    if any("\ud800" <= letter <= "\udfff" for letter in name):  # how Python marks bytes that are not UTF-8
        raise InputError(where, f"the name {name!a} is not UTF-8", "rename it")
    if any(map(is_mark, name)):
        raise InputError(where, f"the name {name!a} holds a line break or another control character", "rename it")
    if max(len(part.encode()) for part in name.split("/")) > MAX_NAME:
        raise InputError(where, f"the name '{name[:60]}...' is longer than {MAX_NAME} bytes, which no file can have", "correct it")


def is_utf_8(name: bytes) -> bool:
    """Whether the bytes of a name are UTF-8."""
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def is_mark(letter: str) -> bool:
    """Whether it is a control character, or half of one in UTF-16, which is how Python also marks bytes that are not UTF-8."""
    return letter < " " or letter == "\x7f" or "\ud800" <= letter <= "\udfff"


def why_no_file(path: Path, kind: str = "audio file") -> str:
    """What a path is when it is not a file: missing, a broken link, a folder, a pipe ..."""
    try:
        path.stat()
    except FileNotFoundError:
        return "is a link to nothing" if path.is_symlink() else f"no such {kind}"
    except OSError as error:
        return f"no {kind} can be reached there ({error.strerror})"
    return "is a folder" if path.is_dir() else "is no regular file"
