"""What a data set's list of clips must be, whoever wrote the class that makes it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audioldm_lit.data.clips import Clip, Part, Split
from audioldm_lit.errors import InputError

FIELDS: Mapping[str, type] = {"id": str, "path": Path, "caption": str, "label": str, "source": str}


def check_clips(listed: Any, data: object, split: Split) -> None:
    """Refuse what `clips` of a data set must not return: anything but a list of clips, whose fields are of their types.

    Raises:
        InputError: Names the class, and what it returns.
    """
    where = f"{type(data).__name__}.clips"
    if not isinstance(listed, Sequence):
        raise InputError(where, f"returns a {type(listed).__name__} for the {split} split", "return a list of Clip")
    for clip in listed:
        if not isinstance(clip, Clip):
            raise InputError(where, f"lists a {type(clip).__name__} in the {split} split", "list Clip(id, path, caption, label)")
        for name, kind in FIELDS.items():
            if not isinstance(value := getattr(clip, name), kind):
                problem = f"lists a clip whose {name} is {value!r}, no {kind.__name__}"
                raise InputError(where, problem, "give '' where there is none" if kind is str else "give a pathlib.Path")


def check_ids_and_captions(clips: Sequence[Clip], split: Split, captioned: bool) -> None:
    """Refuse repeated ids, and empty captions where there should be any."""
    seen: set[str] = set()
    for clip in clips:
        if clip.id in seen:
            raise InputError(clip.where, f"clip id '{clip.id}' comes twice in the {split} split", "give every clip one entry")
        seen.add(clip.id)
        words = [any(map(str.isalnum, caption)) for caption in (clip.caption, *clip.others)]
        if captioned and not all(words):  # neither spaces nor marks that cannot be seen are words
            raise InputError(clip.where, f"the caption of '{clip.id}' is empty", "write one")


def check_apart(splits: Mapping[Split, Mapping[Part, Clip]]) -> None:
    """Refuse a recording, or a part of one, in two splits: what is held out would have been trained on, or chosen by."""
    seen: dict[Part, Split] = {}
    for split, parts in splits.items():
        for part, clip in parts.items():
            if (other := seen.setdefault(part, split)) != split:
                problem = f"is in the {other} and in the {split} split, so what is held out would have been trained on or chosen by"
                raise clip.error(problem, "list every clip in one split")
