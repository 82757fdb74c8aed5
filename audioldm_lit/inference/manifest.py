"""Generated clips on disk: WAV files and one JSON that says how each was made."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audioldm_lit import seeding
from audioldm_lit.storage.atomic_write import write_json

UNFINISHED = "unfinished"  # key of a manifest whose clips are still being generated
LONGEST = 180  # bytes of a prompt in a file name; systems take 255, of which seed, candidate and a suffix need some


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
    """A prompt or id as the start of a file name that every system accepts, different for different texts.

    Letters and digits of every script are kept, in NFC and lower case, up to 60 of them and `LONGEST` bytes; then comes a hash.
    """
    plain = "".join(letter if unicodedata.category(letter)[0] in "LMN" else "_" for letter in unicodedata.normalize("NFC", text))
    plain = unicodedata.normalize("NFC", re.sub("_+", "_", plain).strip("_").lower())[:60]
    readable = plain.encode()[:LONGEST].decode(errors="ignore").strip("_")
    return "-".join(filter(None, (readable, f"{seeding.number(text) % 16**6:06x}")))


def write_manifest(folder: Path, settings: dict[str, Any], entries: Iterable[Entry]) -> Path:
    """Write `manifest.json`: the settings that all clips share, and one object a clip."""
    clips = [{"file": entry.file, **asdict(entry)} for entry in sorted(entries)]
    path = folder / "manifest.json"
    write_json(path, {**settings, "clips": clips})
    return path
