"""Reading a whole data set once, in parallel, and finding what is wrong with it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from audioldm_lit.console.stages import Stage, track
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.clips import Clip, FoundClips, Part, Split
from audioldm_lit.errors import InputError
from audioldm_lit.health.collection import collection_findings, empty_splits
from audioldm_lit.health.duplicates import DuplicatePairs, DuplicateSearch
from audioldm_lit.health.findings import Examined, Finding, clip_findings
from audioldm_lit.health.measure import Measurement, measure
from audioldm_lit.health.projection import project
from audioldm_lit.storage.prefetch import prefetch

SPLITS: tuple[Split, ...] = ("train", "val", "test")
ORDER = ("error", "warning", "note")
Result = tuple[Measurement, None] | tuple[None, InputError]  # of reading a file


@dataclass(frozen=True)
class Checkup:
    """A data set, examined.

    Attributes:
        items: Every clip of every split, without those whose audio is missing where that is allowed.
        findings: What is wrong, the worst first.
        coverage: How much of each split is there.
        threshold: Similarity above which two recordings count as nearly the same.
        places: Where each clip lies on a map of all, in [-1, 1].
        shown: Share of the differences between recordings that the map shows, in [0, 1].
    """

    items: Sequence[Examined]
    findings: Sequence[Finding]
    coverage: dict[Split, FoundClips]
    threshold: float
    places: Mapping[Part, tuple[float, float]] = field(default_factory=dict)
    shown: float = 0.0

    @cached_property
    def kept(self) -> list[Examined]:
        """What a cleaned manifest contains."""
        dropped = {name for finding in self.findings for name in finding.drop}
        return [item for item in self.items if item.clip.id not in dropped]

    @property
    def counts(self) -> dict[Split, int]:
        """Clips of each split."""
        return {split: sum(item.split == split for item in self.items) for split in SPLITS}


def examine(data: AudioDataModule, scratch: Path, threads: int, unheard: Callable[[str], str] = lambda text: "") -> Checkup:
    """Read every clip once and look for everything that can be wrong.

    Args:
        data: The data set; its choice of shots does not matter.
        scratch: Folder for a temporary file of fingerprints.
        threads: Number of clips read at a time.
        unheard: The end of a text that the model does not read, see `TextWindow`.

    Raises:
        InputError: If the lists of the data set are wrong, or most of its audio is missing.
    """
    listed, findings = _distinct([(clip, split) for split in SPLITS for clip in _listed(data, split)])
    findings += [Finding(remark.kind, "note", remark.where, remark.problem, remark.mend) for remark in data.remarks]
    if not listed and not data.coverage:
        raise InputError(data.root, "lists no clip", "correct data.init_args.root")
    files = list(dict.fromkeys(clip.part for clip, _ in listed))  # a file may have several captions
    search = DuplicateSearch(len(files), scratch)
    with _one_thread_each():
        results = _read_all(files, search, threads)
        items = [Examined(clip, split, *results[clip.part]) for clip, split in listed]
        copies = _compare(files, items, search, threads)
        place = {item.clip.part: number for number, item in enumerate(items)}
        pairs = [(place[files[i]], place[files[j]], similarity) for i, j, similarity in copies.pairs]
        findings += [finding for item in items for finding in clip_findings(item, data.sample_rate)]
        dropped = {name for finding in findings for name in finding.drop}
        found = collection_findings(items, replace(copies, pairs=tuple(pairs)), data.coverage, data.duration, dropped, unheard)
        findings += [finding for finding in found if data.captioned or not finding.kind.startswith("caption: ")]
        findings += empty_splits(items, {name for finding in findings for name in finding.drop})
    paths = {item.clip.id: str(item.clip.path) for item in items}
    findings = [replace(one, files=tuple(dict.fromkeys(paths[name] for name in one.clips))) for one in findings]
    findings.sort(key=lambda finding: (ORDER.index(finding.severity), finding.kind))
    return Checkup(items, findings, dict(data.coverage), copies.threshold, *_map(files, results, search))


def _listed(data: AudioDataModule, split: Split) -> list[Clip]:
    """Clips to examine; where some audio may be missing, a clip without is no finding but counts in the coverage."""
    listed = data.clips(split)
    covered = data.covered(split, listed) if listed else []
    return listed if data.min_coverage == 1 else covered


def _read_all(files: Sequence[Part], search: DuplicateSearch, threads: int) -> dict[Part, Result]:
    results = prefetch(lambda i: _read(files[i], i, search), range(len(files)), threads)
    return dict(zip(files, track(results, f"reading {len(files):,} recordings", len(files)), strict=True))


def _read(part: Part, number: int, search: DuplicateSearch) -> Result:
    try:
        measurement, heard = measure(*part)
    except InputError as error:
        return None, InputError(error.where, error.problem, error.mend)  # its traceback would hold what was read
    if search.first(measurement.digest):  # exact copies would take the places of a clip's nearest neighbours
        search.add(number, heard)
    return measurement, None


def _compare(files: Sequence[Part], items: Sequence[Examined], search: DuplicateSearch, threads: int) -> DuplicatePairs:
    """Near duplicates by their places in `files`."""
    first_source: dict[str, str] = {}  # of exact copies any one may have been taken into the search
    sources = {}
    for item in items:
        sound = item.measurement.digest if item.measurement else item.clip.source
        sources[item.clip.part] = first_source.setdefault(sound, item.clip.source)
    with ThreadPoolExecutor(threads) as pool, Stage("comparing recordings") as stage:
        return search.pairs([sources[part] for part in files], pool.map, stage.count)


def _map(
    files: Sequence[Part], results: Mapping[Part, Result], search: DuplicateSearch
) -> tuple[dict[Part, tuple[float, float]], float]:
    """Places of the clips on a map of all, by what the search for copies hears of them, and the share that it shows."""
    known = search.frames.nonzero()[:, 0]
    places, shown = project(search.descriptions[known])
    read = {part: measurement.digest for part, (measurement, _) in results.items() if measurement is not None}
    by_sound = {read[files[row]]: tuple(place) for row, place in zip(known.tolist(), places.tolist(), strict=True)}
    return {part: by_sound[digest] for part, digest in read.items() if digest in by_sound}, shown


def _distinct(listed: Sequence[tuple[Clip, Split]]) -> tuple[list[tuple[Clip, Split]], list[Finding]]:
    """Clips with ids of their own: one of several splits is put behind each split's name, one that a split has twice is told."""
    splits: dict[str, set[Split]] = defaultdict(set)
    for clip, split in listed:
        splits[clip.id].add(split)
    distinct, findings, seen = [], [], Counter[tuple[str, Split]]()
    for clip, split in listed:
        name = clip.id if len(splits[clip.id]) == 1 else f"{split}/{clip.id}"
        seen[clip.id, split] += 1
        if (count := seen[clip.id, split]) > 1:
            name = f"{name} #{count}"
            problem = f"'{clip.id}' comes again in the {split} split"
            findings.append(Finding("repeated id", "error", clip.where, problem, "keep one entry", (name,), drop=(name,)))
        distinct.append((replace(clip, id=name), split))
    return distinct, findings


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let every reading thread compute alone: threads within threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
