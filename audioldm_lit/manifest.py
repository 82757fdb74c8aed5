"""Generated clips on disk: WAV files and one JSON that says how each was made."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from audioldm_lit import noise
from audioldm_lit.audio import write


@dataclass(frozen=True, order=True)
class Entry:
    """One generated clip.

    Attributes:
        id: What the clip stands for: the prompt's id, or the id of the test clip whose caption was used.
        prompt: Text it was made from.
        seed: Seed.
        candidate: Number of the candidate, 0 for the first.
    """

    id: str
    prompt: str
    seed: int
    candidate: int

    @property
    def file(self) -> str:
        """File name that every system accepts, different for different entries."""
        readable = re.sub(r"[^A-Za-z0-9]+", "_", self.id).strip("_")[:60]
        return f"{readable}-{noise.number(self.id) % 16**6:06x}-s{self.seed}-c{self.candidate}.wav"


def write_entry(folder: Path, entry: Entry, waveform: Tensor, sample_rate: int) -> None:
    """Write the entry's waveform (T,) into the folder."""
    write(folder / entry.file, waveform, sample_rate)


def write_manifest(folder: Path, settings: dict[str, Any], entries: Iterable[Entry]) -> Path:
    """Write `manifest.json`: the settings that all clips share, and one object a clip."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = [{"file": entry.file, **asdict(entry)} for entry in sorted(entries)]
    path = folder / "manifest.json"
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps({**settings, "clips": clips}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
    return path
