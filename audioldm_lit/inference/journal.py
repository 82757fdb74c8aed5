"""A folder of clips that is written as it goes, and gone on with by the same command."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audioldm_lit.errors import InputError
from audioldm_lit.inference.manifest import UNFINISHED, Entry
from audioldm_lit.storage.atomic_write import clear_unfinished, write_json
from audioldm_lit.storage.gather import gather
from audioldm_lit.storage.plain_files import parse_json, read_json

MANIFEST = "manifest.json"
LINES = "manifest.*.jsonl"  # one file a process, a line a clip
Key = tuple[str, int, int]


class Journal:
    """Which clips of a folder are there, and how they were made.

    `manifest.json` says how, from the first moment. Each process then adds a line to a file of its own for every clip that is on
    disk, so that whatever ends it, nothing finished is lost; at the end all lines are brought into `manifest.json`. Clips of other
    prompts, seeds or candidates may be added to a finished folder later, if everything else is as it was.

    All processes make one, and end it with `finish`.

    Args:
        folder: Where the clips are.
        settings: What all clips share, as plain values.
        rank: Number of this process.

    Raises:
        InputError: If the folder holds clips that other settings made, or its manifest cannot be read.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], rank: int = 0) -> None:
        self.folder = folder
        self.settings = json.loads(json.dumps(settings))
        self.rank = rank
        self.rows = self._found()
        gather(None)  # nobody writes before all have read
        if rank == 0:
            clear_unfinished(folder)
            self._write(unfinished=True)
        gather(None)
        self.path = folder / LINES.replace("*", str(rank))

    def __contains__(self, entry: object) -> bool:
        """Whether a clip is there."""
        return isinstance(entry, Entry) and _key(asdict(entry)) in self.rows

    def __len__(self) -> int:
        """How many clips are there."""
        return len(self.rows)

    def add(self, entry: Entry, **more: Any) -> None:
        """Note a clip that is on disk, with what else there is to say of it."""
        row = {"file": entry.file, **asdict(entry), **more}
        self.rows[_key(row)] = row
        try:
            with self.path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        except OSError as error:
            raise InputError(self.path, f"cannot be written ({error})", "make room and run the same command again") from error

    def finish(self) -> None:
        """Bring the lines of all processes into the manifest."""
        for rows in gather(self.rows):
            self.rows |= rows
        if self.rank == 0:
            self._write(unfinished=False)
        gather(None)

    def _found(self) -> dict[Key, dict[str, Any]]:
        """Clips that are there, of the manifest and of lines that a process left when it was ended."""
        path = self.folder / MANIFEST
        if not path.is_file():
            return {}
        try:
            content = read_json(path)
            rows = [*content.pop("clips"), *_lines(sorted(self.folder.glob(LINES)))]
            content.pop(UNFINISHED, None)
            found = {_key(row): row for row in rows if (self.folder / row["file"]).is_file()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(path, f"is no manifest of generated clips ({error})", "give another --out") from error
        _check_same(self.folder, _flat(content), _flat(self.settings))
        return found

    def _write(self, unfinished: bool) -> None:
        clips = [self.rows[key] for key in sorted(self.rows)]
        note = {UNFINISHED: True} if unfinished else {}
        write_json(self.folder / MANIFEST, {**self.settings, **note, "clips": clips})
        for lines in self.folder.glob(LINES):
            lines.unlink()


def _key(row: Mapping[str, Any]) -> Key:
    return row["id"], row["seed"], row["candidate"]


def _lines(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Every whole line; the last of a file may be cut where its process was ended."""
    rows = []
    for line in (line for file in files for line in file.read_text(encoding="utf-8", errors="replace").splitlines()):
        with suppress(ValueError):
            rows.append(parse_json(line))
    return rows


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings by dotted key."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


def _check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in [*now, *(key for key in before if key not in now)]:
        if before.get(key) != now.get(key):
            told = f"holds clips made with {key} {json.dumps(before.get(key))}, now it is {json.dumps(now.get(key))}"
            raise InputError(folder, told, "give another --out, or the settings of before")
