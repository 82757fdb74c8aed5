"""What a run's own list says of its data; the whole check-up is `prepare`'s."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Health:
    """Of training and validation clips.

    Attributes:
        counts: Clips by split.
        captions: Different captions by split.
        repeated: Training clips whose audio is that of another training clip.
        leaks: Pairs of a training and a validation clip of the same audio.
    """

    counts: Mapping[str, int]
    captions: Mapping[str, int]
    repeated: list[str]
    leaks: list[tuple[str, str]]


def health(clips: Mapping[str, Any]) -> Health:
    """Look at the content of `clips.json`."""
    listed = {split: content["clips"] for split, content in clips.items()}
    trained: dict[str, list[str]] = defaultdict(list)
    for name, clip in listed.get("train", {}).items():
        trained[clip["audio_sha256"]].append(name)
    held_out = [(name, clip["audio_sha256"]) for split, rows in listed.items() if split != "train" for name, clip in rows.items()]
    return Health(
        {split: len(rows) for split, rows in listed.items()},
        {split: len({clip["caption"] for clip in rows.values()}) for split, rows in listed.items()},
        [name for names in trained.values() for name in names[1:]],
        [(trained[digest][0], name) for name, digest in held_out if digest in trained],
    )
