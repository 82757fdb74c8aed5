"""Writing a file or folder that appears whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audioldm_lit.errors import InputError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `path` when the block ends.

    The file or folder appears whole or not at all, whichever processes write it, and its folder is made.

    Raises:
        InputError: If it cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield unfinished
            os.replace(unfinished, path)
        finally:
            if unfinished.is_dir():
                shutil.rmtree(unfinished)
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(path, f"cannot be written ({error})", "choose another folder or make room") from error


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON that people can read."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
