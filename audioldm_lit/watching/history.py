"""The history of checks: one JSON line a check, which is there whole or not at all."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from audioldm_lit.errors import InputError
from audioldm_lit.storage.typed_json import parse_json_as
from audioldm_lit.watching.contest import Contest
from audioldm_lit.watching.drift import Drift


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        time: When, ISO 8601 in UTC.
        run: Folder of the champion.
        data: Where the new recordings lie.
        drift: What is new in them.
        challenger: Folder of the challenger, where there was one.
        contest: How it did.
    """

    time: str
    run: str
    data: str
    drift: Drift
    challenger: str | None = None
    contest: Contest | None = None

    @property
    def promoted(self) -> bool:
        """Whether the challenger takes the champion's place."""
        return self.contest is not None and self.contest.promoted

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "found": self.drift.found, "promoted": self.promoted}


def append(path: Path, check: Check) -> None:
    """Add a line: one write at the end of the file, so that checks that end together lose nothing.

    A line that an earlier crash left without its end stays a line of its own.

    Raises:
        InputError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"), path.open("ab+") as file:
            file.seek(max(0, file.tell() - 1))
            broken = file.read(1) not in (b"", b"\n")
            line = json.dumps(check.as_dict(), ensure_ascii=False)
            file.write(f"{chr(10) if broken else ''}{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(path, f"cannot be written ({error})", "choose another folder with --out") from error


def read(path: Path) -> tuple[list[Check], list[InputError]]:
    """All checks, the oldest first, and what is wrong with lines that are none.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise InputError(path, f"cannot be read ({error})", "choose another folder with --out") from error
    checks: list[Check] = []
    errors: list[InputError] = []
    for number, line in enumerate(lines, 1):
        try:
            checks.append(parse_json_as(Check, line))
        except ValueError as error:
            errors.append(InputError(f"{path}, line {number}", f"is no check ({error})", "remove the line"))
    return checks, errors
