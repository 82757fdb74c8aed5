"""Metrics: every definition against numpy, scipy or 40-digit arithmetic, what must not change a value, and influence on it."""

import itertools
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import scipy.spatial
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioldm_lit import seeding
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.base import ClipMetric, Rows
from audioldm_lit.metrics.denoising_loss import HeldOutLoss
from audioldm_lit.metrics.divergence import KLDivergence
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.metrics.extractors.base import AudioBatch, Extractor
from audioldm_lit.metrics.frechet import FrechetDistance, frechet_distance
from audioldm_lit.metrics.inception import InceptionScore
from audioldm_lit.metrics.kernel import KAD, KID
from audioldm_lit.metrics.neighbours import Coverage, Density, Precision, Recall
from audioldm_lit.metrics.spectral import LogSpectralDistance
from audioldm_lit.metrics.text import CLAPScore, Retention

RATE = 16_000
FAST = settings(max_examples=60, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


class Samples(Extractor):
    """A clip's samples are its features, in one row or several."""

    features = ("embedding", "logits", "similarity")
    name = "samples"
    sample_rate = RATE
    min_samples = 1

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def embed(self, waveform, captions):
        rows = waveform.reshape(len(waveform), -1, self.dims)
        return {"embedding": rows, "logits": rows, "similarity": rows}


class Wordless(Samples):
    """Was given no captions to compare with."""

    def __init__(self) -> None:
        super().__init__(1)

    def embed(self, waveform, captions):
        return {"embedding": waveform[:, None]}


def batch(values: np.ndarray, ids: list[str] | None = None) -> AudioBatch:
    """Clips whose features are `values`, (N, D) or (N, R, D)."""
    waveform = torch.from_numpy(values.reshape(len(values), -1)).float()
    return AudioBatch(ids or [f"clip {i}" for i in range(len(values))], waveform, RATE)


def fed(metric: ClipMetric, *sides: np.ndarray) -> ClipMetric:
    """The metric with the features of generated and of recorded clips, (N, D) or (N, R, D)."""
    metric.extractor = Samples(sides[0].shape[-1])
    for name, values in zip(metric.sides, sides, strict=True):
        metric.update(**{name: batch(values)})
    return metric


def value(metric: ClipMetric, *sides: np.ndarray) -> float:
    return fed(metric, *sides).compute().item()


def estimate(metric: ClipMetric, *sides: np.ndarray) -> Estimate:
    return metric.measure(*fed(metric, *sides).gathered())


def rows(values: np.ndarray) -> Rows:
    clips = torch.arange(len(values))
    return Rows(torch.from_numpy(values), clips, clips)


def normal(seed: int, *shape: int, mean: float = 0.0, spread: float = 1.0) -> np.ndarray:
    """Random features rounded to float32, which clips are: the reference is given what the metric is given."""
    return np.random.default_rng(seed).normal(mean, spread, shape).astype(np.float32).astype(np.float64)


# ---------------------------------------------------------------- Frechet distance


def scipy_frechet(x: np.ndarray, y: np.ndarray) -> float:
    one, two = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(axis=0) - y.mean(axis=0)
    return shift @ shift + np.trace(one + two - 2 * scipy.linalg.sqrtm(one @ two).real)


def precise_factor(x: np.ndarray) -> tuple[list, list]:
    """Mean, and rows F with covariance F^T F."""
    columns = [[mpmath.mpf(float(number)) for number in column] for column in x.T]
    mean = [mpmath.fsum(column) / len(x) for column in columns]
    scale = mpmath.sqrt(len(x) - 1)
    return mean, [[(number - m) / scale for number, m in zip(row, mean, strict=True)] for row in zip(*columns, strict=True)]


def precise_frechet(x: np.ndarray, y: np.ndarray) -> float:
    """40 digits. The eigenvalues of S1 S2 other than 0 are those of F1 F2^T F2 F1^T, which is as small as the set is."""
    if len(x) > len(y):
        x, y = y, x
    with mpmath.workdps(40):
        (mean, factor), (other_mean, other_factor) = precise_factor(x), precise_factor(y)
        cross = mpmath.matrix([[mpmath.fdot(one, other) for other in other_factor] for one in factor])
        norm = mpmath.fsum(mpmath.sqrt(abs(root)) for root in mpmath.eigsy(cross * cross.T, eigvals_only=True))
        shift = mpmath.fsum((one - other) ** 2 for one, other in zip(mean, other_mean, strict=True))
        traces = mpmath.fsum(number**2 for row in factor + other_factor for number in row)
        return float(shift + traces - 2 * norm)


@pytest.mark.parametrize(("count", "others", "dims"), [(300, 300, 16), (200, 90, 8), (50, 60, 1)])
def test_frechet_distance_of_full_rank_is_scipys(count, others, dims):
    x, y = 0.3 + 1.2 * normal(0, count, dims), normal(1, others, dims) * np.linspace(1, 3, dims)
    reference = scipy_frechet(x, y) if dims > 1 else (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert frechet_distance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(reference, rel=1e-9)


@pytest.mark.parametrize(("count", "others", "dims"), [(20, 20, 2048), (12, 60, 30), (60, 12, 30)])
def test_frechet_distance_of_singular_covariances_is_exact_to_12_digits(count, others, dims):
    x, y = np.maximum(0, 0.1 + normal(0, count, dims)), np.maximum(0, normal(1, others, dims))
    assert frechet_distance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(precise_frechet(x, y), rel=1e-12)


def test_frechet_distance_of_more_rows_than_independent_dimensions_is_exact():
    x, y = normal(0, 60, 9, mean=0.2) @ normal(2, 9, 12), normal(1, 50, 12)  # a covariance of rank 9, and a whole one
    x[:, 4] = 0.5  # a dimension that never varies
    for one, other in ((x, y), (y, x), (x, x[:30] + 1)):
        assert frechet_distance(*map(torch.from_numpy, (one, other))) == pytest.approx(precise_frechet(one, other), rel=1e-9)


@pytest.mark.parametrize(
    ("decades", "rising"),
    [
        *((decades, False) for decades in (0, 3, 8)),
        (8, True),
        *(pytest.param(*more, marks=pytest.mark.nightly) for more in ((2, False), (4, False), (5, False), (4, True))),
    ],
)
def test_frechet_distance_is_exact_whatever_the_spread_of_the_dimensions(decades, rising):
    spread = np.logspace(0, -decades, 12)[:: -1 if rising else 1]
    x, y = 0.01 * spread + normal(0, 60, 12) * spread, normal(1, 50, 12) * spread
    assert frechet_distance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(precise_frechet(x, y), rel=1e-10)


def test_frechet_distance_pools_the_rows_of_all_clips():
    x, y = normal(0, 30, 6, 4, mean=0.2), normal(1, 25, 6, 4)
    assert value(FrechetDistance(), x, y) == pytest.approx(scipy_frechet(x.reshape(-1, 4), y.reshape(-1, 4)), rel=1e-9)


def test_two_rows_a_side_are_enough_for_a_frechet_distance_and_one_is_not():
    x, y = normal(0, 2, 4), normal(1, 2, 4)
    assert value(FrechetDistance(), x, y) == pytest.approx(precise_frechet(x, y), rel=1e-9)
    for asked in (FrechetDistance().measure, FrechetDistance().value):
        with pytest.raises(InputError, match="`target`: has one row, and a covariance needs two; give more clips"):
            asked(rows(x), rows(y[:1]))


def test_clips_may_differ_in_their_number_of_rows():
    long, short, y = normal(0, 10, 6, 4), normal(1, 40, 2, 4), normal(2, 80, 4)
    metric = fed(FrechetDistance(), long, y)
    metric.update(preds=batch(short, [f"short {i}" for i in range(40)]))
    pooled = np.concatenate([long.reshape(-1, 4), short.reshape(-1, 4)])
    assert metric.compute().item() == pytest.approx(scipy_frechet(pooled, y), rel=1e-9)


@FAST
@given(SEEDS, st.integers(2, 80), st.integers(1, 40), st.integers(0, 40), st.integers(1, 3), st.floats(0, 3))
def test_frechet_distance_of_a_set_from_itself_is_zero(seed, count, dims, dead, copies, decades):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, dims)) * 10 ** rng.uniform(-decades, 0, dims) + rng.normal(size=dims)
    x[:, rng.permutation(dims)[: min(dead, dims)]] = 0.5  # a dimension that never varies
    x = np.concatenate([x] * copies)  # a set with duplicated rows is singular in float64 as it is on paper
    assert frechet_distance(torch.from_numpy(x), torch.from_numpy(rng.permutation(x))) < 1e-9


@FAST
@given(SEEDS, st.integers(2, 60), st.integers(2, 60), st.integers(1, 30))
def test_frechet_distance_moves_as_its_formula_says(seed, count, others, dims):
    rng = np.random.default_rng(seed)
    x, y, shift = rng.normal(size=(count, dims)), 0.7 * rng.normal(size=(others, dims)), rng.normal(size=dims)
    turn = np.linalg.qr(rng.normal(size=(dims, dims)))[0]

    def distance(one, other):
        return frechet_distance(torch.from_numpy(one), torch.from_numpy(other))

    plain = distance(x, y)
    exactly = {"rel": 1e-9, "abs": 1e-9}
    assert distance(y, x) == pytest.approx(plain, **exactly)
    assert distance(x + shift, y + shift) == pytest.approx(plain, **exactly)
    assert distance(x @ turn, y @ turn) == pytest.approx(plain, **exactly)
    assert distance(3 * x, 3 * y) == pytest.approx(9 * plain, **exactly)
    assert distance(x, x + shift) == pytest.approx(shift @ shift, **exactly)


@pytest.mark.parametrize("rows_a_clip", [1, 5])
def test_debiased_frechet_distance_is_nearer_to_the_truth(rows_a_clip):
    dims, shift = 16, 0.2
    estimates = [
        estimate(FrechetDistance(), shift + normal(2 * i, 80, rows_a_clip, dims), normal(2 * i + 1, 80, rows_a_clip, dims))
        for i in range(20)
    ]
    truth = dims * shift**2  # unit Gaussians, apart by `shift` in every dimension
    plain = np.mean([one.value - truth for one in estimates])
    debiased = np.mean([one.debiased - truth for one in estimates])
    assert abs(debiased) < 0.2 * abs(plain)


@pytest.mark.parametrize("clips", [2, 3, 23])
def test_debiasing_a_frechet_distance_works_with_any_number_of_clips(clips):
    sides = [(normal(2 * i, clips, 40, 3), normal(2 * i + 1, clips, 40, 3)) for i in range(100)]
    estimates = [estimate(FrechetDistance(), *pair) for pair in sides]
    assert abs(np.mean([one.debiased for one in estimates])) < 0.15 * np.mean([one.value for one in estimates])  # the truth is 0


# ---------------------------------------------------------------- kernel distances


def reference_mmd(x: np.ndarray, y: np.ndarray, kernel) -> float:
    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(one, 2)]) for one in (x, y)]
    return sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y])


# 28 and 36 distances: the median is the lower of the two middle ones; where most clips are equal it is 0, the least other counts
@pytest.mark.parametrize(("others", "equal"), [(8, 0), (9, 0), (9, 7)])
def test_kad_is_its_definition_with_the_references_bandwidth(others, equal):
    x, y = normal(0, 12, 5, mean=0.5, spread=2), normal(1, others, 5)
    y[:equal] = y[0]
    distances = np.sort([np.linalg.norm(a - b) for a, b in itertools.combinations(y, 2)])
    bandwidth = distances[(len(distances) - 1) // 2] or distances[distances > 0][0]
    reference = 100 * reference_mmd(x, y, lambda a, b: np.exp(-(np.linalg.norm(a - b) ** 2) / (2 * bandwidth**2)))
    assert value(KAD(), x, y) == pytest.approx(reference, rel=1e-9)


def test_kid_is_its_definition():
    x, y = normal(0, 12, 5, mean=0.5), normal(1, 9, 5)
    assert value(KID(), x, y) == pytest.approx(reference_mmd(x, y, lambda a, b: (a @ b / 5 + 1) ** 3), rel=1e-9)


def test_kernel_distances_average_the_rows_of_a_clip():
    x, y = normal(0, 12, 4, 5), normal(1, 9, 4, 5)
    for metric in (KAD, KID):
        means = [rows(one.mean(axis=1)) for one in (x, y)]
        assert value(metric(), x, y) == pytest.approx(metric().measure(*means).value, rel=1e-9)


@FAST
@given(SEEDS, st.integers(2, 30), st.integers(2, 30), st.integers(1, 20), st.floats(0.01, 100))
def test_kad_does_not_see_translation_rotation_or_scale(seed, count, others, dims, scale):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(count, dims)), rng.normal(size=(others, dims))
    turn = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
    plain = KAD().measure(rows(x), rows(y)).value
    moved = KAD().measure(rows(scale * x @ turn + 3.0), rows(scale * y @ turn + 3.0)).value
    assert moved == pytest.approx(plain, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("metric", [KAD(), KID()])
@pytest.mark.parametrize("count", [5, 30])
def test_kernel_distances_have_no_bias_and_may_be_negative(metric, count):
    values = [metric.measure(rows(normal(2 * i, count, 4)), rows(normal(2 * i + 1, count, 4))).value for i in range(400)]
    assert min(values) < 0
    assert abs(np.mean(values)) < 3 * scipy.stats.sem(values)


def test_kad_of_recordings_that_are_all_the_same_is_finite():
    assert np.isfinite(value(KAD(), normal(0, 6, 3), np.ones((7, 3))))
    assert np.isfinite(value(KAD(), normal(0, 6, 3), np.eye(7, 3)))  # most distances are 0


# ---------------------------------------------------------------- classifiers


def reference_inception(logits: np.ndarray) -> float:
    p = scipy.special.softmax(logits, axis=1)
    return np.exp(scipy.special.rel_entr(p, p.mean(axis=0)).sum(axis=1).mean())


@FAST
@given(SEEDS, st.integers(2, 60), st.integers(2, 30), st.floats(0, 10))
def test_inception_score_is_its_definition_and_lies_between_one_and_its_ceilings(seed, count, classes, clarity):
    logits = clarity * np.random.default_rng(seed).normal(size=(count, classes))
    score = InceptionScore().measure(rows(logits)).value
    assert score == pytest.approx(reference_inception(logits), rel=1e-9)
    assert 1 - 1e-12 <= score <= min(count, classes) + 1e-9


@pytest.mark.parametrize("splits", [2, 10])
def test_inception_score_of_splits_is_the_mean_over_them(splits):
    logits = normal(0, 57, 12, spread=3)
    metric = InceptionScore(splits=splits)
    taken = fed(metric, logits).gathered()[0].values.numpy().astype(np.float64)  # in the order of their names
    order = torch.randperm(57, generator=seeding.generator(0, "splits")).numpy()
    scores = [reference_inception(taken[order[part * 57 // splits : (part + 1) * 57 // splits]]) for part in range(splits)]
    estimated = metric.measure(rows(taken))
    assert estimated.value == pytest.approx(np.mean(scores), rel=1e-9)
    assert estimated.details["std_over_splits"] == pytest.approx(np.std(scores), rel=1e-9)
    assert not InceptionScore().measure(rows(taken)).details


def test_inception_score_of_certain_clips_counts_their_classes():
    kinds = np.arange(40) % 7
    assert value(InceptionScore(), 200.0 * np.eye(7)[kinds]) == pytest.approx(7, rel=0.01)
    assert value(InceptionScore(), np.ones((40, 7))) == pytest.approx(1.0, abs=1e-12)
    low, high = InceptionScore().measure(rows(normal(0, 40, 7, spread=0.1))).interval()
    assert 1 <= low < high < 1.1
    assert InceptionScore.higher_is_better


def test_inception_score_of_too_few_clips_is_refused():
    with pytest.raises(InputError, match="at least 20 clips"):
        value(InceptionScore(splits=10), normal(0, 19, 5))
    assert InceptionScore(splits=10).measure(rows(normal(0, 20, 5))).value > 1
    with pytest.raises(InputError, match="splits is 0; give at least 1"):
        InceptionScore(splits=0)


@pytest.mark.parametrize(("clips", "covers"), [(23, False), (24, True)])
def test_inception_score_of_fewer_than_three_clips_a_unit_does_not_cover(clips, covers):
    certain = 200.0 * np.eye(7)[np.arange(clips) % 7]  # debiased a little below 8
    estimated = InceptionScore().measure(rows(certain))
    assert estimated.covers == covers
    assert estimated.interval() is None  # all of it lies above the number of classes
    needed = f"{clips} clips cannot resolve it; about {3 * estimated.debiased:.0f} would"
    assert estimated.caution == ("" if covers else needed)


def test_kl_divergence_is_that_of_recorded_from_generated():
    x, y = normal(0, 30, 12, spread=3), normal(1, 30, 12, spread=3)
    p, q = (scipy.special.softmax(one, axis=1) for one in (y, x))
    assert value(KLDivergence(), x, y) == pytest.approx(np.mean(scipy.special.rel_entr(p, q).sum(axis=1)), rel=1e-9)


@pytest.mark.parametrize("sigmoid", [False, True])
def test_kl_divergence_with_epsilon_is_the_compared_programs(sigmoid):
    x, y = normal(0, 30, 12, spread=3), normal(1, 30, 12, spread=3)
    p, q = (scipy.special.expit(one) if sigmoid else scipy.special.softmax(one, axis=1) for one in (y, x))
    reference = np.mean((p * np.log(p / (q + 1e-6))).sum(axis=1))
    assert value(KLDivergence(epsilon=1e-6, sigmoid=sigmoid), x, y) == pytest.approx(reference, rel=1e-9)


@FAST
@given(SEEDS, st.integers(1, 20), st.integers(1, 30), st.floats(0, 1000))
def test_kl_divergence_is_zero_for_itself_and_never_negative(seed, count, classes, clarity):
    rng = np.random.default_rng(seed)
    x, y = clarity * rng.normal(size=(2, count, classes))
    assert KLDivergence().measure(rows(x), rows(x)).value == pytest.approx(0, abs=1e-9)
    assert -1e-12 <= KLDivergence().measure(rows(x), rows(y)).value < np.inf


# ---------------------------------------------------------------- neighbours


@pytest.mark.parametrize("k", [1, 5])
def test_neighbour_metrics_are_their_definitions(k):
    x, y = normal(0, 23, 3, mean=0.3, spread=0.8), normal(1, 31, 3)

    def radius(one, others):
        return sorted(np.linalg.norm(one - other) for other in others)[k]  # at 0 stands the clip itself

    ball_x, ball_y = [radius(one, x) for one in x], [radius(one, y) for one in y]
    apart = [[np.linalg.norm(a - b) for b in y] for a in x]
    in_y = np.array([[apart[i][j] <= ball_y[j] for j in range(31)] for i in range(23)])
    in_x = np.array([[apart[i][j] <= ball_x[i] for j in range(31)] for i in range(23)])
    assert value(Precision(k=k), x, y) == pytest.approx(in_y.any(axis=1).mean())
    assert value(Recall(k=k), x, y) == pytest.approx(in_x.any(axis=0).mean())
    assert value(Density(k=k), x, y) == pytest.approx(in_y.sum() / (k * 23))
    assert value(Coverage(k=k), x, y) == pytest.approx(in_y.any(axis=0).mean())


@FAST
@given(SEEDS, st.integers(6, 40), st.integers(1, 20))
def test_a_set_covers_itself_and_nothing_far_away(seed, count, dims):
    x = np.random.default_rng(seed).normal(size=(count, dims))
    for metric in (Precision(), Recall(), Coverage()):
        assert metric.measure(rows(x), rows(x)).value == 1
        assert metric.measure(rows(x), rows(x + 1000)).value == 0
    assert Density().measure(rows(x), rows(x)).value >= 1
    assert Density().measure(rows(x), rows(x + 1000)).value == 0


def test_a_ball_needs_more_clips_than_neighbours():
    with pytest.raises(InputError, match="more than 5 clips"):
        value(Precision(), normal(0, 9, 2), normal(1, 5, 2))
    with pytest.raises(InputError, match="Precision: k is 0; give at least 1"):
        Precision(k=0)


# ---------------------------------------------------------------- text, loss, spectra


def test_clap_score_is_the_mean_cosine():
    cosines = normal(0, 30, 1, spread=0.2)
    assert value(CLAPScore(), cosines) == pytest.approx(cosines.mean(), rel=1e-12)


def test_retention_is_the_mean_change_of_the_clap_score():
    adapted, base = normal(0, 30, 1, spread=0.2), normal(1, 30, 1, spread=0.2)
    estimated = estimate(Retention(), adapted, base)
    assert estimated.value == pytest.approx(adapted.mean() - base.mean(), rel=1e-9)
    assert estimated.details == pytest.approx({"adapted": adapted.mean(), "base": base.mean()})


def test_held_out_loss_is_the_mean_over_clips_in_float64():
    losses = torch.from_numpy(normal(0, 90) + 1e4).float()
    metric = HeldOutLoss()
    metric.update([f"clip {i}" for i in range(90)], losses[:, None])
    assert metric.compute().item() == pytest.approx(losses.double().mean().item(), rel=1e-15)


def reference_lsd(generated: np.ndarray, recorded: np.ndarray, rate: int) -> float:
    n_fft, hop = 2048 * rate // 44_100, rate // 100
    window = scipy.signal.get_window("hann", n_fft)

    def power(samples):
        padded = np.pad(samples, n_fft // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
        return np.abs(np.fft.rfft(frames * window, axis=1)) ** 2

    ratio = np.log10(power(recorded) / power(generated))
    return np.sqrt((ratio**2).mean(axis=1)).mean()


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_log_spectral_distance_is_its_definition_over_the_common_length(rate):
    generated, recorded = 0.1 * normal(0, 3, 8000), 0.2 * normal(1, 3, 7900)
    metric = LogSpectralDistance()
    sides = [AudioBatch(["a", "b", "c"], torch.from_numpy(one).float(), rate) for one in (generated, recorded)]
    metric.update(*sides)
    heard = [one.waveform[:, :7900].double().numpy() for one in sides]
    reference = np.mean([reference_lsd(one, other, rate) for one, other in zip(*heard, strict=True)])
    assert metric.compute().item() == pytest.approx(reference, rel=1e-5)


def test_a_tenth_of_the_level_is_a_log_spectral_distance_of_two():
    clips = batch(0.3 * normal(0, 4, 8000))
    metric = LogSpectralDistance()
    metric.update(AudioBatch(clips.ids, clips.waveform / 10, RATE), clips)
    assert metric.compute().item() == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("silent", [0, 2000, 8000])
def test_log_spectral_distance_of_a_clip_from_itself_is_zero_also_where_it_is_silent(silent):
    clip = 0.3 * normal(0, 1, 8000)
    clip[:, :silent] = 0
    metric = LogSpectralDistance()
    metric.update(batch(clip), batch(clip))
    assert metric.compute().item() == pytest.approx(0, abs=1e-6)


# ---------------------------------------------------------------- what a value does not hang on

EVERY = [
    FrechetDistance(), KAD(), KID(), InceptionScore(), InceptionScore(splits=5), KLDivergence(), Precision(), Recall(), Density(),
    Coverage(), CLAPScore(), Retention(),
]  # fmt: skip
PAIRED = [KLDivergence(), Retention()]


class OneSided(ClipMetric):
    def measure(self, preds):
        return Estimate.of_mean(preds.values[:, 0])


def test_a_measure_that_does_not_take_the_sides_is_refused_with_its_signature():
    with pytest.raises(InputError, match=r"^OneSided: .*cannot be called .*write it as def measure\(self, preds, target\)"):
        OneSided()


def name(metric: ClipMetric) -> str:
    return type(metric).__name__


@pytest.mark.parametrize("metric", [*EVERY[:3], *EVERY[5:10]], ids=name)
def test_clips_near_their_recordings_are_better_than_clips_far_away(metric):
    target, values = 3 * normal(0, 30, 12), []
    for distance in (0.01, 30):
        metric.reset()
        values.append(value(metric, target + distance * np.eye(12)[0], target))
    near, far = values
    assert near > far if metric.higher_is_better else near < far


@pytest.mark.parametrize("metric", EVERY, ids=name)
def test_order_batches_and_clips_that_came_twice_change_no_bit(metric):
    metric.reset()
    values = {"preds": normal(0, 40, 3, 4), "target": 0.2 + normal(1, 40, 3, 4)}
    sides = [values[side] for side in metric.sides]
    plain = value(metric, *sides)
    metric.reset()
    rng = np.random.default_rng(0)
    for side, clips in zip(metric.sides, sides, strict=True):
        order = np.concatenate([rng.permutation(40), rng.integers(0, 40, 9)])
        for part in np.array_split(order, 7):
            metric.update(**{side: batch(clips[part], [f"clip {i}" for i in part])})
    assert metric.compute().item() == plain


def test_different_clips_of_one_id_are_refused_by_its_name():
    metric = KAD(Samples(1))
    metric.update(batch(normal(0, 8, 4)), batch(normal(1, 4, 4)))
    metric.update(None, batch(normal(2, 4, 4), ["clip 4", "clip 5", "clip 2", "clip 6"]))
    with pytest.raises(InputError, match="`target`: different clips share the id 'clip 2'; give each clip an id of its own"):
        metric.compute()


@pytest.mark.parametrize("metric", EVERY, ids=name)
def test_measuring_draws_nothing_from_the_global_generator(metric):
    metric.reset()
    before = torch.get_rng_state()
    estimated = estimate(metric, *[normal(i, 40, 3) for i in range(len(metric.sides))])
    assert estimated.interval(seed=3) == estimated.interval(seed=3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("metric", EVERY, ids=name)
def test_a_metric_without_clips_says_so(metric):
    metric.reset()
    with pytest.raises(InputError, match=f"{name(metric)}: was given no clips as `preds`"):
        metric.gathered()


@pytest.mark.parametrize("metric", PAIRED, ids=name)
def test_generated_clips_without_their_recording_are_refused(metric):
    metric.reset()
    fed(metric, normal(0, 10, 4), normal(1, 8, 4))
    with pytest.raises(InputError, match="2 of 10 generated clips have no recording"):
        metric.compute()


@pytest.mark.parametrize("metric", PAIRED, ids=name)
def test_recordings_without_a_generated_clip_are_left_aside(metric):
    x, y = normal(0, 8, 1), normal(1, 10, 1)
    metric.reset()
    alone = value(metric, x, y[:8])
    metric.reset()
    assert value(metric, x, y) == alone


@pytest.mark.parametrize("other", [None, batch(normal(0, 2, 800), ["clip 0", "clip 7"])], ids=["alone", "another"])
def test_log_spectral_distance_refuses_clips_that_are_no_pairs(other):
    metric = LogSpectralDistance()
    metric.update(batch(normal(0, 2, 800)), other)
    with pytest.raises(InputError, match="2 of 2 generated clips have no recording"):
        metric.compute()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (
            (batch(normal(0, 1, 800)), AudioBatch(["clip 0"], torch.ones(1, 800), 8000)),
            "at 16000 Hz, its recording at 8000 Hz; res",
        ),
        ((torch.ones(1, 800), torch.ones(1, 800)), "`preds`: is a tensor without a sample rate"),
        ((torch.ones(800), torch.ones(800), None, None, RATE), r"`preds`: has the shape \(800,\); give waveforms"),
        ((None, batch(normal(0, 1, 800))), "was given no clips as `preds`"),
    ],
)
def test_what_has_no_log_spectral_distance_is_refused(given, reason):
    metric = LogSpectralDistance()
    with pytest.raises(InputError, match=reason):
        (metric.update(*given), metric.compute())


def test_clips_without_caption_have_no_clap_score():
    metric = CLAPScore(Wordless())
    metric.update(batch(normal(0, 3, 1)))
    with pytest.raises(InputError, match="`preds`: 3 of 3 clips have no similarity, as they have no caption"):
        metric.compute()


def test_features_that_an_extractor_has_not_are_refused_at_once():
    with pytest.raises(InputError, match="no features 'logit'; use embedding, logits"):
        KLDivergence(Samples(2), features="logit")


def test_features_that_are_not_finite_are_refused():
    metric = KAD(Samples(1))
    values = normal(0, 4, 1)
    values[2] = np.nan
    metric.update(batch(values), batch(normal(1, 4, 1)))
    with pytest.raises(InputError, match="`preds`: 1 of 4 clips have no embedding"):
        metric.compute()


# ---------------------------------------------------------------- influence


def without(one: Rows, clip: int) -> Rows:
    kept = torch.ones(one.num_clips, dtype=torch.bool)
    kept[clip] = False
    return one.take(kept)


def left_out(metric: ClipMetric, *sides: Rows, clips: int | None = None) -> list[np.ndarray]:
    """The jackknife's deviations of the first clips of each side: -(N - 1) times what a clip's absence does to the value."""
    whole, deviations = metric.measure(*sides).value, []
    for number, side in enumerate(sides):
        parts = [without(side, clip) for clip in range(clips or side.num_clips)]
        values = [metric.measure(*sides[:number], part, *sides[number + 1 :]).value for part in parts]
        deviations.append((1 - side.num_clips) * (np.array(values) - whole))
    return deviations


@pytest.mark.parametrize("rows_a_clip", [1, 3])
def test_influence_on_a_frechet_distance_is_what_leaving_a_clip_out_does(rows_a_clip):
    spread, clip = torch.tensor([1.0, 2.0, 3.0]), torch.arange(2000 * rows_a_clip) // rows_a_clip
    sides = [Rows(0.3 * i + spread**i * torch.from_numpy(normal(i, len(clip), 3)), clip, clip.unique()) for i in range(2)]
    influence = FrechetDistance().measure(*sides).influence
    for ours, reference in zip(influence, left_out(FrechetDistance(), *sides, clips=40), strict=True):
        assert ours.mean().item() == pytest.approx(0, abs=1e-9)
        assert ours[:40].numpy() == pytest.approx(reference, rel=0.02, abs=0.02 * ours.std().item())


@pytest.mark.parametrize("metric", [KLDivergence(), CLAPScore(), Retention(), KID()], ids=name)
def test_influence_on_means_and_kid_is_exactly_what_leaving_a_clip_out_does(metric):
    sides = [rows(normal(i, 12, 3)) for i in range(len(metric.sides))]
    influence = metric.measure(*sides).influence
    if metric.sides == ("preds", "target") and len(influence) == 1:  # a pair leaves as one
        whole = metric.measure(*sides).value
        expected = [np.array([-11 * (metric.measure(*(without(side, i) for side in sides)).value - whole) for i in range(12)])]
    else:
        expected = left_out(metric, *sides)
    for ours, reference in zip(influence, expected, strict=True):
        assert ours.numpy() == pytest.approx(reference, abs=1e-9)


def test_influence_on_kad_is_what_leaving_a_clip_out_does():
    x, y = rows(0.5 + normal(0, 40, 3)), rows(normal(1, 40, 3))
    influence, expected = KAD().measure(x, y).influence, left_out(KAD(), x, y)
    assert influence[0].numpy() == pytest.approx(expected[0], abs=1e-9)
    # Leaving out a recording moves the bandwidth too, which the interval takes as given.
    assert np.corrcoef(influence[1].numpy(), expected[1])[0, 1] > 0.9


@pytest.mark.parametrize("count", [250, 600])
def test_influence_on_the_logarithm_of_an_inception_score_is_what_leaving_a_clip_out_does(count):
    clips = rows(2 * normal(0, count, 9))
    estimated, whole = InceptionScore().measure(clips), np.log(InceptionScore().measure(clips).value)
    change = np.array([np.log(InceptionScore().measure(without(clips, i)).value) - whole for i in range(count)])
    expected = -(count - 1) * (change - change.mean())
    assert estimated.log
    assert estimated.influence[0].numpy() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("count", [2, 3, 9])
def test_influence_on_an_inception_score_of_few_clips_is_the_second_order_jackknifes(count):
    """Plainly, by leaving out one clip, and of what is left another; of two clips nothing would be left."""
    clips = normal(0, count, 5, spread=2)

    def plain(left: np.ndarray) -> float:
        return np.log(reference_inception(left))

    def jackknifed(left: np.ndarray) -> float:
        return len(left) * plain(left) - (len(left) - 1) * np.mean([plain(np.delete(left, i, 0)) for i in range(len(left))])

    of_all = jackknifed if count > 2 else plain
    pseudo = np.array([count * of_all(clips) - (count - 1) * of_all(np.delete(clips, i, 0)) for i in range(count)])
    estimated = InceptionScore().measure(rows(clips))
    assert np.log(estimated.debiased) == pytest.approx(pseudo.mean(), abs=1e-9)
    assert estimated.influence[0].numpy() == pytest.approx(pseudo - pseudo.mean(), abs=1e-9)


def test_debiased_inception_score_of_few_clips_is_nearer_to_the_truth():
    def drawn(count: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return 6.0 * np.eye(8)[rng.integers(0, 8, count)] + rng.normal(size=(count, 8))

    truth = np.log(reference_inception(drawn(100_000, 0)))
    estimates = [InceptionScore().measure(rows(drawn(25, seed))) for seed in range(1, 61)]
    plain = abs(np.mean([np.log(one.value) for one in estimates]) - truth)
    debiased = abs(np.mean([np.log(one.debiased) for one in estimates]) - truth)
    assert debiased < 0.2 * plain


# ---------------------------------------------------------------- intervals


@pytest.mark.parametrize(("hits", "count"), [(0, 20), (1, 20), (13, 20), (20, 20), (3, 7), (500, 1000)])
def test_the_interval_of_a_share_is_wilsons(hits, count):
    given_hits = torch.arange(count) < hits
    reference = scipy.stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert Estimate.of_share(given_hits).interval() == pytest.approx((reference.low, reference.high), abs=1e-7)


def test_clips_that_all_say_the_same_give_an_interval_of_no_width():
    assert Estimate(0.3, [torch.zeros(20)]).interval() == (0.3, 0.3)
    assert Estimate(0.3, [torch.zeros(20), torch.zeros(7)]).interval() == (0.3, 0.3)


def test_the_interval_hangs_on_the_seed_alone():
    influence = [torch.from_numpy(normal(0, 30)), torch.from_numpy(normal(1, 40))]
    intervals = [Estimate(1.0, influence).interval(seed) for seed in (0, 0, 1)]
    assert intervals[0] == intervals[1]
    assert intervals[0] != intervals[2]
    assert intervals[0] == pytest.approx(intervals[2], abs=0.05)


def test_the_interval_of_many_normal_numbers_is_students():
    numbers = normal(0, 300)
    reference = scipy.stats.t.interval(0.95, 299, numbers.mean(), scipy.stats.sem(numbers))
    low, high = Estimate.of_mean(torch.from_numpy(numbers)).interval()
    assert (low, high) == pytest.approx(reference, abs=0.1 * (reference[1] - reference[0]))


def test_the_interval_of_two_sides_adds_their_variances():
    sides = [normal(0, 300), 2 * normal(1, 500)]
    wide = Estimate(0.0, [torch.from_numpy(one - one.mean()) for one in sides]).interval()
    half = scipy.stats.norm.ppf(0.975) * np.sqrt(sum(scipy.stats.sem(one) ** 2 for one in sides))
    assert wide == pytest.approx((-half, half), rel=0.1)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_interval_of_skewed_numbers_reaches_further_to_their_tail(sign):
    numbers = sign * np.random.default_rng(0).exponential(size=40)
    below, above = sign * (Estimate.of_mean(torch.from_numpy(numbers)).interval() - numbers.mean())[::sign] * (-1, 1)
    assert above > 1.3 * below > 0


def test_an_interval_of_a_logarithm_is_positive_and_around_the_debiased_value():
    low, high = Estimate(2.0, [torch.from_numpy(normal(0, 20))], debiased=2.5, log=True).interval()
    assert 0 < low < 2.5 < high


def test_too_few_clips_or_too_few_rows_give_no_interval_and_no_debiased_value():
    few, enough = (torch.arange(count) - (count - 1) / 2 for count in (4, 5))
    assert Estimate(1.0, [few]).interval() is None
    assert Estimate(1.0, [enough]).interval() is not None
    assert Estimate(1.0, [torch.ones(40)], covers=False).interval() is None
    few = FrechetDistance().measure(rows(normal(0, 50, 8)), rows(normal(1, 50, 8)))
    assert few.interval() is None
    assert "an interval needs 80 rows of 32 clips" in few.caution
    assert FrechetDistance().measure(rows(normal(0, 80, 8)), rows(normal(1, 80, 8))).interval() is not None
    just, short = (estimate(FrechetDistance(), normal(0, clips, 3, 8), normal(1, clips, 3, 8)) for clips in (32, 31))
    assert just.interval() is not None
    assert short.interval() is None
    just, short = (estimate(FrechetDistance(), normal(0, clips, 8), normal(1, clips, 8)) for clips in (16, 15))
    assert just.debiased is not None
    assert short.debiased is None


@given(st.integers(0, 2**32 - 1), st.integers(5, 30), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_the_mean_over_candidates_is_the_estimate_of_every_clips_mean(seed, clips, candidates):
    values = torch.from_numpy(normal(seed, candidates, clips))
    mean, of_means = Estimate.mean([Estimate.of_mean(row) for row in values]), Estimate.of_mean(values.mean(dim=0))
    assert mean.value == pytest.approx(of_means.value, abs=1e-12)
    assert mean.interval() == pytest.approx(of_means.interval(), abs=1e-9)


def test_the_mean_over_candidates_has_an_interval_where_each_has_one():
    one = Estimate.of_mean(torch.arange(10.0))
    assert Estimate.mean([one, one]).interval() is not None
    assert Estimate.mean([one, replace(one, covers=False)]).interval() is None


def test_the_mean_over_candidates_of_a_logarithmic_metric_is_the_geometric_one():
    clips = [normal(seed, 40, 3, spread=3.0) for seed in range(3)]
    each = [InceptionScore().measure(rows(of_one)) for of_one in clips]
    mean = Estimate.mean(each)
    assert mean.value == pytest.approx(scipy.stats.gmean([one.value for one in each]))
    assert mean.centre == pytest.approx(np.mean([one.centre for one in each]))
