"""What is known about a trial, all of it on disk: any process may die at any time and another goes on.

Whoever runs a trial holds the lock on its folder, and so does the verb that it starts; the operating system lets go of it when the
last of them ends, however it ends. What is not locked, pruned, has no result and no second error is still to be done.
"""

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from audioldm_lit.storage.atomic_write import clear_unfinished, write_json
from audioldm_lit.storage.plain_files import read_record

ATTEMPTS = 2  # a failed run is tried again once
PRUNED = "pruned.json"
STUDY = "study.log"  # of a results folder: what a search remembers


class State(StrEnum):
    """State of a trial."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    PRUNED = "pruned"


class TrialFolder:
    """The folder of one trial.

    Attributes:
        path: Holds `attempt-1/` and so on, with `run.json` and logs, and in the end `result.json`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def claimed(self) -> Iterator[int | None]:
        """Hold the lock: gives its file descriptor, for child processes to hold it too, or None where another process has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        for attempt in self.attempts:
            clear_unfinished(attempt)
        descriptor = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR)
        try:
            yield descriptor if _locked_soon(descriptor) else None
        finally:
            os.close(descriptor)

    @property
    def state(self) -> State:
        """The state that the files show now."""
        # Looked up again after the lock: it may have ended between the two looks.
        return self.settled or (State.RUNNING if self._locked() else self.settled or State.WAITING)

    @property
    def settled(self) -> State | None:
        """Done, failed or pruned; None while there is something left to do."""
        if self.result_file.is_file():
            return State.DONE
        if (self.path / PRUNED).is_file():
            return State.PRUNED
        return State.FAILED if len(self.errors) >= ATTEMPTS else None

    def prune(self, reason: str) -> None:
        """Give it up for good: a search has better ones."""
        write_json(self.path / PRUNED, {"reason": reason})

    def _locked(self) -> bool:
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY)  # another user may look, too
        except FileNotFoundError:
            return False
        try:
            return not _lock(descriptor, shared=True)
        finally:
            os.close(descriptor)

    @property
    def result_file(self) -> Path:
        """Written last and whole: once it exists, the trial is done."""
        return self.path / "result.json"

    @property
    def result(self) -> dict[str, Any]:
        """Result of a trial that is done."""
        return read_record(self.result_file, "remove it, and the trial is tested again")

    @property
    def attempts(self) -> list[Path]:
        """Folders of the attempts, the first first."""
        return sorted(self.path.glob("attempt-*"), key=lambda folder: int(folder.name.partition("-")[2]))

    @property
    def errors(self) -> list[str]:
        """One sentence for every attempt that failed; one that vanished leaves none."""
        files = [folder / "error.txt" for folder in self.attempts]
        return [file.read_text(encoding="utf-8").strip() for file in files if file.is_file()]

    @property
    def why(self) -> str | None:
        """Why it was pruned, or why its last attempt failed."""
        if self.settled == State.PRUNED:
            return str(read_record(self.path / PRUNED, "remove it, and the trial goes on").get("reason"))
        return self.errors[-1] if self.errors else None

    def forgive(self) -> None:
        """Forget its errors, so that it is tried again, from the last checkpoint that there is."""
        for folder in self.attempts:
            (folder / "error.txt").unlink(missing_ok=True)

    @property
    def stage(self) -> str:
        """What the last attempt is at: fit or, after it, test."""
        begun = [verb for folder in self.attempts[-1:] for verb in ("fit", "test") if (folder / f"{verb}.log").is_file()]
        return begun[-1] if begun else ""

    def next_attempt(self) -> Path:
        """Make the folder of another attempt."""
        folder = self.path / f"attempt-{len(self.attempts) + 1}"
        folder.mkdir()
        return folder


def newest(folders: Sequence[Path], name: str) -> Path | None:
    """The file of a name below the last of some attempts that has one, and there in the run of the highest number.

    Times are not asked: a clock may have been set back.
    """
    return next((max(found, key=_number) for folder in reversed(folders) if (found := list(folder.rglob(name)))), None)


def _number(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"version_(\d+)", str(path))]


def _locked_soon(descriptor: int) -> bool:
    """Whether the lock could be had; somebody may be looking at it at this moment, whereas a run holds it longer."""
    for _ in range(5):
        if _lock(descriptor):
            return True
        time.sleep(0.2)
    return False


def _lock(descriptor: int, shared: bool = False) -> bool:
    """Whether the lock could be had. To look, a shared one is enough: two that look do not take each other for a run."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True
