"""The copy meter: its formulas written out, and whether it finds planted copies and leaves independent sounds alone."""

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.audio_utils import mel_filter_bank

from audioldm_lit.errors import InputError
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.metrics.extractors.fingerprint import Fingerprint
from audioldm_lit.metrics.similarity import near_copy_threshold, shift_tolerant_similarity

RATE, HOP = 16_000, 320
FAST = settings(max_examples=60, deadline=None)


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fingerprint(waveform: torch.Tensor, rate: int = RATE) -> torch.Tensor:
    return Fingerprint()(AudioBatch(ids=(), waveform=waveform, sample_rate=rate))["embedding"]


# ---------------------------------------------------------------- fingerprint


def reference_fingerprint(waveform: np.ndarray) -> np.ndarray:
    """The formula in numpy, float64: (T,) -> (F, 47)."""
    padded = np.pad(waveform.astype(np.float64), 2048 + 4 * HOP)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2048)[::HOP]
    power = np.abs(np.fft.rfft(frames * scipy.signal.get_window("hann", 2048), axis=1)) ** 2
    mel = power @ mel_filter_bank(1025, 48, 50.0, 8000.0, RATE, norm=None, mel_scale="htk")
    log_mel = np.log(1 + mel / mel.max() * 10**2.5)
    return np.tanh([np.diff(log_mel[i + 4] - log_mel[i]) for i in range(len(log_mel) - 4)])


@pytest.mark.parametrize("length", [1, 700, RATE])
def test_the_fingerprint_equals_the_formula_in_numpy(length):
    waveform = 0.1 * rows(1, length)
    assert fingerprint(waveform)[0].numpy() == pytest.approx(reference_fingerprint(waveform[0].numpy()), abs=1e-4)


@pytest.mark.parametrize("gain", [1e-3, 0.25, 2.0, 100.0])
def test_gain_changes_nothing(gain):
    waveform = rows(2, 8000)
    assert torch.allclose(fingerprint(gain * waveform), fingerprint(waveform), atol=1e-4)


@pytest.mark.parametrize("level", [0.0, 1e-30])
def test_silence_is_all_zeros(level):
    assert fingerprint(level * rows(2, 8000)).abs().max() < 1e-3


@FAST
@given(st.integers(0, 40), st.integers(0, 40))
def test_zeros_around_a_clip_move_its_rows_and_change_none(before, after):
    waveform = rows(1, 4000, seed=before)
    alone, padded = fingerprint(waveform)[0], fingerprint(F.pad(waveform, (HOP * before, HOP * after)))[0]
    assert torch.allclose(padded[before : before + len(alone)], alone, atol=1e-4)
    assert float(padded.square().sum()) == pytest.approx(float(alone.square().sum()), rel=1e-4)


def test_the_passport_names_every_setting():
    settings = {"sample_rate", "n_fft", "hop_length", "n_mels", "f_min", "f_max", "floor", "span"}
    assert settings <= Fingerprint().passport().keys()


# ---------------------------------------------------------------- similarity


def reference_similarity(generated: np.ndarray, training: np.ndarray, max_shift: int) -> float:
    """The definition in loops: (F, M), (F', M)."""
    strongest = max(sum(row**2) for row in training)
    sounding = [t for t, row in enumerate(training) if sum(row**2) > 0.01 * strongest]
    reach = min(max_shift, max(len(generated), len(training)) - 1)
    values = []
    for shift in range(-reach, reach + 1):
        beneath = {t: generated[t + shift] for t in sounding if 0 <= t + shift < len(generated)}
        product = sum(float(training[t] @ row) for t, row in beneath.items())
        stretch = max(sum(float(row @ row) for row in beneath.values()), 0.25 * float((generated**2).sum()))
        whole = sum(float(training[t] @ training[t]) for t in sounding)
        values.append(product / np.sqrt(stretch * whole))
    return max(values)


@FAST
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), st.integers(0, 20), st.integers(0, 1000))
def test_similarity_equals_the_definition_in_loops(frames, other_frames, width, max_shift, seed):
    generated, training = rows(3, frames, width, seed=seed), rows(2, other_frames, width, seed=seed + 1)
    training[:, ::3] *= 0.05  # some frames too faint to count
    ours = shift_tolerant_similarity(generated, training, max_shift)
    assert ours.shape == (3, 2)
    for i, clip in enumerate(generated.double().numpy()):
        for j, wanted in enumerate(training.double().numpy()):
            assert float(ours[i, j]) == pytest.approx(reference_similarity(clip, wanted, max_shift), abs=1e-5)


def test_many_clips_at_once_are_as_one_at_a_time():
    generated, training = rows(203, 5, 2), rows(101, 7, 2, seed=1)
    together = shift_tolerant_similarity(generated, training, 4)
    assert together.shape == (203, 101)
    for i, j in [(0, 0), (99, 99), (100, 100), (202, 100), (150, 3)]:
        alone = shift_tolerant_similarity(generated[i : i + 1], training[j : j + 1], 4)
        assert float(together[i, j]) == pytest.approx(float(alone), abs=1e-5)


@FAST
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60), st.integers(0, 60))
def test_a_copy_anywhere_within_the_largest_shift_is_one(before, after, other_before, other_after):
    clip = rows(1, 20, 4)
    moved = F.pad(clip, (0, 0, before, after))
    wanted = F.pad(clip, (0, 0, other_before, other_after))
    assert float(shift_tolerant_similarity(moved, wanted, 60)) == pytest.approx(1, abs=1e-5)


def test_a_copy_beyond_the_largest_shift_is_not_found():
    clip = rows(1, 20, 4)
    far = F.pad(clip, (0, 0, 30, 0))
    assert float(shift_tolerant_similarity(far, clip, 30)) > 0.99
    assert float(shift_tolerant_similarity(far, clip, 29)) < 0.5


def test_what_sounds_before_and_after_a_copy_does_not_hide_it():
    clip = rows(1, 50, 8)
    among_others = torch.cat([rows(1, 50, 8, seed=1), clip, rows(1, 50, 8, seed=2)], dim=1)
    assert float(shift_tolerant_similarity(among_others, clip)) == pytest.approx(1, abs=1e-4)
    assert float(shift_tolerant_similarity(clip, among_others)) < 0.7  # a third of the training clip is no copy of it


@pytest.mark.parametrize("silent", ["generated", "training", "both"])
def test_silence_is_like_nothing(silent):
    sound, silence = rows(2, 10, 4), torch.zeros(2, 10, 4)
    sides = (sound if silent == "training" else silence, sound if silent == "generated" else silence)
    assert shift_tolerant_similarity(*sides).abs().max() < 1e-6


def test_wrong_rows_and_shifts_are_one_sentence():
    with pytest.raises(InputError, match="training clips: have 4 and 5 numbers"):
        shift_tolerant_similarity(rows(1, 10, 4), rows(1, 10, 5))
    with pytest.raises(InputError, match="generated and training clips: are 0 and 1"):
        shift_tolerant_similarity(rows(0, 10, 4), rows(1, 10, 4))
    with pytest.raises(InputError, match="max_shift_frames: is -1"):
        shift_tolerant_similarity(rows(1, 10, 4), rows(1, 10, 4), -1)


# ---------------------------------------------------------------- threshold


@pytest.mark.parametrize("count", [2, 8, 80])
def test_the_threshold_is_a_normal_bound_on_fishers_scale(count):
    scores = np.linspace(0.5, 0.65, count)
    z = np.arctanh(scores)
    expected = np.tanh(z.mean() + 2.5 * scipy.stats.tstd(z) * np.sqrt(1 + 1 / count))
    assert 0.55 < expected < 0.95
    assert float(near_copy_threshold(torch.from_numpy(scores))) == pytest.approx(expected)


@FAST
@given(st.lists(st.floats(-0.1, 1), max_size=20))
def test_the_threshold_stays_between_its_bounds(scores):
    assert 0.55 <= float(near_copy_threshold(torch.tensor(scores))) <= 0.95


def test_a_held_out_copy_of_a_training_clip_does_not_hide_others():
    scores = torch.linspace(0.4, 0.6, 10)
    assert near_copy_threshold(torch.cat([scores, torch.tensor([0.97, 1.0])])) == near_copy_threshold(scores)


# ---------------------------------------------------------------- both on sounds


def noise_bursts(rng: np.random.Generator) -> np.ndarray:
    sound = np.zeros(2 * RATE)
    for start in rng.integers(0, len(sound) - 4000, 4):
        sound[start : start + 4000] += rng.normal(size=4000) * np.hanning(4000)
    return sound


def chirps(rng: np.random.Generator) -> np.ndarray:
    time = np.arange(2 * RATE) / RATE
    return sum(scipy.signal.chirp(time, rng.uniform(100, 6000), 2, rng.uniform(100, 6000)) for _ in range(3))


def clicks(rng: np.random.Generator) -> np.ndarray:
    train = (rng.random(2 * RATE) < 6 / RATE) * rng.uniform(0.3, 1, 2 * RATE)
    train[rng.integers(RATE)] = 1
    body = rng.normal(size=1600) * np.exp(-np.arange(1600) / rng.uniform(80, 400))
    return np.convolve(train, body)[: 2 * RATE]


def pulsing_noise(rng: np.random.Generator) -> np.ndarray:
    time = np.arange(2 * RATE) / RATE
    return rng.normal(size=len(time)) * (1 + 0.9 * np.sin(2 * np.pi * rng.uniform(3, 8) * time))


def steady_noise(rng: np.random.Generator) -> np.ndarray:
    return scipy.signal.lfilter([1], [1, -0.7], rng.normal(size=2 * RATE))


KINDS = [noise_bursts, chirps, clicks, pulsing_noise, steady_noise]
DELAYS = [-RATE, -5000, -160, 160, 777, RATE]  # samples; 160 is half a hop


def sounds(kind, count: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    return torch.stack([torch.from_numpy(kind(rng)).float() for _ in range(count)])


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def meter(request):
    training = F.pad(sounds(request.param, 8, seed=0), (RATE, RATE))
    embedded = fingerprint(training)

    def nearest(clips: torch.Tensor) -> torch.Tensor:
        return shift_tolerant_similarity(fingerprint(clips), embedded).amax(dim=1)

    return request.param, training, nearest, near_copy_threshold(nearest(sounds(request.param, 8, seed=1)))


def test_independent_sounds_of_one_kind_are_not_flagged(meter):
    kind, _, nearest, threshold = meter
    assert not (nearest(sounds(kind, 50, seed=2)) > threshold).any()


@pytest.mark.parametrize(("snr", "gain"), [(10, 0.25), (None, 2.0)])  # in dB
@pytest.mark.parametrize("delay", [0, *DELAYS])
def test_copies_are_flagged_whatever_is_done_to_them(meter, delay, snr, gain):
    _, training, nearest, threshold = meter
    copies = F.pad(training, (delay, -delay))
    if snr is not None:
        rms = training[:, RATE:-RATE].square().mean(dim=1, keepdim=True).sqrt()
        copies = copies + 10 ** (-snr / 20) * rms * rows(*copies.shape, seed=3)
    assert (nearest(gain * copies) > threshold).all()
