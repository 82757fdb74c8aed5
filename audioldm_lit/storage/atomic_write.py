"""Writing a file or folder that appears whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from platform import node
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

from audioldm_lit.errors import InputError

MACHINE = f"{crc32(node().encode()):08x}"[:4]  # processes of several may write on one disk, and only a machine knows its own
UMASK = os.umask(0o077)  # which can only be read by setting it, so before there are threads
os.umask(UMASK)
STREAMS = {Path("/dev/stdout"): 1, Path("/dev/stderr"): 2}  # open already: opened again, a file behind them would be cut to nothing


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `path` when the block ends.

    The file or folder appears whole or not at all, whichever processes write it, and its folder is made. A pipe or another
    device is never replaced: it is sent the whole content when the block ends.

    Raises:
        InputError: If it cannot be written.
    """
    try:
        with _sent(path) if _is_device(path) else _replaced(path) as unfinished:
            yield unfinished
    except OSError as error:
        raise InputError(path, f"cannot be written ({error})", "choose another folder or make room") from error


def unfinished_name(path: Path) -> Path:
    """What a file or folder is called while this process writes it."""
    return path.with_name(f"{path.name}.{MACHINE}-{os.getpid()}.part")


def clear_unfinished(folder: Path) -> None:
    """Remove what processes of this machine were writing into a folder when they were killed."""
    for path in folder.glob("*.part"):
        machine, _, process = path.stem.rpartition(".")[2].partition("-")
        if machine == MACHINE and process.isdecimal() and not _runs(int(process)):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)  # another process may be clearing as well
            else:
                with suppress(OSError):  # what another user left is no harm
                    path.unlink()


@cache
def _clear_once(folder: Path) -> None:
    """The first file that a process writes into a folder takes away what was left there."""
    clear_unfinished(folder)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # of another user
        return True
    return True


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    unfinished = unfinished_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_once(path.parent.absolute())
    try:
        yield unfinished
        let_read(unfinished)
        os.replace(unfinished, path)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        unfinished.unlink(missing_ok=True)


def let_read(written: Path) -> None:
    """Let others read a file, or all of a folder, as this process's files can be: safetensors writes for its own user alone."""
    for path in [written, *written.rglob("*")]:
        if path.is_file() and not path.is_symlink() and not path.stat().st_mode & 0o077:
            path.chmod(0o666 & ~UMASK)


@contextmanager
def _sent(path: Path) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        unfinished = Path(folder) / path.name
        yield unfinished
        with open(STREAMS.get(path, path), "wb", closefd=path not in STREAMS) as device:
            device.write(unfinished.read_bytes())


def _is_device(path: Path) -> bool:
    """Whether there is something that is neither file nor folder; what stands behind a stream may be a file."""
    return path in STREAMS or (path.exists() and not path.is_file() and not path.is_dir())


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON that people can read."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
