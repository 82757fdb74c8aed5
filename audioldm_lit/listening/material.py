"""What a listening test is made of: the clips of every system that were made for the same captions, and the recordings."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from audioldm_lit import seeding
from audioldm_lit.data.clips import Clip
from audioldm_lit.data.selection import few_shot
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.listing import list_clips, plain_id
from audioldm_lit.listening.blind_test import ANCHOR, REFERENCE

SET = 4  # sounds that are judged together, at most
RESERVED = {REFERENCE, ANCHOR, "check"}


@dataclass(frozen=True, eq=False)
class Material:
    """Clips to listen to.

    Attributes:
        systems: By system and id of the clip, every candidate.
        recordings: By id, all that are known; empty where none are.
        chosen: Ids that are heard, the same of every system.
        practice: Id for practice, which is none of them where there are more.
        seed: Of what is drawn.
    """

    systems: Mapping[str, Mapping[str, Sequence[Clip]]]
    recordings: Mapping[str, Clip]
    chosen: Sequence[str]
    practice: str
    seed: int

    def clip(self, system: str, name: str) -> Clip:
        """The clip of a system that was made for an id, the first candidate; or the recording."""
        return self.recordings[name] if system == REFERENCE else self.systems[system][name][0]

    def caption(self, name: str) -> str:
        """What was asked for."""
        told = [self.systems[system][name][0].caption for system in self.systems]
        return next(
            (caption for caption in [*told, *([self.recordings[name].caption] if self.recordings else [])] if caption), name
        )

    def label(self, name: str) -> str:
        """Its class, or its caption where it has none."""
        known = self.recordings.get(name) or next(iter(self.systems.values()))[name][0]
        return known.label or self.caption(name)

    @cached_property
    def sets(self) -> dict[str, list[tuple[str, int]]]:
        """By class, at least two and at most four sounds that every system has: id and number of the candidate."""
        found: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for name in self.chosen:
            candidates = min(len(clips[name]) for clips in self.systems.values())
            found[self.label(name)] += [(name, number) for number in range(candidates)]
        return {label: self._spread(sounds) for label, sounds in found.items() if len(sounds) > 1}

    def _spread(self, sounds: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Other clips before other candidates."""
        return sorted(sounds, key=lambda sound: (sound[1], seeding.number(self.seed, "set", *sound)))[:SET]


def read_material(systems: Mapping[str, Path], recordings: Sequence[Clip], num_clips: int, seed: int) -> Material:
    """Choose what is heard.

    Args:
        systems: Folder or list of the clips of every system, by the name it is given in tables.
        recordings: Recordings of the same ids; none where they are not known.
        num_clips: How many ids, the classes in turn; all where there are fewer.
        seed: Of the choice.

    Raises:
        InputError: If systems share no clip, or a name is taken.
    """
    for name in systems:
        if name in RESERVED:
            raise InputError(f"system '{name}'", "is what a test calls a part of its own", "rename its folder")
    clips = {name: _candidates(list_clips(folder)) for name, folder in systems.items()}
    known = {plain_id(clip.id): clip for clip in recordings}
    sides: dict[str, Collection[str]] = {**clips, **({"the recordings": known} if known else {})}
    shared = _shared(sides)
    whole = Material(clips, known, sorted(shared), "", seed)
    stand_ins = [replace(whole.clip(next(iter(clips)), name), id=name, label=whole.label(name)) for name in whole.chosen]
    chosen = [clip.id for clip in few_shot(stand_ins, seed, num_train_clips=min(num_clips, len(shared)))]
    spare = sorted(shared - set(chosen), key=lambda name: seeding.number(seed, "practice", name))
    return Material(clips, known, chosen, (spare or chosen)[0], seed)


def _shared(sides: Mapping[str, Collection[str]]) -> set[str]:
    """Ids that all sides have; refused where there is none."""
    (first, names), *others = sides.items()
    shared = set(names)
    for side, found in others:
        if not shared.intersection(found):
            problem = f"have no clip of the same id, one is called '{min(shared)}' and another '{min(found)}'"
            raise InputError(f"{first} and {side}", problem, "give clips that were made for the same captions")
        shared &= set(found)
    return shared


def _candidates(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Clips by what they were made for, the candidates of each in order."""
    found: dict[str, list[tuple[int, Clip]]] = defaultdict(list)
    for clip, name, number in _named(clips):
        found[name].append((number, clip))
    return {name: [clip for _, clip in sorted(several, key=lambda one: one[0])] for name, several in found.items()}


def _named(clips: Sequence[Clip]) -> Iterator[tuple[Clip, str, int]]:
    for clip in clips:
        name, mark, number = clip.id.rpartition(" #")  # as `list_clips` tells candidates apart
        yield (clip, name, int(number)) if mark and number.isdecimal() else (clip, clip.id, 0)
