"""What is wrong with a data set as a whole: leaks, duplicates, balance, spread, captions."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import median

from networkx import Graph, connected_components

from audioldm_lit.data.clips import FoundClips, Split
from audioldm_lit.health.captions import caption_problems
from audioldm_lit.health.duplicates import DuplicatePairs
from audioldm_lit.health.findings import Examined, Finding, Severity

HELD_OUT: dict[Split, int] = {"train": 0, "val": 1, "test": 2}  # of two copies the one that is held out most stays
FAR_DB = 20.0  # from the median level
TIMES = 10.0  # the median duration; the clips of the smallest class
CAPTIONS: dict[str, Severity] = {"empty": "error", "repeated": "note"}  # all others are warnings


def collection_findings(
    items: Sequence[Examined],
    copies: DuplicatePairs,
    coverage: Mapping[Split, FoundClips],
    duration: float,
    dropped: Iterable[str] = (),
    unheard: Callable[[str], str] = lambda text: "",
) -> list[Finding]:
    """Find what is wrong with all clips together.

    Args:
        items: Every clip of every split, no two with one id.
        copies: Near duplicates by their places in `items`.
        coverage: How much of each split is there.
        duration: Seconds of a training clip.
        dropped: Ids that a cleaned manifest leaves out already.
        unheard: The end of a text that the model does not read.
    """
    read = [item for item in items if item.measurement is not None]
    findings = [
        *_incomplete(coverage),
        *_shared_sources(items),
        *_alike(items, copies),
        *_unbalanced(items),
        *_outliers(read),
        *_fitted(read, duration),
        *_formats(read),
        *_captions(items, unheard),
    ]
    dropped = {*dropped, *(name for finding in findings for name in finding.drop)}
    return findings + list(_same_sound(read, dropped))  # last, so that of copies one is kept which may stay


def empty_splits(items: Sequence[Examined], dropped: set[str]) -> Iterator[Finding]:
    """Splits that have no clip, or none that a cleaned manifest keeps."""
    kept = {item.split for item in items if item.clip.id not in dropped}
    for split in HELD_OUT:
        if split not in kept:
            why = "has no clip that may stay" if any(item.split == split for item in items) else "has no clip"
            mend = "add clips of sources of their own, or a table with a split column"
            yield Finding("empty split", "warning" if split == "test" else "error", f"{split} split", why, mend)


def _incomplete(coverage: Mapping[Split, FoundClips]) -> Iterator[Finding]:
    for split, found in coverage.items():
        if found.share < 1:
            yield Finding(
                "missing audio", "warning", f"{split} split", f"has the audio of {found}",
                "fetch the rest, or compare only with runs of the same coverage",
            )  # fmt: skip


def _shared_sources(items: Sequence[Examined]) -> Iterator[Finding]:
    """Takes of one recording on both sides of a split: the model would be tested on what it has nearly heard."""
    by_source: dict[str, list[Examined]] = defaultdict(list)
    for item in items:
        by_source[item.clip.source].append(item)
    for source, members in by_source.items():
        splits = sorted({item.split for item in members}, key=HELD_OUT.__getitem__)
        if len(splits) > 1:
            problem = f"source '{source}' is in {' and '.join(splits)}"
            yield _leak(members, problem, "keep the takes of one recording in one split")


def _same_sound(read: Sequence[Examined], dropped: set[str]) -> Iterator[Finding]:
    """Files that decode to the same samples."""
    by_digest: dict[str, dict[str, list[Examined]]] = defaultdict(lambda: defaultdict(list))
    for item in (item for item in read if item.measured.silent_share < 1):
        by_digest[item.measured.digest][str(item.clip.part)].append(item)
    for files in by_digest.values():
        members = [item for items in files.values() for item in items]
        if len(files) == 1 and len({(item.split, item.clip.label) for item in members}) == 1:
            continue  # several captions of one file are no copies
        names = " and ".join(sorted({item.clip.id for item in members}))
        if len({item.clip.label for item in members}) > 1:
            labels = ", ".join(sorted({item.clip.label for item in members}))
            drop = tuple(item.clip.id for item in members)
            yield Finding(
                "contradiction", "error", members[0].clip.where, f"{names} are the same sound, called {labels}",
                "find out which it is", drop, drop=drop,
            )  # fmt: skip
        elif len({item.split for item in members}) > 1:
            yield _leak(members, f"{names} are the same sound", "keep one of them")
        else:
            stay = min(files, key=lambda path: (all(item.clip.id in dropped for item in files[path]), path))
            drop = tuple(item.clip.id for path, items in files.items() if path != stay for item in items)
            yield Finding(
                "exact copy", "warning", members[0].clip.where, f"{names} are the same sound", "keep one of them",
                tuple(item.clip.id for item in members), drop=drop,
            )  # fmt: skip


def _alike(items: Sequence[Examined], copies: DuplicatePairs) -> Iterator[Finding]:
    """Recordings that are nearly the same, whole groups at a time, since a copy of a copy is a copy."""
    by_sound: dict[str, list[int]] = defaultdict(list)  # exact copies, and several captions of a file, go together
    for place, item in enumerate(items):
        if item.measurement is not None:
            by_sound[item.measured.digest].append(place)
    alike = Graph()
    for first, second, similarity in copies.pairs:
        sounds = [items[place].measured.digest for place in (first, second)]
        if len({items[place].clip.source for sound in sounds for place in by_sound[sound]}) > 1:  # else takes of one recording
            alike.add_edge(*sounds, similarity=similarity)
    for sounds in connected_components(alike):
        if len(sounds) == 1:
            continue  # said where the same samples are
        members = [items[place] for place in sorted(place for sound in sounds for place in by_sound[sound])]
        values = [value for *_, value in alike.subgraph(sounds).edges.data("similarity")]
        names = [item.clip.id for item in members]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        listed = f"{', '.join(names[:3])}{more}" if more else f"{', '.join(names[:-1])} and {names[-1]}"
        problem = f"{listed} are nearly the same sound, similarity {min(values):.2f}{' and more' if len(values) > 1 else ''}"
        if len({item.split for item in members}) > 1:
            yield _leak(members, problem, "listen to them; keep one, or give them one source")
        else:
            yield Finding("near copy", "warning", members[0].clip.where, problem, "listen to them; keep one", tuple(names))


def _leak(members: Sequence[Examined], problem: str, mend: str) -> Finding:
    """Clips of several splits of which only those of the most held-out one may stay."""
    kept = max((item.split for item in members), key=HELD_OUT.__getitem__)
    drop = tuple(item.clip.id for item in members if item.split != kept)
    return Finding("leak", "error", members[0].clip.where, problem, mend, tuple(item.clip.id for item in members), drop)


def _unbalanced(items: Sequence[Examined]) -> Iterator[Finding]:
    counts = Counter(item.clip.label for item in items if item.split == "train")
    for label in sorted({item.clip.label for item in items} - set(counts)):
        yield Finding("class without training", "warning", f"class '{label}'", "has no training clip", "add some, or leave it out")
    if len(counts) < 2:
        return
    (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
    if many > TIMES * few:
        problem = f"class '{most}' has {many} clips and '{least}' {few}"
        yield Finding("imbalance", "warning", "train split", problem, "choose as many of each with data.init_args.shots")


def _outliers(read: Sequence[Examined]) -> Iterator[Finding]:
    sounding = [item for item in read if item.measured.level_db > -math.inf]
    if not sounding:
        return
    level, length = median(item.measured.level_db for item in sounding), median(item.measured.duration for item in read)
    for item in sounding:
        difference = item.measured.level_db - level
        if abs(difference) > FAR_DB:
            problem = f"{abs(difference):.0f} dB {'louder' if difference > 0 else 'quieter'} than the median clip"
            mend = "listen: every clip is brought to one peak, its noise with it"
            yield Finding("unlike level", "warning", item.clip.where, problem, mend, (item.clip.id,))
    for item in read:
        if not length / TIMES <= item.measured.duration <= TIMES * length:
            problem = f"lasts {item.measured.duration:.2f} s, the median clip {length:.2f} s"
            yield Finding("unlike length", "warning", item.clip.where, problem, "listen whether it belongs here", (item.clip.id,))


def _fitted(read: Sequence[Examined], duration: float) -> Iterator[Finding]:
    """What bringing every clip to one length will do."""
    longer = tuple(item.clip.id for item in read if item.measured.duration > duration + 0.01)
    shorter = tuple(item.clip.id for item in read if item.measured.duration < duration / 2)
    if longer:
        problem = f"{len(longer)} clips are longer than data.init_args.duration, {duration:g} s"
        yield Finding("cut", "note", "all splits", problem, "nothing: the loudest window is taken; or raise duration", longer)
    if shorter:
        problem = f"{len(shorter)} clips fill less than half of {duration:g} s"
        yield Finding("padded", "note", "all splits", problem, "lower data.init_args.duration, or set padding to repeat", shorter)


def _formats(read: Sequence[Examined]) -> Iterator[Finding]:
    for what, values in (
        ("Hz", Counter(item.measured.sample_rate for item in read)),
        ("channels", Counter(item.measured.channels for item in read)),
    ):
        if len(values) > 1:
            problem = ", ".join(f"{value:,} {what}: {count}" for value, count in values.most_common())
            yield Finding(
                "mixed formats", "note", "all splits", problem, "nothing: all are brought to the model's rate and to mono"
            )


def _captions(items: Sequence[Examined], unheard: Callable[[str], str]) -> Iterator[Finding]:
    told = [(item.clip, caption) for item in items for caption in (item.clip.caption, *item.clip.others)]
    for found in caption_problems([caption for _, caption in told], [clip.source for clip, _ in told], unheard):
        first = told[found.indices[0]][0]
        ids = tuple(dict.fromkeys(told[index][0].id for index in found.indices))
        severity = CAPTIONS.get(found.kind, "warning")
        yield Finding(
            f"caption: {found.kind}", severity, first.where, found.detail, found.mend, ids,
            drop=ids if severity == "error" else (),
        )  # fmt: skip
