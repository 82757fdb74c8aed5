"""Near duplicates among many clips: which are found, which are not, and what the search costs in memory."""

import io
import resource
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import soundfile
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from audioldm_lit.audio.waveform import resample
from audioldm_lit.errors import InputError
from audioldm_lit.health import duplicates
from audioldm_lit.health.duplicates import DuplicateSearch, describe, near_duplicate_threshold, nearest, whiten
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.metrics.extractors.fingerprint import Fingerprint

RATE = 16_000
SOUNDS = 24
FAST = settings(max_examples=40, deadline=None)


def sound(seed: int, seconds: float = 3.0) -> torch.Tensor:
    """Bursts of coloured noise at random times, with two chirps."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    samples = np.zeros(len(time))
    for start in rng.integers(0, len(time) - 4000, int(4 * seconds)):
        low = rng.uniform(100, 4000)
        band = scipy.signal.butter(2, [low, 1.7 * low], "bandpass", fs=RATE, output="sos")
        samples[start : start + 4000] += 3 * scipy.signal.sosfilt(band, rng.normal(size=4000)) * np.hanning(4000)
    for _ in range(2):
        start, length = rng.uniform(0, seconds - 0.6), rng.uniform(0.2, 0.6)
        during = (time > start) & (time < start + length)
        samples += 0.2 * during * scipy.signal.chirp(time - start, rng.uniform(200, 6000), length, rng.uniform(200, 6000))
    return torch.from_numpy(0.1 * samples).float()


def noisy(snr: float):
    def add(clip: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(len(clip))
        return clip + 10 ** (-snr / 20) * clip.square().mean().sqrt() * torch.randn(clip.shape, generator=generator)

    return add


def encoded(kind: str, subtype: str):
    def encode(clip: torch.Tensor) -> torch.Tensor:
        file = io.BytesIO()
        soundfile.write(file, clip.numpy(), RATE, format=kind, subtype=subtype)
        file.seek(0)
        return torch.from_numpy(soundfile.read(file, dtype="float32")[0])

    return encode


DEEDS = {
    "exact": lambda clip: clip,
    "quieter": lambda clip: 0.1 * clip,
    "shifted": lambda clip: F.pad(clip, (20_000, 0)),
    "shifted by half a frame": lambda clip: F.pad(clip, (160, 0)),
    "trimmed at its start": lambda clip: clip[16_000:],
    "trimmed at its end": lambda clip: clip[:-16_000],
    "ogg": encoded("OGG", "VORBIS"),
    "mp3": encoded("MP3", "MPEG_LAYER_III"),
    "resampled": lambda clip: resample(resample(clip, RATE, 11_025), 11_025, RATE),
    "noise at 20 dB": noisy(20),
    "noise at 10 dB": noisy(10),
    "trimmed, quieter, noise at 20 dB": lambda clip: noisy(20)(0.3 * clip[8_000:-8_000]),
}


@pytest.fixture(scope="module")
def sounds() -> list[torch.Tensor]:
    return [sound(seed) for seed in range(SOUNDS)]


def search(folder, clips) -> DuplicateSearch:
    found = DuplicateSearch(len(clips), folder)
    for index, clip in enumerate(clips):
        found.add(index, clip)
    return found


def names(count: int) -> list[str]:
    return [f"source {i}" for i in range(count)]


def numbers(result) -> set[tuple[int, int]]:
    return {(i, j) for i, j, _ in result.pairs}


# ---------------------------------------------------------------- what is found


@pytest.mark.parametrize("deed", DEEDS)
def test_every_clip_is_paired_with_its_copy_and_nothing_else_is(tmp_path, sounds, deed):
    clips = [*sounds, *map(DEEDS[deed], sounds)]
    result = search(tmp_path, clips).pairs(names(len(clips)))
    assert numbers(result) == {(i, i + SOUNDS) for i in range(SOUNDS)}
    similarities = [similarity for _, _, similarity in result.pairs]
    assert similarities == sorted(similarities, reverse=True)
    assert similarities[-1] > result.threshold
    assert 0.55 <= result.threshold <= 0.95


def test_independent_clips_are_no_pairs(tmp_path, sounds):
    assert not search(tmp_path, sounds).pairs(names(SOUNDS)).pairs


def test_clips_of_one_source_are_paired_too(tmp_path, sounds):
    clips = [sounds[0], *sounds]
    assert numbers(search(tmp_path, clips).pairs(["one"] * len(clips))) == {(0, 1)}


def test_every_one_of_thirty_copies_is_in_a_pair(tmp_path, sounds):
    clips = [*(noisy(25)(sounds[0]) * gain for gain in np.linspace(0.1, 1, 30)), *sounds[1:]]
    pairs = numbers(search(tmp_path, clips).pairs(names(len(clips))))
    assert {i for pair in pairs for i in pair} == set(range(30))


def test_a_short_clip_is_found_among_long_ones(tmp_path, sounds):
    clips = [sounds[0], *(sound(100 + i, 8) for i in range(8)), sound(200, 0.6), F.pad(sound(200, 0.6), (RATE, 7 * RATE))]
    assert numbers(search(tmp_path, clips).pairs(names(len(clips)))) == {(9, 10)}


def test_a_long_clip_is_known_by_its_first_thirty_seconds(tmp_path):
    beginning, *ends = sound(0, 30), sound(1, 4), sound(2, 9)
    clips = [torch.cat([beginning, end]) for end in ends]
    found = search(tmp_path, [*clips, *(sound(3 + i) for i in range(4))])
    assert found.frames.max() < 1520
    assert numbers(found.pairs(names(6))) == {(0, 1)}


# ---------------------------------------------------------------- what is left out


@pytest.mark.parametrize("silence", [torch.zeros(RATE), torch.full((RATE,), 1e-30), torch.zeros(1)])
def test_silence_is_a_duplicate_of_nothing(tmp_path, sounds, silence):
    clips = [silence, sounds[0], silence, sounds[0], *sounds[1:4]]
    assert numbers(search(tmp_path, clips).pairs(names(len(clips)))) == {(1, 3)}


def test_clips_never_added_are_in_no_pair(tmp_path, sounds):
    found = DuplicateSearch(50, tmp_path)
    for index, clip in [(40, sounds[1]), (7, sounds[0]), (9, sounds[1]), (49, sounds[2])]:
        found.add(index, clip)
    assert numbers(found.pairs(names(50))) == {(9, 40)}


@pytest.mark.parametrize("added", [0, 1])
def test_fewer_than_two_clips_are_no_pairs(tmp_path, sounds, added):
    result = search(tmp_path, sounds[:added]).pairs(names(added))
    assert result.pairs == ()
    assert result.threshold == 0.55


# ---------------------------------------------------------------- order, threads, files


@settings(max_examples=5)
@given(order=st.permutations(range(12)))
def test_neither_order_nor_threads_change_what_is_found(tmp_path_factory, sounds, order):
    clips = [*sounds[:8], *(noisy(20)(clip) for clip in sounds[:4])]
    expected = search(tmp_path_factory.mktemp("search"), clips).pairs(names(12))
    found = DuplicateSearch(12, tmp_path_factory.mktemp("search"))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda i: found.add(i, clips[i]), order))
        result = found.pairs(names(12), pool.map)
    assert numbers(result) == numbers(expected)
    assert result.threshold == pytest.approx(expected.threshold)
    assert [one[2] for one in result.pairs] == pytest.approx([one[2] for one in expected.pairs], abs=1e-5)


def test_progress_rises_to_the_whole(tmp_path, sounds):
    seen = []
    search(tmp_path, sounds).pairs(names(SOUNDS), advance=lambda done, of: seen.append((done, of)))
    done, of = zip(*seen, strict=True)
    assert list(done) == sorted(set(done))
    assert set(of) == {done[-1]}


def test_fingerprints_come_back_from_disk_as_they_were(tmp_path, sounds):
    clips = [sounds[0], sounds[1][:20_000], sounds[2]]
    found = search(tmp_path, clips)
    for index, clip in enumerate(clips):
        alone = search(tmp_path, [clip])
        assert torch.equal(found.rows(index), alone.rows(0))
        whole = Fingerprint().extract(AudioBatch(ids=(), waveform=clip[None], sample_rate=RATE))["embedding"][0]
        assert (found.rows(index) - whole).abs().max() <= 0.5 / 127 + 1e-6


def test_no_file_is_left_behind(tmp_path, sounds):
    found = search(tmp_path / "new", sounds[:3])
    found.pairs(names(3))
    del found
    assert not list((tmp_path / "new").iterdir())


def test_what_is_wrong_is_one_sentence(tmp_path, sounds):
    with pytest.raises(InputError, match=r"^sources: are 2 for 3 clips; give one a clip\.$"):
        search(tmp_path, sounds[:3]).pairs(names(2))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot hold a temporary file"):
        DuplicateSearch(3, tmp_path / "file")


# ---------------------------------------------------------------- the parts


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@FAST
@given(st.integers(1, 40), st.integers(0, 30), st.integers(0, 30), st.floats(0.01, 100), st.integers(0, 99))
def test_neither_shift_nor_scale_changes_a_description(frames, before, after, scale, seed):
    rows, filters = normal(frames, 5, seed=seed), normal(12, 5, 4)
    moved = scale * F.pad(rows, (0, 0, before, after))
    assert torch.allclose(describe(moved, filters), describe(rows, filters), atol=1e-5)
    assert float(describe(rows, filters).norm()) == pytest.approx(1, abs=1e-5)


@FAST
@given(st.integers(0, 30), st.integers(1, 12), st.integers(1, 200), st.integers(0, 99))
def test_nearest_in_blocks_is_nearest_by_sorting(clips, count, cells, seed):
    vectors = normal(clips, 6, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "CELLS", cells)
        found = nearest(vectors, count)
    assert found.shape == (clips, max(0, min(count, clips - 1)))
    for i, row in enumerate(found.tolist()):
        order = sorted((j for j in range(clips) if j != i), key=lambda j: -float(vectors[i] @ vectors[j]))
        assert row == order[:count]


@FAST
@given(st.integers(1, 40), st.booleans(), st.integers(0, 99))
def test_whitened_descriptions_are_finite_and_of_length_one_or_zero(clips, equal, seed):
    descriptions = F.normalize(normal(1 if equal else clips, 16, seed=seed).abs(), dim=1).expand(clips, 16)
    length = whiten(descriptions).norm(dim=1)
    assert length.isfinite().all()
    assert (length <= 1 + 1e-5).all()


@FAST
@given(st.lists(st.floats(-1, 1), max_size=30))
def test_the_threshold_stays_between_its_bounds(scores):
    assert 0.55 <= float(near_duplicate_threshold(torch.tensor(scores))) <= 0.95


def test_the_threshold_is_eight_robust_deviations_above_the_median():
    z = torch.linspace(0.1, 0.3, 101, dtype=torch.float64)
    expected = np.tanh(0.2 + 8 * scipy.stats.median_abs_deviation(z.numpy(), scale="normal"))
    assert float(near_duplicate_threshold(z.tanh())) == pytest.approx(expected, abs=1e-6)


def test_copies_in_the_data_do_not_raise_the_threshold(tmp_path, sounds):
    clips = [*sounds, *(noisy(10)(clip) for clip in sounds)]
    assert search(tmp_path, clips).pairs(names(len(clips))).threshold < 0.7


def test_memory_does_not_grow_with_the_square_of_the_clips():
    vectors = F.normalize(normal(20_000, 8), dim=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = nearest(whiten(vectors), 10)
    assert found.shape == (20_000, 10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # kB; all cosines at once are 1.6 GB
