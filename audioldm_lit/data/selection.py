"""Which clips train, validate and test where no list says so, and which of them a few-shot run trains on."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from audioldm_lit import seeding
from audioldm_lit.data.clips import Clip, Split
from audioldm_lit.data.remark import Remark
from audioldm_lit.errors import InputError


def few_shot(clips: Sequence[Clip], seed: int, shots: int | None = None, num_train_clips: int | None = None) -> list[Clip]:
    """Choose training clips.

    The clips of every class are put in one order and the first are taken, so 5 shots contain the 2 shots of the same seed. The
    order goes round the sources, by a hash of (seed, id) within each, so that two takes of one recording are only chosen where
    no other recording is left; it does not depend on the order of `clips`.

    Args:
        clips: All training clips.
        seed: Seed of the order.
        shots: Clips of every class.
        num_train_clips: Clips in all, taken from the classes in turn.

    Returns:
        The chosen ones, in the order of `clips`.

    Raises:
        InputError: If there are fewer.
    """
    by_label: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_label[clip.label].append(clip)
    ranks = {clip.id: rank for members in by_label.values() for rank, clip in enumerate(_in_order(members, seed))}
    if shots is not None:
        for label, members in by_label.items():
            if len(members) < shots:
                name = f"class '{label}'" if label else "the data set"
                problem = f"is {shots}, but {name} has {len(members)} training clips"
                raise InputError("data.init_args.shots", problem, "lower it or add clips")
        clips = [clip for clip in clips if ranks[clip.id] < shots]
    if num_train_clips is None:
        return list(clips)
    if len(clips) < num_train_clips:
        problem = f"is {num_train_clips}, but there are {len(clips)} training clips"
        raise InputError("data.init_args.num_train_clips", problem, "lower it or add clips")
    in_turn = sorted(clips, key=lambda clip: (ranks[clip.id], seeding.number(seed, "class", clip.label)))
    chosen = {clip.id for clip in in_turn[:num_train_clips]}
    return [clip for clip in clips if clip.id in chosen]


def _in_order(clips: Sequence[Clip], seed: int) -> list[Clip]:
    """Clips of one class: first one of every source, then a second of every source that has two, and so on."""
    seen: Counter[str] = Counter()
    places = []
    for clip in sorted(clips, key=lambda clip: _drawn(clip.id, seed, "shots")):
        places.append((seen[clip.source], clip))
        seen[clip.source] += 1
    return [clip for _, clip in sorted(places, key=lambda place: place[0])]  # a stable sort keeps the hash's order


def split_by_source(clips: Sequence[Clip]) -> dict[str, Split]:
    """Give every clip a split, whole sources at a time; every class trains, validates with two sources and tests with three."""
    sources: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        sources[clip.label].add(clip.source)
    splits: dict[str, Split] = {}
    # A source that several classes share is placed once. The class with fewest sources chooses first, it has least to spare.
    for label, members in sorted(sources.items(), key=lambda item: (len(item[1]), item[0])):
        held_out = max(1, round(len(members) / 5))
        quota: dict[Split, int] = {"train": 1, "val": held_out * (len(members) >= 2), "test": held_out * (len(members) >= 3)}
        placed = Counter(splits[source] for source in members if source in splits)
        unplaced = [source for source in members if source not in splits]
        for source in sorted(unplaced, key=lambda source: _drawn(source, "split")):
            splits[source] = next((split for split in quota if placed[split] < quota[split]), "train")
            placed[splits[source]] += 1
        if not placed["train"]:
            raise InputError(
                f"class '{label}'",
                "all its sources are held out with other classes that share them",
                "add clips of its own, or write a metadata.csv with a split column",
            )
    return {clip.id: splits[clip.source] for clip in clips}


def _drawn(name: str, *key: object) -> tuple[int, str]:
    """A name's place in an order by chance, the same where a system writes its accents another way (NFC, NFD)."""
    return seeding.number(*key, unicodedata.normalize("NFC", name)), name


def with_validation(root: Path, clips: Sequence[Clip], splits: Mapping[str, Split], remarks: list[Remark]) -> dict[str, Split]:
    """Splits that a data set names, with a part of what trains for validation where it names none; `remarks` then says so."""
    if "val" in splits.values():
        return dict(splits)
    parts = split_by_source([clip for clip in clips if splits[clip.id] == "train"])
    held_out = [name for name, split in parts.items() if split == "val"]
    problem = f"has no folder or table for validation, so {len(held_out)} of the {len(parts)} clips that train are taken"
    remarks.append(Remark("validation", str(root), problem, "nothing, or name a folder val"))
    return {**splits, **dict.fromkeys(held_out, "val")}
