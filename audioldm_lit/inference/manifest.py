"""Generated clips on disk: WAV files and one JSON that says how each was made."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audioldm_lit import seeding
from audioldm_lit.storage.atomic_write import write_json


@dataclass(frozen=True, order=True)
class Entry:
    """One generated clip.

    Attributes:
        id: What the clip was made for: the prompt's id, or the id of the test clip whose caption was used.
        prompt: Text it was made from.
        seed: Seed.
        candidate: Number of the candidate, 0 for the first.
    """

    id: str
    prompt: str
    seed: int
    candidate: int

    @property
    def key(self) -> tuple[object, ...]:
        """What its noise belongs to."""
        return "sample", self.seed, self.id, self.candidate

    @property
    def file(self) -> str:
        """File name that every system accepts, different for different entries."""
        return f"{file_stem(self.id)}-s{self.seed}-c{self.candidate}.wav"


def file_stem(text: str) -> str:
    """A prompt or id as the start of a file name that every system accepts, different for different texts."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()[:60]
    return f"{readable}-{seeding.number(text) % 16**6:06x}"


def write_manifest(folder: Path, settings: dict[str, Any], entries: Iterable[Entry]) -> Path:
    """Write `manifest.json`: the settings that all clips share, and one object a clip."""
    clips = [{"file": entry.file, **asdict(entry)} for entry in sorted(entries)]
    path = folder / "manifest.json"
    write_json(path, {**settings, "clips": clips})
    return path
