"""The same recording twice in a data set of any size: at another gain, shifted, trimmed, encoded again, in noise.

The cost of comparing all pairs grows with the square of the clips. So every clip is first described by a few numbers that do not
depend on gain or shift, and only its nearest neighbours by these are compared in full; fingerprints wait on disk meanwhile. Letters
in shapes: N clips, D numbers of a description, k neighbours, E pairs compared, F frames, M numbers a frame.
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audioldm_lit import seeding
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.metrics.extractors.fingerprint import N_MELS, Fingerprint
from audioldm_lit.metrics.similarity import CERTAIN, UNALIKE, shift_tolerant_similarity

LONGEST = 30 * Fingerprint.sample_rate  # samples of a clip that are looked at
BANDS = N_MELS - 1  # numbers a frame
SCALE = 127  # fingerprints lie in (-1, 1) and are kept as int8
FILTERS, WIDTH = 256, 8  # random filters of 160 ms; 16 of 20 ms find as much, wider ones lose trimmed copies
NEIGHBOURS = 10  # of each clip are compared in full: 97 % of trimmed copies are the first, 99.5 % among five, all among ten
CELLS = 4_000_000  # of the matrix of cosines at a time, 16 MB
REACH, FAST = 76, 64  # frames: shifts need so much room, and a transform of a multiple of 64 is fast where one of a prime is not
BLOCK = 16  # clips compared at a time
RANK = 3  # the neighbour that tells how alike different recordings are: the first two may be copies in a data set full of them
DEVIATIONS = 8.0  # of it, on Fisher's z scale; as strict as `near_copy_threshold` where there are no copies


@dataclass(frozen=True)
class DuplicatePairs:
    """What a search found.

    Attributes:
        pairs: (i, j, similarity) of clips i < j that are near duplicates, the most alike first.
        threshold: The similarity that they exceed, in [0.55, 0.95].
    """

    pairs: tuple[tuple[int, int, float], ...]
    threshold: float


class DuplicateSearch:
    """Takes clips one by one, in any order and from several threads, and finds which are the same recording.

    A second of sound takes 2.5 kB of disk, a clip 1 kB of memory. Each clip of a recording that is there more than eleven times is
    paired with only ten others. Clips that were never added and silent ones are in no pair.

    Args:
        num_clips: Clips of the data set; they are numbered from 0.
        folder: Where the temporary file of fingerprints goes, which is removed with the search; made when needed.

    Raises:
        InputError: If the file cannot be made.
    """

    def __init__(self, num_clips: int, folder: Path) -> None:
        self.descriptions = torch.zeros(num_clips, FILTERS)
        self.offsets = torch.zeros(num_clips, dtype=torch.long)  # bytes into the file
        self.frames = torch.zeros(num_clips, dtype=torch.long)  # 0: never added, or silent
        self.folder = folder
        self.fingerprint = Fingerprint()
        self.filters = torch.randn(FILTERS, BANDS, WIDTH, generator=seeding.generator("duplicates"))
        self.lock = Lock()
        self.digests: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it lives as long as the search)
        except OSError as error:
            raise InputError(folder, f"cannot hold a temporary file ({error})", "choose another folder") from error

    def add(self, index: int, waveform: Tensor) -> None:
        """Take clip `index`, a mono waveform (T,) at 16 kHz of any length; of a long one the first 30 s.

        Raises:
            InputError: If the disk is full.
        """
        batch = AudioBatch(ids=(), waveform=waveform[None, :LONGEST], sample_rate=Fingerprint.sample_rate)
        rows = self.fingerprint.extract(batch)["embedding"][0]  # (F, M)
        stored = (SCALE * rows).round().to(torch.int8)
        if not stored.any():
            return
        self.descriptions[index] = describe(rows, self.filters)
        with self.lock:
            try:
                self.offsets[index] = self.file.seek(0, 2)
                self.file.write(stored.numpy().tobytes())
            except OSError as error:
                raise InputError(self.folder, f"cannot hold the fingerprints ({error})", "choose another folder") from error
            self.frames[index] = len(rows)

    def first(self, digest: str) -> bool:
        """Whether samples with this hash are new."""
        with self.lock:
            before = len(self.digests)
            self.digests.add(digest)
            return len(self.digests) > before

    def pairs(
        self,
        sources: Sequence[str],
        each: Callable[[Callable, Iterable], Iterable] = map,
        advance: Callable[[int, int], object] = lambda done, of: None,
    ) -> DuplicatePairs:
        """All near duplicates among the clips added so far.

        Args:
            sources: Of each of the N clips, what it was cut from. Clips of one source may be paired, but the threshold is learnt
                from clips of different ones.
            each: `map`, or the `map` of a thread pool.
            advance: Called now and then with the number of pairs compared so far and in all.

        Raises:
            InputError: If there is not one source for each clip.
        """
        if len(sources) != len(self.frames):
            raise InputError("sources", f"are {len(sources)} for {len(self.frames)} clips", "give one a clip")
        present = self.frames.argsort(descending=True, stable=True)[: int(self.frames.count_nonzero())]
        neighbours = nearest(whiten(self.descriptions[present]), NEIGHBOURS)  # (N, k)
        first = torch.arange(len(present)).repeat_interleave(neighbours.shape[1])
        edges = torch.stack([first, neighbours.flatten()], dim=1).sort(dim=1).values.unique(dim=0)
        edges = present[edges]  # (E, 2), each pair once and sorted, the longer clip first: the other is padded to its length
        firsts, counts = edges[:, 0].unique_consecutive(return_counts=True)
        groups = zip(firsts.tolist(), edges[:, 1].split(counts.tolist()), strict=True)
        tasks = [(first, block) for first, others in groups for block in others.split(BLOCK)]
        values: list[float] = []
        for part in each(self._compare, tasks):
            values += part
            advance(len(values), len(edges))
        similarity = torch.tensor(values)  # (E,)
        codes = torch.from_numpy(np.unique(np.array(sources, dtype=str), return_inverse=True)[1])
        different = (codes[edges[:, 0]] != codes[edges[:, 1]]).nonzero()[:, 0]
        threshold = float(near_duplicate_threshold(_ranked(edges[different], similarity[different])))
        found = [i for i in similarity.argsort(descending=True, stable=True).tolist() if similarity[i] > threshold]
        return DuplicatePairs(tuple((*sorted(edges[i].tolist()), float(similarity[i])) for i in found), threshold)

    def rows(self, index: int) -> Tensor:
        """The fingerprint of a clip, (F, M) float32 in steps of 1/127."""
        with self.lock:
            self.file.seek(int(self.offsets[index]))
            stored = bytearray(self.file.read(int(self.frames[index]) * BANDS))
        return torch.frombuffer(stored, dtype=torch.int8).view(-1, BANDS) / SCALE

    def _compare(self, task: tuple[int, Tensor]) -> list[float]:
        """Similarity of a clip to each of others; either may be the one that was trimmed."""
        first, others = task
        query = self.rows(first)[None]
        query = F.pad(query, (0, 0, 0, -(query.shape[1] + REACH) % FAST))
        many = pad_sequence([self.rows(other) for other in others.tolist()], batch_first=True)
        either = torch.maximum(shift_tolerant_similarity(query, many)[0], shift_tolerant_similarity(many, query)[:, 0])
        return either.tolist()


def describe(rows: Tensor, filters: Tensor) -> Tensor:
    """Mean strength of a clip's response to each filter, which no shift changes, of length 1; rows (F, M) -> (D,).

    Args:
        rows: A fingerprint, not all zeros.
        filters: (D, M, W), each W frames wide.
    """
    response = F.conv1d(rows.T, filters, padding=filters.shape[2] - 1)  # (D, F + W - 1)
    return F.normalize(response.abs().sum(dim=1, dtype=torch.float64), dim=0).float()


def whiten(descriptions: Tensor) -> Tensor:
    """Descriptions (N, D) without what all clips share, scaled to length 1, so that their inner products tell recordings apart.

    The covariance is mixed half and half with the identity; with fewer clips than D it would also amplify what copies differ by.
    """
    mean = descriptions.mean(dim=0, dtype=torch.float64)
    parts = ((part - mean) for part in descriptions.split(BLOCK * FILTERS))
    covariance = sum((part.T @ part for part in parts), torch.zeros(len(mean), len(mean), dtype=torch.float64))
    power, directions = torch.linalg.eigh(covariance)
    scale = (power + power.mean()).clamp(min=torch.finfo().tiny).rsqrt()
    return F.normalize((descriptions - mean.float()) @ (directions * scale).float(), dim=1)


def nearest(vectors: Tensor, count: int) -> Tensor:
    """Row numbers of the `count` other rows of the largest inner product, by (N, D); (N, k) with k at most N - 1."""
    count = max(0, min(count, len(vectors) - 1))
    found = torch.zeros(len(vectors), count, dtype=torch.long)
    # One buffer for all: small results that live between large blocks that do not would leave holes of a gigabyte in all.
    buffer = torch.empty(max(1, CELLS // max(1, len(vectors))), len(vectors))
    for start in range(0, len(vectors), len(buffer)):
        block = vectors[start : start + len(buffer)]
        cosine = torch.mm(block, vectors.T, out=buffer[: len(block)])
        cosine.diagonal(offset=start).fill_(-torch.inf)  # each clip itself
        found[start : start + len(block)] = cosine.topk(count).indices
    return found


def near_duplicate_threshold(neighbours: Tensor) -> Tensor:
    """Similarity above which two clips are near duplicates, a float64 scalar in [0.55, 0.95].

    Like `near_copy_threshold` a bound on Fisher's z scale, but of medians and of each clip's third neighbour: the first may be a
    copy, and where one clip in ten has one, that bound is at 0.83 already.

    Args:
        neighbours: (N,) similarity of each clip to the third most alike clip of another source. With fewer than two, 0.55.
    """
    z = neighbours.double().clamp(-CERTAIN, CERTAIN).atanh()
    if len(z) < 2:
        return z.new_tensor(UNALIKE)
    spread = 1.4826 * (z - z.median()).abs().median()  # the standard deviation, were they normal
    return (z.median() + DEVIATIONS * spread).tanh().clamp(UNALIKE, CERTAIN)


def _ranked(edges: Tensor, similarity: Tensor) -> Tensor:
    """Similarity of each clip to its third most alike neighbour, for every clip of (E, 2) that has three."""
    clip, similarity = edges.T.flatten(), similarity.repeat(2)
    order = similarity.argsort(descending=True)
    order = order[clip[order].argsort(stable=True)]  # by clip, then the most alike first
    counts = clip.bincount()
    starts = counts.cumsum(0) - counts
    return similarity[order][starts[counts >= RANK] + RANK - 1]
