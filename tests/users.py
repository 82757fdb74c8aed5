"""Another user of this machine, for tests that root runs: whoever may write everything finds no place that may not be written."""

import codecs
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

NOBODY = 65_534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def begin(function: Callable[[], Any], folder: Path, umask: int = 0o022) -> int:
    """Call a function in a fork that is nobody, in a folder of its own; what it writes to the terminal goes to `log` there."""
    folder.mkdir(exist_ok=True)
    os.chown(folder, NOBODY, NOBODY)
    child = os.fork()
    if child == 0:
        _call(function, folder, umask)
    return child


def end(child: int, folder: Path) -> tuple[int, str]:
    """Exit status of a fork, and what it said."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), (folder / "log").read_text(errors="replace")


def _call(function: Callable[[], Any], folder: Path, umask: int) -> NoReturn:
    status = 1
    for codec in ("cp437", "unicode-escape", "idna"):  # Python itself may lie where this user may not read
        codecs.lookup(codec)
    try:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os.umask(umask)
        os.chdir(folder)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        written = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for stream in (1, 2):
            os.dup2(written, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))  # pytest has its own
        function()
        status = 0
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
