"""Augmentation: variants that belong to their key, fingerprints that tell everything apart, mixtures, masks in time."""

import inspect
import random
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import audiomentations
import numpy as np
import pytest
import soundfile
import torch
import yaml
from audiomentations.core.transforms_interface import BaseWaveformTransform
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from audioldm_lit import seeding
from audioldm_lit.audio.waveform import PEAK
from audioldm_lit.data.augmentation import Augmentation
from audioldm_lit.data.mixing import Mix, a_weighting, mixture, pressure_level
from audioldm_lit.errors import InputError
from audioldm_lit.training.time_mask import TimeMask

from runs import REPOSITORY

RATE, LENGTH = 16_000, 8_192
FILES = sorted((REPOSITORY / "configs" / "augmentation").glob("*.yaml"))
CONFIGS = [path for path in FILES if "Augmentation" in path.read_text()]  # another masks latents
FAST = settings(max_examples=30, deadline=None)
SEEDS = st.integers(0, 10**6)


def clip(seed: int = 0, num_samples: int = LENGTH) -> torch.Tensor:
    drawn = torch.randn(num_samples, generator=seeding.generator("clip", seed)) * torch.linspace(1, 0, num_samples)
    return PEAK * drawn / drawn.abs().max()


def sine(frequency: float, amplitude: float = PEAK) -> torch.Tensor:
    return amplitude * torch.sin(2 * torch.pi * frequency * torch.arange(LENGTH) / RATE)


PARTNER = (clip(1), "Thunder rolls")


def parsed(text: str) -> Augmentation:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--augmentation", type=Augmentation | None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return parser.instantiate_classes(parser.parse_object({"augmentation": yaml.safe_load(text)})).augmentation


def vary(augmentation: Augmentation, waveform: torch.Tensor, *key: object) -> tuple[torch.Tensor, str]:
    return augmentation(waveform, "rain", PARTNER, RATE, key)


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda path: path.stem)
def config(request) -> Augmentation:
    return parsed(request.param.read_text())


# ---------------------------------------------------------------- variants


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_file_says_in_its_first_line_what_and_for_whom(path):
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("num_samples", [LENGTH, 81_920])
def test_every_configuration_gives_usable_variants(config, num_samples):
    waveform = clip(num_samples=num_samples)
    variants = [config(waveform, "rain", (clip(1, num_samples), "wind"), RATE, ("a", k))[0] for k in range(config.variants)]
    for variant in variants:
        assert variant.shape == (num_samples,)
        assert variant.dtype == torch.float32
        assert variant.isfinite().all()
        assert 0 < variant.abs().max() <= 1
    # A variant may be the clip itself where every transform's draw leaves it out, two of four hardly.
    assert len({variant.numpy().tobytes() for variant in variants}) >= len(variants) - 1


@FAST
@given(SEEDS, SEEDS)
def test_a_variant_depends_on_its_key_alone(config, key, before):
    waveform, untouched = clip(), clip()
    once = vary(config, waveform, "clip", key)
    random.seed(before)
    np.random.seed(before)
    torch.manual_seed(before)
    vary(config, clip(before), "another", before)
    again = vary(config, waveform, "clip", key)
    assert torch.equal(once[0], again[0])
    assert once[1] == again[1]
    assert torch.equal(waveform, untouched)


def test_another_key_gives_another_variant():
    augmentation = Augmentation(transforms=[audiomentations.Gain(-6.0, -1.0, p=1.0)])
    assert len({vary(augmentation, clip(), "a", k)[0].abs().max().item() for k in range(20)}) == 20


def test_the_order_and_the_number_of_threads_do_not_matter(config):
    keys = list(range(24))
    alone = {key: vary(config, clip(key), "a", key)[0] for key in reversed(keys)}
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda key: vary(config, clip(key), "a", key)[0], keys))
    assert all(torch.equal(alone[key], one) for key, one in zip(keys, together, strict=True))


class Broken(BaseWaveformTransform):
    def apply(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        return np.full_like(samples, np.nan)


class Failing(BaseWaveformTransform):
    def apply(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        raise OSError("no such noise")


class InPlace(BaseWaveformTransform):
    def apply(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        samples *= 0.5
        return samples


class Unrepeatable(BaseWaveformTransform):
    def apply(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        return samples * np.random.default_rng().uniform(0.1, 0.9)


@pytest.mark.parametrize("transform", [audiomentations.SevenBandParametricEQ(p=1.0), Failing(p=1.0)])
def test_the_library_s_random_state_is_left_as_it_was(transform):
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.random()
    random.seed(3)
    np.random.seed(3)
    try:
        vary(Augmentation(transforms=[transform]), clip(), "a")
    except OSError:
        assert isinstance(transform, Failing)
    assert (random.random(), np.random.random()) == expected


def test_what_is_not_finite_is_an_error_that_names_the_transform():
    with pytest.raises(InputError, match="Broken gives samples that are not finite"):
        vary(Augmentation(transforms=[Broken(p=1.0)]), clip(), "a")


@pytest.mark.parametrize("transform", [Unrepeatable(p=1.0), audiomentations.TimeStretch(min_rate=0.4, max_rate=0.4, p=1.0)])
def test_a_transform_that_cannot_be_repeated_is_refused_by_name(transform):
    with pytest.raises(InputError, match=rf"augmentation\.init_args\.transforms\[0\]: {type(transform).__name__}"):
        vary(Augmentation(transforms=[transform]), clip(), "a")


def test_a_transform_that_writes_into_its_input_leaves_the_clip_alone():
    waveform = clip()
    assert torch.equal(vary(Augmentation(transforms=[InPlace(p=1.0)]), waveform, "a")[0], 0.5 * clip())
    assert torch.equal(waveform, clip())


def test_a_gain_changes_the_level_for_good():
    louder = vary(Augmentation(transforms=[audiomentations.Gain(3.0, 3.0, p=1.0)]), clip(), "a")[0]
    assert louder.abs().max().item() == pytest.approx(PEAK * 10 ** (3 / 20), rel=1e-5)


def test_a_result_beyond_full_scale_is_scaled_not_clipped():
    loud = vary(Augmentation(transforms=[audiomentations.Gain(30.0, 30.0, p=1.0)]), clip(), "a")[0]
    assert torch.allclose(loud, clip() / PEAK, atol=1e-6)


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_a_result_of_another_length_is_cut_or_padded_at_its_end(rate):
    stretch = audiomentations.TimeStretch(rate, rate, leave_length_unchanged=False, p=1.0)
    stretched = vary(Augmentation(transforms=[stretch]), sine(440), "a")[0]
    assert stretched.shape == (LENGTH,)
    assert (stretched[round(LENGTH / rate) + 1 :] == 0).all()


def test_silence_stays_silence(config):
    silence = torch.zeros(LENGTH)
    assert all(config(silence, "rain", (silence, "wind"), RATE, ("a", k))[0].abs().max() < 1e-6 for k in range(20))


# ---------------------------------------------------------------- fingerprint


def parameters(transform: BaseWaveformTransform) -> list[str]:
    kept = [name for name in inspect.signature(type(transform)).parameters if hasattr(transform, name)]
    return [name for name in kept if name != "lru_cache_size"]


def every_transform(folder) -> list[BaseWaveformTransform]:
    soundfile.write(folder / "noise.wav", clip().numpy(), RATE)
    needed = {"sounds_path": str(folder), "ir_path": str(folder), "duration_seconds": 1.0, "transform": np.tanh}
    transforms = []
    for one in vars(audiomentations).values():
        if inspect.isclass(one) and issubclass(one, BaseWaveformTransform):
            accepted = inspect.signature(one).parameters
            transforms.append(one(**{name: value for name, value in needed.items() if name in accepted}))
    return transforms


def test_every_parameter_is_in_the_fingerprint(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transforms = every_transform(tmp_path)
    assert len(transforms) >= 35
    seen = set()
    for transform in transforms:
        seen.add(Augmentation(transforms=[transform]).fingerprint)
        assert "p" in parameters(transform)
        for name in parameters(transform):
            before = getattr(transform, name)
            setattr(transform, name, {"another": 1} if name == "kwargs" else "another")
            changed = Augmentation(transforms=[transform]).fingerprint
            setattr(transform, name, before)
            assert changed not in seen, f"{type(transform).__name__}.{name}"
            seen.add(changed)


@pytest.mark.parametrize(
    "change", [{"probability": 0.4}, {"min_level_db": -5.0}, {"max_level_db": 5.0}, {"join": "{first}, {second}"}]
)
def test_every_parameter_of_the_mixture_is_in_the_fingerprint(change):
    assert Augmentation(mix=Mix(**change)).fingerprint != Augmentation(mix=Mix()).fingerprint


def test_order_and_version_are_in_the_fingerprint_and_the_number_of_variants_is_not(monkeypatch):
    first, second = audiomentations.Gain(), audiomentations.Shift()
    ours = Augmentation(transforms=[first, second]).fingerprint
    assert Augmentation(variants=9, transforms=[first, second]).fingerprint == ours
    assert Augmentation(transforms=[second, first]).fingerprint != ours
    assert Augmentation(transforms=[first, second], mix=Mix()).fingerprint != ours
    monkeypatch.setattr("audioldm_lit.data.augmentation.version", lambda name: "99")
    assert Augmentation(transforms=[first, second]).fingerprint != ours


def test_what_was_drawn_is_not_in_the_fingerprint(config):
    vary(config, clip(), "a")
    assert Augmentation(1, config.transforms, config.mix).fingerprint == config.fingerprint


def test_another_noise_file_gives_another_fingerprint(tmp_path):
    transforms = [audiomentations.AddBackgroundNoise(tmp_path)] if every_transform(tmp_path) else []
    before = Augmentation(transforms=transforms).fingerprint
    soundfile.write(tmp_path / "noise.wav", clip(1).numpy(), RATE)
    assert Augmentation(transforms=transforms).fingerprint != before


def test_the_fingerprint_is_the_same_in_another_process():
    code = (
        "import sys, audiomentations as a, numpy; from audioldm_lit.data.augmentation import Augmentation; "
        "from audioldm_lit.data.mixing import Mix; "
        "print(Augmentation(transforms=[a.PitchShift(), a.Lambda(numpy.tanh), a.RoomSimulator(), a.Gain()], mix=Mix()).fingerprint)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    transforms = [
        audiomentations.PitchShift(),
        audiomentations.Lambda(np.tanh),
        audiomentations.RoomSimulator(),
        audiomentations.Gain(),
    ]
    assert Augmentation(transforms=transforms, mix=Mix()).fingerprint == out


class Secretive(BaseWaveformTransform):
    def __init__(self, depth: float = 1.0) -> None:
        super().__init__(1.0)
        self.hidden = depth


@pytest.mark.parametrize("transform", [Secretive(), audiomentations.Lambda(lambda samples, rate: samples)])
def test_what_cannot_be_told_apart_is_refused(transform):
    with pytest.raises(InputError, match=r"data\.init_args\.augmentation\.init_args\.transforms"):
        Augmentation(transforms=[transform])


# ---------------------------------------------------------------- mixtures


@FAST
@given(st.floats(-40, 0), st.floats(-40, 0), st.floats(-12, 12), SEEDS)
def test_the_louder_clip_does_not_drown_the_other(first_db, second_db, level, seed):
    """Levels as set, whatever they were before: noises of one colour are as loud as their amplitude."""
    first, second = (torch.randn(LENGTH, generator=seeding.generator(seed, side)) for side in ("first", "second"))
    scales = 10 ** (first_db / 20), 10 ** (second_db / 20)
    r = 10 ** (level / 20) / (1 + 10 ** (level / 20))
    mixed = mixture(scales[0] * first, scales[1] * second, r, RATE)
    parts = np.linalg.lstsq(torch.stack([first, second], dim=1).numpy(), mixed.numpy(), rcond=None)[0]
    drawn = pressure_level(first, RATE) - pressure_level(second, RATE)  # the loudest windows of two draws differ a little
    assert 20 * np.log10(parts[0] / parts[1]) + drawn == pytest.approx(level, abs=0.05)


@FAST
@given(st.floats(0.05, 0.95), st.floats(1e-3, 0.5), SEEDS)
def test_the_mixture_is_the_paper_s_formula(r, scale, seed):
    first, second = clip(seed), scale * sine(300) * torch.linspace(0, 1, LENGTH)
    gains = [reference_level(one.double().numpy()) for one in (first, second)]
    p = 1 / (1 + 10 ** ((gains[0] - gains[1]) / 20) * (1 - r) / r)
    expected = (p * first.numpy() + (1 - p) * second.numpy()) / np.sqrt(p**2 + (1 - p) ** 2)
    assert mixture(first, second, r, RATE).numpy() == pytest.approx(expected, abs=1e-5)


def reference_level(waveform: np.ndarray, n_fft: int = 2048) -> float:
    """Loudest window in A-weighted dB, in numpy and window by window."""
    f2 = np.maximum(np.fft.rfftfreq(n_fft, 1 / RATE), 1.0) ** 2
    logs = [2 * np.log10(12194 * f2), -np.log10(f2 + 12194**2), -np.log10(f2 + 20.6**2)]
    logs += [-0.5 * np.log10(f2 + pole**2) for pole in (107.7, 737.9)]
    weights = 2.0 + 20 * np.sum(logs, axis=0)
    levels = []
    for start in range(0, len(waveform) - n_fft + 1, n_fft // 2):
        power = np.abs(np.fft.rfft(np.hanning(n_fft + 1)[:-1] * waveform[start : start + n_fft])) ** 2
        levels.append(10 * np.log10(max(np.sum(power * 10 ** (weights / 10)), 1e-8)))
    return max(levels)


@pytest.mark.parametrize(("frequency", "decibels"), [(31.62, -39.4), (100, -19.1), (1000, 0.0), (2512, 1.3), (7943, -1.1)])
def test_the_weighting_is_the_standard_s_table(frequency, decibels):
    heard = a_weighting(torch.tensor([frequency], dtype=torch.float64)).item()
    assert 20 * np.log10(heard) == pytest.approx(decibels, abs=0.1)


def test_a_rumble_is_raised_against_a_whistle_of_the_same_peak():
    mixed = mixture(sine(62.5), sine(2500), 0.5, RATE)
    spectrum = torch.fft.rfft(mixed).abs()
    rumble, whistle = spectrum[round(62.5 * LENGTH / RATE)], spectrum[round(2500 * LENGTH / RATE)]
    assert 20 * torch.log10(rumble / whistle).item() == pytest.approx(26.2 + 1.3, abs=1)  # the standard's two weights


@FAST
@given(SEEDS, st.floats(0, 1), st.sampled_from([640, LENGTH]))
def test_a_mixture_has_the_training_clips_peak_and_both_captions(seed, place, num_samples):
    first, second = (clip(seed, num_samples), "a dog barks."), (place * clip(seed + 1, num_samples), "Thunder rolls")
    waveform, caption = Mix(probability=1.0)(first, second, RATE, seeding.generator(seed))
    assert waveform.abs().max().item() == pytest.approx(PEAK, rel=1e-5)
    assert caption == "a dog barks and thunder rolls"


def test_drawn_levels_stay_within_their_bounds():
    mix, second = Mix(probability=1.0, min_level_db=-3.0, max_level_db=9.0), clip(1)
    levels = []
    for k in range(200):
        mixed = mix((clip(), "a"), (second, "b"), RATE, seeding.generator(k))[0]
        parts = np.linalg.lstsq(torch.stack([clip(), second], dim=1).numpy(), mixed.numpy(), rcond=None)[0]
        levels.append(20 * np.log10(parts[0] / parts[1]) + pressure_level(clip(), RATE) - pressure_level(second, RATE))
    assert -3.01 < min(levels) < -2.5
    assert 8.5 < max(levels) < 9.01


def test_mixtures_come_as_often_as_asked():
    mix = Augmentation(mix=Mix(probability=0.3))
    mixed = [vary(mix, clip(), "a", k)[1] != "rain" for k in range(400)]
    assert np.mean(mixed) == pytest.approx(0.3, abs=0.07)
    assert not any(vary(Augmentation(mix=Mix(probability=0.0)), clip(), "a", k)[1] != "rain" for k in range(50))


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ("rain", "rain", "rain"),
        ("Rain falls.", "A dog barks", "Rain falls and a dog barks"),
        ("wind", "UFO hums", "wind and UFO hums"),
    ],
)
def test_captions_are_joined_as_a_sentence(first, second, joined):
    assert Mix(probability=1.0)((clip(), first), (clip(1), second), RATE, seeding.generator(0))[1] == joined


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Augmentation(variants=0, mix=Mix()), "variants"),
        (lambda: Augmentation(), "transforms"),
        (lambda: Mix(probability=1.5), "mix.init_args.probability"),
        (lambda: Mix(probability=float("nan")), "mix.init_args.probability"),
        (lambda: Mix(min_level_db=3.0, max_level_db=-3.0), "mix.init_args.min_level_db"),
        (lambda: Mix(max_level_db=float("inf")), "mix.init_args.min_level_db"),
        (lambda: Mix(join="{first}"), "mix.init_args.join"),
        (lambda: Mix(join="{first} {third} {second}"), "mix.init_args.join"),
        (lambda: Mix(join="{first} { {second}"), "mix.init_args.join"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_its_key(make, key):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(f"data.init_args.augmentation.init_args.{key}: is ")
    assert str(caught.value).endswith(".")


# ---------------------------------------------------------------- masks in time


@FAST
@given(st.integers(1, 200), st.floats(0, 0.99), st.integers(1, 3), SEEDS)
def test_only_the_masked_spans_change_and_become_the_mean(steps, max_fraction, masks, seed):
    latents = torch.randn(3, 4, steps, 8, generator=seeding.generator(seed, "latents"))
    before = latents.clone()
    masked = TimeMask(max_fraction, masks)(latents, [seeding.generator(seed, row) for row in range(3)])
    assert torch.equal(latents, before)
    changed = (masked != latents).any(dim=(1, 3))  # (B, F/4)
    assert changed.sum(dim=1).max() <= masks * int(max_fraction * steps)
    mean = latents.mean(dim=2, keepdim=True).expand_as(latents)
    rows = changed[:, None, :, None].expand_as(latents)
    assert torch.equal(masked[rows], mean[rows])
    assert torch.equal(masked[~rows], latents[~rows])


def test_one_mask_is_one_span_anywhere_and_of_any_length_up_to_the_longest():
    starts, widths = set(), set()
    for seed in range(600):
        latents = torch.randn(1, 1, 20, 2, generator=seeding.generator("latents", seed))
        places = (TimeMask(0.2)(latents, [seeding.generator(seed)]) != latents).any(dim=(0, 1, 3)).nonzero()[:, 0].tolist()
        assert places == list(range(places[0], places[-1] + 1)) if places else True
        widths.add(len(places))
        starts.update(places[:1])
    assert widths == {0, 1, 2, 3, 4}
    assert starts == set(range(20))


def test_a_mask_belongs_to_its_sample_not_to_the_batch():
    latents = torch.randn(4, 2, 50, 4, generator=seeding.generator("latents"))
    together = TimeMask()(latents, [seeding.generator(row) for row in range(4)])
    for row in range(4):
        assert torch.equal(TimeMask()(latents[row : row + 1], [seeding.generator(row)])[0], together[row])


@pytest.mark.parametrize(("arguments", "key"), [((1.0,), "max_fraction"), ((-0.1,), "max_fraction"), ((0.1, 0), "masks")])
def test_a_wrong_mask_is_one_sentence_that_names_its_key(arguments, key):
    with pytest.raises(InputError, match=rf"init_args\.{key}: is "):
        TimeMask(*arguments)
