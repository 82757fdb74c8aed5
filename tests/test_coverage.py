"""Whether 95 % intervals hold the truth 95 times in 100: every metric on simulated sets of clips whose true value is known.

Seeds are fixed. The share of 300 intervals is itself uncertain by 1.3 points, that of 1,000 by 0.7. The mark `nightly` has the
thousands, and the longer ones of cases that are alike.
"""

from collections.abc import Callable, Sequence
from functools import cache, cached_property

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch

from audioldm_lit.evaluation.score import Comparison, Score, compare
from audioldm_lit.metrics.base import ClipMetric, Rows
from audioldm_lit.metrics.divergence import KLDivergence
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.metrics.frechet import FrechetDistance
from audioldm_lit.metrics.inception import InceptionScore
from audioldm_lit.metrics.kernel import KAD, KID
from audioldm_lit.metrics.text import CLAPScore, Retention

pytestmark = pytest.mark.slow
DRAWS = pytest.mark.parametrize("repeats", [300, pytest.param(1000, marks=pytest.mark.nightly)])
FEW_DRAWS = pytest.mark.parametrize("repeats", [100, pytest.param(300, marks=pytest.mark.nightly)])  # of what takes long each
LONG = pytest.mark.nightly
RARE = 0.2


def at_night(*values: object) -> object:
    return pytest.param(*values, marks=LONG)


Draw = Callable[[np.random.Generator], Sequence[np.ndarray]]  # one array (N, D) or (N, R, D) a side


def rows(values: np.ndarray) -> Rows:
    clips, rows_a_clip = torch.arange(len(values)), values.shape[1] if values.ndim == 3 else 1
    return Rows(torch.from_numpy(values.reshape(-1, values.shape[-1])), clips.repeat_interleave(rows_a_clip), clips)


def intervals(metric: ClipMetric, draw: Draw, repeats: int) -> np.ndarray:
    """Those given, (repeats or fewer, 2)."""
    rng = np.random.default_rng(0)
    found = [metric.measure(*map(rows, draw(rng))).interval(seed) for seed in range(repeats)]
    return np.array([one for one in found if one is not None]).reshape(-1, 2)


def coverage(found: np.ndarray, truth: float) -> float:
    return np.mean((found[:, 0] <= truth) & (truth <= found[:, 1]))


def covers(found: np.ndarray, truth: float, least: float = 0.92, most: float = 0.98) -> bool:
    """Whether the share of intervals that hold the truth is from `least` to `most`.

    Of fewer than 1,000 it may be a little beyond: where a coverage at the bound itself gives such a share in one set of five
    (binomial).
    """
    count = len(found)
    if count < 1000:
        least, most = scipy.stats.binom.ppf([RARE, 1 - RARE], count, [least, most]) / count
    return bool(least <= coverage(found, truth) <= most)


# ---------------------------------------------------------------- kernel distances of mixtures of Gaussians, in closed form

DIMS = 16


class Kinds:
    """Clips of several kinds, equally likely, each normal around its own mean (K, D) with one spread (D,)."""

    def __init__(self, means: np.ndarray, spread: np.ndarray) -> None:
        self.means, self.spread = means, spread

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return self.means[rng.integers(0, len(self.means), count)] + self.spread * rng.normal(size=(count, len(self.spread)))

    def moments(self) -> list[np.ndarray]:
        """E 1, E x, E x x^T and E x x x."""
        var, pieces = np.diag(self.spread**2), []
        for m in self.means:
            third = np.einsum("i,j,k->ijk", m, m, m) + sum(np.einsum(f"ij,k->{axes}", var, m) for axes in ("ijk", "ikj", "kij"))
            pieces.append([np.ones(()), m, var + np.outer(m, m), third])
        return [np.mean(one, axis=0) for one in zip(*pieces, strict=True)]

    @cached_property
    def median_distance(self) -> float:
        rng = np.random.default_rng(1)
        return np.median(np.linalg.norm(self.draw(200_000, rng) - self.draw(200_000, rng), axis=1))


def kad_truth(x: Kinds, y: Kinds) -> float:
    """E exp(-|x - y|^2 / 2 h^2) is a product of Gaussian integrals."""
    bandwidth2 = y.median_distance**2

    def mean_kernel(one: Kinds, other: Kinds) -> float:
        var = one.spread**2 + other.spread**2
        apart = (one.means[:, None] - other.means[None]) ** 2  # (K, K, D)
        return np.mean(np.prod((1 + var / bandwidth2) ** -0.5 * np.exp(-apart / (2 * (bandwidth2 + var))), axis=2))

    return 100 * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))


def kid_truth(x: Kinds, y: Kinds) -> float:
    """E (x.y / D + 1)^3 is a sum of products of moments."""

    def mean_kernel(one: list[np.ndarray], other: list[np.ndarray]) -> float:
        return sum(scipy.special.comb(3, n) * (one[n] * other[n]).sum() / DIMS**n for n in range(4))

    made, real = x.moments(), y.moments()
    return mean_kernel(made, made) + mean_kernel(real, real) - 2 * mean_kernel(made, real)


TRUTHS = {KAD: kad_truth, KID: kid_truth}
RECORDED = Kinds(np.zeros((1, DIMS)), np.ones(DIMS))


def shifted(shift: float) -> Kinds:
    return Kinds(np.full((1, DIMS), shift), np.linspace(1.5, 0.4, DIMS))


@cache
def several_kinds(kinds: int, error: float) -> tuple[Kinds, Kinds]:
    """Generated clips, whose kinds are a little off, and recordings."""
    rng = np.random.default_rng(2)
    means = 1.5 * rng.normal(size=(kinds, DIMS))
    return Kinds(means + error * rng.normal(size=means.shape), np.full(DIMS, 0.8)), Kinds(means, np.ones(DIMS))


SIDES = {"shifted a little": (shifted(0.3), RECORDED), "shifted far": (shifted(1.0), RECORDED), "ten kinds": several_kinds(10, 1.0)}


@DRAWS
@pytest.mark.parametrize(
    ("kind", "count"),
    [*((kind, 15) for kind in SIDES), *(at_night(kind, count) for count in (20, 50) for kind in SIDES)],
)
@pytest.mark.parametrize("metric", [KAD, KID])
def test_intervals_of_kernel_distances_cover(kind, metric, count, repeats):
    sides = SIDES[kind]
    found = intervals(metric(), lambda rng: [side.draw(count, rng) for side in sides], repeats)
    assert len(found) == repeats
    assert covers(found, TRUTHS[metric](*sides))


@DRAWS
@pytest.mark.parametrize("count", [20, at_night(50)])
@pytest.mark.parametrize("metric", [KAD, KID])
@pytest.mark.parametrize("kinds", [3, at_night(5)])
def test_intervals_of_kernel_distances_cover_nearly_as_often_where_there_are_few_kinds(kinds, metric, count, repeats):
    """The share of each kind then decides the value, and a set that got it right looks both near and certain."""
    sides = several_kinds(kinds, 1.0)
    found = intervals(metric(), lambda rng: [side.draw(count, rng) for side in sides], repeats)
    assert covers(found, TRUTHS[metric](*sides), least=0.88)


@pytest.mark.parametrize(("metric", "least"), [(KAD, 0.92), at_night(KID, 0.90)])  # the cubic kernel's long tails cost two points
def test_intervals_of_kernel_distances_cover_with_a_larger_reference(metric, least):
    sides = several_kinds(10, 1.0)
    found = intervals(metric(), lambda rng: (sides[0].draw(20, rng), sides[1].draw(200, rng)), 300)
    assert least <= coverage(found, TRUTHS[metric](*sides)) <= 0.98


@DRAWS
@pytest.mark.parametrize("count", [20, at_night(50)])
@pytest.mark.parametrize("metric", [KAD, KID])
def test_intervals_of_recordings_against_recordings_hold_zero(metric, count, repeats):
    """Where the distance vanishes its error is no longer normal; intervals are then too wide, not too narrow."""
    found = intervals(metric(), lambda rng: [RECORDED.draw(count, rng) for _ in range(2)], repeats)
    assert coverage(found, 0.0) >= 0.95


# ---------------------------------------------------------------- classifiers' logits, truth from 50,000 clips


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


CLASSES, KINDS = 78, 10
PROTOTYPES = np.random.default_rng(1).normal(size=(KINDS, CLASSES))


def logits(count: int, clarity: float, rng: np.random.Generator) -> np.ndarray:
    """Of clips of random kinds; from clarity about 5 a clip is surely of one class."""
    return clarity * (PROTOTYPES[rng.integers(0, KINDS, count)] + 0.75 * rng.normal(size=(count, CLASSES)))


def pairs(count: int, clarity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits of generated clips, three in ten of which are of a random kind, and of recordings."""
    kind = rng.integers(0, KINDS, count)
    made = np.where(rng.random(count) < 0.7, kind, rng.integers(0, KINDS, count))
    generated, recorded = (
        clarity * (PROTOTYPES[one] + noise * rng.normal(size=(count, CLASSES))) for one, noise in ((made, 0.6), (kind, 0.5))
    )
    return generated, recorded


@cache
def kl_truth(clarity: float) -> float:
    generated, recorded = pairs(50_000, clarity, np.random.default_rng(2))
    p, q = softmax(recorded), softmax(generated)
    return (p * np.log(p / q)).sum(axis=1).mean()


@cache
def inception_truth(clarity: float) -> float:
    p = softmax(logits(50_000, clarity, np.random.default_rng(2)))
    return np.exp(scipy.special.entr(p.mean(axis=0)).sum() - scipy.special.entr(p).sum(axis=1).mean())


@DRAWS
@pytest.mark.parametrize(
    ("clarity", "count"),
    [(1.0, 15), at_night(2.0, 15), (4.0, 15), *(at_night(clarity, count) for count in (20, 50) for clarity in (1.0, 2.0, 4.0))],
)
def test_intervals_of_kl_divergence_cover(clarity, count, repeats):
    found = intervals(KLDivergence(), lambda rng: pairs(count, clarity, rng), repeats)
    assert len(found) == repeats
    assert covers(found, kl_truth(clarity))


@DRAWS
@pytest.mark.parametrize(
    ("count", "clarity"), [(15, 1.0), at_night(20, 1.0), (20, 1.5), at_night(50, 1.0), at_night(50, 2.0), at_night(50, 3.0)]
)
def test_intervals_of_the_inception_score_cover(count, clarity, repeats):
    found = intervals(InceptionScore(), lambda rng: (logits(count, clarity, rng),), repeats)
    assert len(found) == repeats
    assert covers(found, inception_truth(clarity))


@DRAWS
@pytest.mark.parametrize("clarity", [at_night(2.5), 3.0, at_night(4.0)])
def test_an_inception_score_that_the_clips_cannot_resolve_seldom_gets_a_wrong_interval(clarity, repeats):
    found, truth = intervals(InceptionScore(), lambda rng: (logits(20, clarity, rng),), repeats), inception_truth(clarity)
    assert np.sum((found[:, 0] > truth) | (truth > found[:, 1])) < 0.02 * repeats


# ---------------------------------------------------------------- scores against text


def cosines(count: int, base: float, rng: np.random.Generator) -> np.ndarray:
    """A skewed mixture: most clips fit their caption, some do not at all."""
    fits = rng.random(count) < 0.8
    return np.where(fits, rng.beta(12, 12 / base - 12, count), rng.normal(0.02, 0.05, count))[:, None]


@DRAWS
@pytest.mark.parametrize("count", [15, at_night(20), 50])
def test_intervals_of_the_clap_score_cover(count, repeats):
    found = intervals(CLAPScore(), lambda rng: (cosines(count, 0.4, rng),), repeats)
    assert covers(found, 0.8 * 0.4 + 0.2 * 0.02)


@DRAWS
@pytest.mark.parametrize("count", [20, 50])
def test_intervals_of_retention_cover(count, repeats):
    found = intervals(Retention(), lambda rng: (cosines(count, 0.35, rng), cosines(count, 0.4, rng)), repeats)
    assert covers(found, 0.8 * (0.35 - 0.4))


# ---------------------------------------------------------------- Frechet distance of Gaussians, in closed form


class Normals:
    """Two Gaussians of unequal shape, and clips whose rows share part of their deviation."""

    def __init__(self, dims: int, shift: float, scale: float) -> None:
        rng = np.random.default_rng(3)
        spread, (turn, _) = np.linspace(2, 0.3, dims), np.linalg.qr(rng.normal(size=(dims, dims)))
        self.first, self.second, self.shift = scale * np.diag(spread), turn * spread, shift  # factors (D, D)

    @property
    def truth(self) -> float:
        one, two = self.first @ self.first.T, self.second @ self.second.T
        return len(one) * self.shift**2 + np.trace(one + two - 2 * scipy.linalg.sqrtm(one @ two).real)

    def draw(self, clips: int, rows_a_clip: int = 1, shared: float = 0.0) -> Draw:
        def side(factor: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            own = rng.normal(size=(clips, rows_a_clip, len(factor)))
            common = rng.normal(size=(clips, 1, len(factor)))
            return (np.sqrt(shared) * common + np.sqrt(1 - shared) * own) @ factor.T

        return lambda rng: (self.shift + side(self.first, rng), side(self.second, rng))


@FEW_DRAWS
@pytest.mark.parametrize(
    ("dims", "shift", "scale"), [at_night(8, 0.1, 1.1), (8, 0.5, 1.3), at_night(32, 0.1, 1.1), at_night(32, 0.5, 1.3)]
)
def test_intervals_of_the_frechet_distance_cover_at_ten_clips_a_dimension(dims, shift, scale, repeats):
    sets = Normals(dims, shift, scale)
    found = intervals(FrechetDistance(), sets.draw(10 * dims), repeats)
    assert len(found) == repeats
    assert covers(found, sets.truth)


@FEW_DRAWS
@pytest.mark.parametrize("shared", [at_night(0.5), 0.9])
def test_intervals_of_the_frechet_distance_cover_at_four_clips_a_dimension_of_ten_rows_each(shared, repeats):
    sets = Normals(32, 0.1, 1.1)
    found = intervals(FrechetDistance(), sets.draw(128, 10, shared), repeats)
    assert len(found) == repeats
    assert covers(found, sets.truth)


def test_many_rows_of_few_clips_give_a_frechet_distance_no_interval_that_does_not_cover():
    """Rows of a clip resemble each other: 64 clips of ten rows do not tell 64 dimensions as 640 clips do."""
    sets = Normals(64, 0.1, 1.1)
    found = intervals(FrechetDistance(), sets.draw(64, 10, 0.9), 100)
    assert len(found) == 0 or coverage(found, sets.truth) >= 0.92


@FEW_DRAWS
@pytest.mark.parametrize("dims", [8, at_night(32)])
def test_intervals_of_equal_gaussians_hold_zero(dims, repeats):
    sets = Normals(dims, 0.0, 1.0)
    sets.second = sets.first
    assert coverage(intervals(FrechetDistance(), sets.draw(10 * dims), repeats), 0.0) >= 0.95


# ---------------------------------------------------------------- comparisons


def compared(metric: ClipMetric, first: Sequence[np.ndarray], second: Sequence[np.ndarray], paired: bool, seed: int) -> Comparison:
    """Of two systems, each as the sides the metric is given; without what else a score has, which is most of the time."""
    scores = []
    for system, sides in enumerate((first, second)):
        metric.reset()
        for side, values in zip(metric.sides, sides, strict=True):
            own = system if side == "preds" and not paired else ""
            metric.add(side, [f"clip {i} {own}" for i in range(len(values))], torch.from_numpy(values))
        gathered = metric.gathered()
        scores.append(Score(metric.measure(*gathered), gathered, metric.sides, metric.higher_is_better, "", None))
    return compare(*scores, seed)


def verdicts(metric: ClipMetric, draw: Callable, paired: bool, repeats: int = 300) -> tuple[np.ndarray, list[str]]:
    """Intervals of the difference (repeats, 2), and the verdicts."""
    rng = np.random.default_rng(0)
    found = [compared(metric, *draw(rng), paired, seed) for seed in range(repeats)]
    return np.array([one.interval for one in found]), [one.verdict for one in found]


@pytest.mark.parametrize(("shift", "count"), [(0.6, 20), at_night(0.8, 50), at_night(0.6, 50), at_night(0.8, 20)])
def test_comparisons_of_kernel_distances_cover(shift, count):
    def draw(rng):
        recorded = RECORDED.draw(count, rng)
        return [(shifted(one).draw(count, rng), recorded) for one in (0.6, shift)]

    truth = kad_truth(shifted(shift), RECORDED) - kad_truth(shifted(0.6), RECORDED)
    found, said = verdicts(KAD(), draw, False)
    assert 0.92 <= coverage(found, truth) <= 0.98
    assert said.count("better") <= 0.05 * len(said)  # the second is no better


@pytest.mark.parametrize("repeats", [100, at_night(1000)])
@pytest.mark.parametrize("clarity", [at_night(1.0), 1.5])
def test_comparisons_of_inception_scores_cover(clarity, repeats):
    def draw(rng):
        return [(logits(50, one, rng),) for one in (1.0, clarity)]

    truth = np.log(inception_truth(clarity) / inception_truth(1.0))
    found, said = verdicts(InceptionScore(), draw, False, repeats)
    assert covers(found, truth)
    assert said.count("worse") <= 0.05 * len(said)


@pytest.mark.parametrize("count", [20, at_night(50)])
def test_comparisons_of_paired_clips_cover_and_gain_by_it(count):
    def draw(rng):
        prompts = cosines(count, 0.35, rng)  # hard prompts are hard for both systems
        return [(prompts + rng.normal(0, 0.03, prompts.shape),), (prompts + rng.normal(0.03, 0.03, prompts.shape),)]

    found, said = verdicts(CLAPScore(), draw, True)
    assert 0.92 <= coverage(found, 0.03) <= 0.98
    _, unpaired = verdicts(CLAPScore(), draw, False)
    assert said.count("better") > 2 * unpaired.count("better")
    assert "worse" not in said


@pytest.mark.parametrize("repeats", [100, at_night(1000)])
def test_comparison_of_frechet_distances_covers(repeats):
    one, other = Normals(8, 0.2, 1.1), Normals(8, 0.2, 1.3)

    def draw(rng):
        generated, recorded = one.draw(80)(rng)
        return (generated, recorded), (other.draw(80)(rng)[0], recorded)

    found, _ = verdicts(FrechetDistance(), draw, False, repeats)
    assert covers(found, other.truth - one.truth)


def test_too_few_clips_are_not_compared():
    rng = np.random.default_rng(0)
    sides = [(rng.normal(size=(30, 8)), rng.normal(size=(30, 8))) for _ in range(2)]
    comparison = compared(FrechetDistance(), *sides, True, 0)
    assert (comparison.verdict, comparison.interval) == ("cannot tell", None)


@pytest.mark.parametrize("candidates", [1, 4])
def test_intervals_of_a_mean_over_candidates_hold_the_truth_and_are_narrower(candidates):
    """Candidates of a caption are alike, captions are the sample: four times as many clips must not pass for four times as many."""
    rng, repeats, captions = np.random.default_rng(0), 300, 20
    means = []
    for _ in range(repeats):
        recorded, asked = rng.standard_normal((captions, 8)), 0.5 + 0.7 * rng.standard_normal((captions, 8))
        made = asked + 0.7 * rng.standard_normal((candidates, captions, 8))
        means.append(Estimate.mean([KAD().measure(rows(clips), rows(recorded)) for clips in made]))
    truth = np.mean([mean.value for mean in means])  # unbiased
    found = np.array([mean.interval(seed) for seed, mean in enumerate(means)])
    assert covers(found, truth)
    spread = np.std([mean.value for mean in means])
    assert np.diff(found).mean() == pytest.approx(2 * 1.96 * spread, rel=0.25)
