"""What is found wrong with recordings and collections and what is not: measurements against numpy, every rule at its edge."""

import io
import math
import re
import struct
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audioldm_lit.audio import loudness
from audioldm_lit.audio.decoding import read_channels
from audioldm_lit.data.audiocaps import AudioCaps
from audioldm_lit.data.audioset import AudioSet
from audioldm_lit.data.clips import Clip, ClipDataset, FoundClips
from audioldm_lit.data.folder import Folder
from audioldm_lit.errors import InputError
from audioldm_lit.health.checkup import Checkup, examine
from audioldm_lit.health.collection import collection_findings
from audioldm_lit.health.duplicates import DuplicatePairs
from audioldm_lit.health.findings import Examined, Finding, clip_findings
from audioldm_lit.health.measure import Measurement, measure
from audioldm_lit.health.report import histogram, write_manifest
from audioldm_lit.health.spectrum import Spectrum

import layouts

RATE = 16_000
FAST = settings(max_examples=60, deadline=None)


def noise(seed: int, num_samples: int, channels: int = 1, level: float = 0.1) -> np.ndarray:
    """White noise (T, C) that never clips."""
    return (level * np.random.default_rng(seed).standard_normal((num_samples, channels))).clip(-0.9, 0.9)


def write(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def measured(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str | None = "FLOAT") -> Measurement:
    """Measurement of samples that went through a file."""
    return measure(write(path, samples, rate, subtype))[0]


# ---------------------------------------------------------------- measure


def reference(samples: np.ndarray, rate: int) -> dict[str, float]:
    """What a measurement should say of samples (T, C), in numpy, float64, in one piece."""
    mono = samples.mean(axis=1)
    frame = round(rate / 50)
    without = mono - mono.mean()
    rms = np.array([np.sqrt(np.mean(without[i : i + frame] ** 2)) for i in range(0, len(mono), frame)])
    sounding = rms[rms > 1e-3]
    return {
        "duration": len(mono) / rate,
        "sample_rate": rate,
        "channels": samples.shape[1],
        "peak": np.abs(samples).max(),
        "level_db": 20 * np.log10(np.sqrt(np.mean(sounding**2))),
        "silent_share": np.mean(rms <= 1e-3),
        "offset": mono.mean(),
    }


FORMATS = [
    ("a.wav", "PCM_U8", 8000, 1), ("a.wav", "PCM_16", 44_100, 2), ("a.wav", "PCM_16", 16_000, 64), ("a.wav", "PCM_24", 192_000, 1),
    ("a.wav", "FLOAT", 96_000, 6), ("a.wav", "ULAW", 8000, 1), ("a.flac", "PCM_16", 48_000, 8), ("a.flac", "PCM_24", 11_025, 1),
    ("a.ogg", "VORBIS", 44_100, 2), ("a.mp3", "MPEG_LAYER_III", 22_050, 2), ("a.mp3", "MPEG_LAYER_III", 44_100, 1),
    ("a.aiff", "PCM_16", 32_000, 3),
]  # fmt: skip


def half_silent(rate: int, channels: int) -> np.ndarray:
    """1.23 s of noise off zero, of which a part in the middle holds the offset alone, and nothing follows for a while."""
    samples = noise(rate + channels, round(1.23 * rate), channels, level=0.2)
    samples[round(0.4 * rate) : round(0.7 * rate)] = 0
    return samples + 0.02


@pytest.mark.parametrize(("name", "subtype", "rate", "channels"), FORMATS)
def test_a_measurement_equals_numpys(tmp_path, name, subtype, rate, channels):
    path = write(tmp_path / name, half_silent(rate, channels), rate, subtype)
    decoded = soundfile.read(path, dtype="float64", always_2d=True)[0]
    found = measure(path)[0]
    for what, expected in reference(decoded, rate).items():
        assert getattr(found, what) == pytest.approx(expected, rel=1e-4, abs=1e-6), what
    assert not found.clipped
    if subtype in ("PCM_16", "PCM_24", "FLOAT"):
        assert 0.2 < found.silent_share < 0.3
        assert found.bandwidth == rate / 2


@pytest.mark.parametrize("block", [1, 3000, 40_000])
@pytest.mark.parametrize(("name", "subtype", "rate", "channels"), FORMATS)
def test_a_measurement_does_not_depend_on_the_pieces(tmp_path, monkeypatch, name, subtype, rate, channels, block):
    samples = half_silent(rate, channels)
    low = scipy.signal.firwin(301, 0.4)
    samples = scipy.signal.fftconvolve(samples, low[:, None], axes=0)
    path = write(tmp_path / name, samples, rate, subtype)
    whole, heard = measure(path)
    assert whole.bandwidth < 0.6 * rate / 2 or subtype in ("PCM_U8", "ULAW")
    monkeypatch.setattr(loudness, "BLOCK", block)
    pieces, heard_in_pieces = measure(path)
    for what in ("duration", "sample_rate", "channels", "peak", "silent_share", "clipped", "bandwidth", "digest"):
        assert getattr(pieces, what) == getattr(whole, what), what
    assert pieces.level_db == pytest.approx(whole.level_db, abs=1e-5)
    assert pieces.offset == pytest.approx(whole.offset, abs=1e-7)
    assert heard_in_pieces.equal(heard)


@pytest.mark.parametrize("start", range(318, 323))
def test_a_run_at_full_scale_across_two_pieces_is_clipped(tmp_path, monkeypatch, start):
    monkeypatch.setattr(loudness, "BLOCK", 320)  # one frame
    samples = noise(0, 960, 2)
    samples[start : start + 2, 1] = 1
    assert not measured(tmp_path / "two.wav", samples).clipped
    samples[start : start + 3, 1] = -1
    assert measured(tmp_path / "three.wav", samples).clipped
    samples[start + 1, 1], samples[start + 1, 0] = 0, 1  # in no channel three in a row
    assert not measured(tmp_path / "apart.wav", samples).clipped


def test_wav_and_flac_of_the_same_samples_have_one_digest(tmp_path):
    samples = noise(0, 5000, 2)
    samples = (2**15 * samples).astype("int16")
    wav, flac = (measured(tmp_path / name, samples, subtype="PCM_16") for name in ("a.wav", "a.flac"))
    assert wav == flac
    samples[4000, 1] += 1
    assert measured(tmp_path / "b.wav", samples, subtype="PCM_16").digest != wav.digest


def test_the_digest_tells_rates_and_channels_apart(tmp_path):
    samples = noise(0, 4000)
    files = [
        measured(tmp_path / "a.wav", samples),
        measured(tmp_path / "b.wav", samples, 8000),
        measured(tmp_path / "c.wav", samples.reshape(-1, 2)),
        measured(tmp_path / "d.wav", samples[:-1]),
    ]
    assert len({one.digest for one in files}) == 4


@pytest.mark.parametrize(
    "make",
    [np.zeros, lambda shape: np.full(shape, 0.5), lambda shape: noise(0, *shape, level=3e-4) - 0.5],
    ids=["zeros", "an offset alone", "next to nothing on an offset"],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_what_training_hears_as_silence_is_silent(tmp_path, make, channels):
    found = measured(tmp_path / "a.wav", make((RATE, channels)))
    assert found.silent_share == 1
    assert found.level_db == -math.inf


def test_the_first_half_minute_is_heard_as_mono_at_16_khz(tmp_path):
    time = np.arange(31 * 8000) / 8000
    samples = np.stack([0.4 * np.sin(2 * np.pi * 440 * time), np.zeros(len(time))], axis=1)
    heard = measure(write(tmp_path / "a.flac", samples, 8000))[1].numpy()
    assert len(heard) == 30 * 16_000
    expected = 0.2 * np.sin(2 * np.pi * 440 * np.arange(len(heard)) / 16_000)
    assert heard[200:-200] == pytest.approx(expected[200:-200], abs=2e-3)


@FAST
@given(st.data(), st.integers(1, 5000), st.integers(1, 3), st.sampled_from([8000, 22_254, 44_100, 192_000]))
def test_no_samples_make_measuring_fail_or_give_nan(tmp_path_factory, data, length, channels, rate):
    samples = data.draw(arrays(np.float32, (length, channels), elements=st.floats(-1, 1, width=32)))
    path = write(tmp_path_factory.getbasetemp() / "any.wav", samples, rate, "FLOAT")
    found, heard = measure(path)
    assert found.duration == length / rate
    assert found.peak == np.abs(samples).max()
    assert found.level_db <= 0
    assert 0 <= found.silent_share <= 1
    assert abs(found.offset) <= 1
    assert 0 <= found.bandwidth <= rate / 2
    assert heard.isfinite().all()
    assert (found.level_db == -math.inf) == (found.silent_share == 1)


# ---------------------------------------------------------------- long, cut off, piped


def header(num_bytes: int, rate: int, stated: int | None = None) -> bytes:
    """Header of a mono 16-bit WAV of so many bytes of samples; `stated` is what it says instead."""
    size = num_bytes if stated is None else stated
    chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", min(size + 36, 0xFFFFFFFF), b"WAVE") + chunk + struct.pack("<4sI", b"data", size)


def long(path: Path, rate: int, seconds: int = 36_000) -> Path:
    """A sparse file: silence, and a second of noise at its end."""
    num_bytes = 2 * seconds * rate
    end = (noise(0, rate)[:, 0] * 2**15).astype("<i2").tobytes()
    with path.open("wb") as file:
        file.write(header(num_bytes, rate))
        file.seek(num_bytes - len(end), io.SEEK_CUR)
        file.write(end)
    return path


def test_two_hours_are_measured_in_bounded_memory(tmp_path):
    path = long(tmp_path / "long.wav", 16_000, 7200)
    measure(write(tmp_path / "short.wav", noise(0, 100)))  # what is made once is no part of it
    tracemalloc.start()
    try:
        found, _ = measure(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60_000_000  # all samples as float32 are 460 MB
    assert found.duration == 7200
    assert found.silent_share == pytest.approx(1 - 1 / 7200)
    assert found.level_db == pytest.approx(-20, abs=0.2)


@pytest.mark.parametrize("read", [lambda path: measure(path), read_channels], ids=["measure", "read"])
@pytest.mark.parametrize("rate", [8000, 44_100])
def test_ten_hours_are_refused_as_a_clip(tmp_path, rate, read):
    path = long(tmp_path / "long.wav", rate)
    with pytest.raises(InputError, match=r"long\.wav: lasts 10\.0 h in 1 channels, too long for a clip; cut it into pieces\.$"):
        read(path)


@pytest.mark.parametrize("read", [lambda path: measure(path), read_channels], ids=["measure", "read"])
@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.flac", "a.mp3", "a.au", "a.w64"])
@pytest.mark.parametrize("share", [0.03, 0.4, 0.9])
def test_a_file_that_was_cut_off_is_refused_with_how_much_is_there(tmp_path, name, share, read):
    path = write(tmp_path / name, noise(0, 10 * 44_100), 44_100)
    read(path)
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    with pytest.raises(InputError) as caught:
        read(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: is ")
    assert sentence.endswith("; copy it again.")
    there, stated = map(float, re.search(r"(\S+) of (\S+) s ", sentence).groups())
    assert there == pytest.approx(10 * share, abs=0.2)
    assert stated == pytest.approx(10, abs=0.2)


def test_a_cut_off_file_is_refused_whatever_the_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(loudness, "BLOCK", 1000)
    for name in ("a.wav", "a.flac"):
        path = write(tmp_path / name, noise(0, RATE))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputError, match=r"0\.[3-5] of 1\.0 s"):
            measure(path)


@pytest.mark.parametrize("stated", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_written_to_a_pipe_is_read(tmp_path, stated):
    samples = (noise(0, RATE)[:, 0] * 2**15).astype("<i2").tobytes()
    (tmp_path / "piped.wav").write_bytes(header(len(samples), RATE, stated) + samples)
    (tmp_path / "filed.wav").write_bytes(header(len(samples), RATE) + samples)
    assert measure(tmp_path / "piped.wav")[0] == measure(tmp_path / "filed.wav")[0]
    assert read_channels(tmp_path / "piped.wav")[0].shape == (1, RATE)


# ---------------------------------------------------------------- bandwidth


def rounded(samples: np.ndarray, dither: bool, bits: int = 16) -> np.ndarray:
    """Samples on the steps of 16 bits, with or without triangular dither."""
    rng = np.random.default_rng(99)
    steps = samples * 2 ** (bits - 1)
    if dither:
        steps = steps + rng.uniform(-0.5, 0.5, samples.shape) + rng.uniform(-0.5, 0.5, samples.shape)
    return np.round(steps).clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) / 2 ** (bits - 1)


def reaches(samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> float:
    spectrum = Spectrum(rate, subtype)
    spectrum.add(samples.astype("float32"))
    return spectrum.bandwidth()


@pytest.mark.parametrize("dither", [False, True])
@pytest.mark.parametrize("seconds", [0.3, 4])
@pytest.mark.parametrize("cutoff", [4000, 5500, 8000, 11_000])
def test_a_fake_rate_is_found(cutoff, seconds, dither):
    low = noise(cutoff, round(seconds * 2 * cutoff))[:, 0]
    high = scipy.signal.resample(low, round(seconds * 44_100))
    assert reaches(rounded(high, dither), 44_100) == pytest.approx(cutoff, abs=max(500, 0.1 * cutoff))


@pytest.mark.parametrize("dither", [False, True])
@pytest.mark.parametrize("cutoff", [4000, 5500, 8000, 11_000])
def test_a_sharp_filter_is_found(cutoff, dither):
    low = scipy.signal.fftconvolve(noise(1, 88_200)[:, 0], scipy.signal.firwin(801, cutoff, fs=44_100))
    assert reaches(rounded(low, dither), 44_100) == pytest.approx(cutoff, abs=max(500, 0.1 * cutoff))


@pytest.mark.parametrize("level", [0.2, 0.003])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 192_000])
def test_full_band_noise_reaches_the_top(rate, level):
    samples = noise(rate, rate, level=level)[:, 0]
    assert reaches(rounded(samples, dither=True), rate) == rate / 2
    assert reaches(samples, rate, "FLOAT") == rate / 2


def coloured(exponent: float, rate: int = 44_100) -> np.ndarray:
    """Four seconds of noise whose power falls with a power of the frequency from 20 Hz on, peak 0.5."""
    spectrum = np.fft.rfft(noise(5, 4 * rate)[:, 0])
    frequencies = np.fft.rfftfreq(4 * rate, 1 / rate)
    samples = np.fft.irfft(spectrum * np.maximum(frequencies, 20) ** (-exponent / 2))
    return 0.5 * samples / np.abs(samples).max()


@pytest.mark.parametrize("exponent", [1, 2], ids=["pink", "brown"])
@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24)])
def test_a_spectrum_that_falls_gently_is_not_called_narrow(exponent, subtype, bits):
    assert reaches(rounded(coloured(exponent), True, bits), 44_100, subtype) == 22_050


@pytest.mark.parametrize("rate", [16_000, 44_100, 192_000])
@pytest.mark.parametrize("frequency", [1000, 5000])
def test_a_pure_tone_reaches_little_beyond_itself(rate, frequency):
    tone = 0.5 * np.sin(2 * np.pi * frequency * np.arange(rate) / rate)
    assert frequency <= reaches(rounded(tone, dither=True), rate) <= frequency + 6 * rate / 128


@pytest.mark.parametrize("level", [0.0, 1.5e-5])
def test_silence_and_rounding_noise_reach_nothing(level):
    assert reaches(rounded(noise(0, 44_100, level=level)[:, 0], dither=False), 44_100) == 0
    assert reaches(np.full(44_100, 0.25), 44_100, "FLOAT") <= 5 * 22_050 / 64  # the least that a cliff can be found at


def test_nothing_at_all_reaches_nothing():
    assert Spectrum(44_100, "PCM_16").bandwidth() == 0


def test_a_spectrum_does_not_depend_on_the_pieces():
    low = scipy.signal.resample_poly(noise(0, 16_000)[:, 0], 441, 80).astype("float32")
    whole, pieces = Spectrum(44_100, "PCM_16"), Spectrum(44_100, "PCM_16")
    whole.add(low)
    for piece in np.split(low, [1, 2, 3000, 3001, 10_000, 40_000]):
        pieces.add(piece)
    assert pieces.bandwidth() == whole.bandwidth() == pieces.bandwidth()
    assert pieces.power == pytest.approx(whole.power, rel=1e-5)


# ---------------------------------------------------------------- one clip

GOOD = Measurement(
    duration=2.0, sample_rate=16_000, channels=1, peak=0.5, level_db=-20.0, silent_share=0.1, offset=0.0, clipped=False,
    bandwidth=8000.0, digest="",
)  # fmt: skip


def one(name="a", caption="a dog barks", label="dog", source="", split="train", path=None, error=None, **changes) -> Examined:
    """An examined clip with nothing wrong with it but what is said."""
    clip = Clip(name, Path("/data") / (path or f"{name}.wav"), caption, label, source, f"metadata.csv, line {name}")
    return Examined(clip, split, None if error else replace(GOOD, **{"digest": name, **changes}), error)


def found(*items: Examined, pairs=(), coverage=None, duration=2.0) -> list[Finding]:
    return collection_findings(items, DuplicatePairs(tuple(pairs), 0.9), coverage or {}, duration, unheard=lambda text: text[374:])


def check(finding: Finding) -> None:
    """What every finding must be."""
    assert finding.where
    for text in (finding.where, finding.problem, finding.mend):
        assert text.strip()
        assert "\n" not in text
    assert set(finding.drop) <= set(finding.clips)
    assert len(set(finding.clips)) == len(finding.clips)
    assert bool(finding.drop) or finding.severity != "error"


CLIP_RULES = [  # kind, severity, what triggers it, what just does not
    ("silent", "error", {"silent_share": 1.0, "level_db": -math.inf}, {"silent_share": 0.8}),
    ("mostly silent", "warning", {"silent_share": 0.801}, {"silent_share": 0.8}),
    ("clipped", "warning", {"clipped": True, "peak": 1.0}, {"peak": 1.0}),
    ("constant offset", "note", {"offset": -0.011}, {"offset": -0.01}),
    ("constant offset", "note", {"offset": 0.011}, {"offset": 0.01}),
    ("very short", "warning", {"duration": 0.099}, {"duration": 0.1}),
    ("dull", "warning", {"bandwidth": 6399.0}, {"bandwidth": 6400.0}),
    ("dull", "warning", {"bandwidth": 6399.0, "sample_rate": 44_100}, {"bandwidth": 13_230.0, "sample_rate": 44_100}),
    ("dull", "warning", {"bandwidth": 4000.0, "sample_rate": 8000}, {"bandwidth": 6400.0, "sample_rate": 12_800}),
    ("less than its rate says", "note", {"bandwidth": 13_229.0, "sample_rate": 44_100},
     {"bandwidth": 13_230.0, "sample_rate": 44_100}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "severity", "wrong", "right"), CLIP_RULES)
def test_a_clip_is_told_what_is_wrong_with_it_and_no_more(kind, severity, wrong, right):
    (finding,) = clip_findings(one("7", **wrong), RATE)
    check(finding)
    assert (finding.kind, finding.severity, finding.where) == (kind, severity, "metadata.csv, line 7")
    assert finding.clips == ("7",)
    assert finding.drop == (("7",) if severity == "error" else ())
    assert not list(clip_findings(one("7", **right), RATE))


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "cut off", "nan", "no samples"])
def test_an_unreadable_clip_is_named_with_the_reason_and_left_out(tmp_path, kind):
    path = tmp_path / "a; b ü.wav"
    if kind == "nan":
        write(path, np.full(100, np.nan), subtype="FLOAT")
    elif kind == "no samples":
        write(path, np.zeros(0))
    elif kind == "cut off":
        write(path, np.zeros(8000))
        path.write_bytes(path.read_bytes()[:8000])
    elif kind != "missing":
        path.write_text({"empty": "", "text": "not audio"}[kind])
    with pytest.raises(InputError) as caught:
        measure(path)
    for where in (str(path), "metadata.csv, line 3"):
        clip = Clip("7", path, "dog", where=where)
        (finding,) = clip_findings(Examined(clip, "val", None, caught.value), RATE)
        check(finding)
        assert (finding.kind, finding.severity, finding.where, finding.drop) == ("unreadable", "error", where, ("7",))
        with pytest.raises(InputError) as refused:  # what training would say
            ClipDataset([clip], RATE, RATE, "repeat").waveform(0)
        assert (finding.where, finding.problem, finding.mend) == refused.value.args


def test_clipped_sound_in_a_file_is_found(tmp_path):
    tone = np.sin(2 * np.pi * 300 * np.arange(RATE) / RATE) + noise(0, RATE, level=0.02)[:, 0]
    kinds = {
        name: [finding.kind for finding in clip_findings(one(**vars_of(measured(tmp_path / f"{name}.wav", samples))), RATE)]
        for name, samples in {"driven": (2 * tone).clip(-1, 1), "turned down": 0.7 * tone}.items()
    }
    assert kinds == {"driven": ["clipped"], "turned down": []}


def vars_of(measurement: Measurement) -> dict:
    return {name: getattr(measurement, name) for name in Measurement.__slots__}


def test_a_voice_from_the_telephone_is_dull_at_any_rate(tmp_path):
    low = noise(3, 8000)[:, 0]
    for rate in (16_000, 44_100, 48_000):
        path = tmp_path / f"{rate}.wav"
        samples = scipy.signal.resample_poly(low, rate // 100, 80)
        assert [finding.kind for finding in clip_findings(one(**vars_of(measured(path, samples, rate, None))), RATE)] == ["dull"]
    full = measured(tmp_path / "full.wav", noise(3, 16_000), RATE, None)
    assert not list(clip_findings(one(**vars_of(full)), RATE))


# ---------------------------------------------------------------- the collection


def row(count: int, **changes) -> list[Examined]:
    """Clips that have nothing in common but a class."""
    return [one(f"{changes.get('label', 'dog')}{i}", f"sound number {i}", **changes) for i in range(count)]


SENTENCE = "Ein Mann spricht, während im Hintergrund ein Hund bellt"
COLLECTION_RULES = {  # what the rule finds: its kind, severity, the clips dropped, arguments that trigger it, arguments that do not
    "a source on both sides": (
        "leak", "error", {"a"},
        {"items": [one("a", source="s"), one("b", source="s", split="val")]},
        {"items": [one("a", source="s"), one("b", source="s"), one("c", source="t", split="val")]},
    ),
    "a source in three splits": (
        "leak", "error", {"a", "b"},
        {"items": [one("a", source="s"), one("b", source="s", split="val"), one("c", source="s", split="test")]},
        {"items": [one("a", source="s"), one("b", source="t", split="val"), one("c", source="u", split="test")]},
    ),
    "an exact copy on the other side": (
        "leak", "error", {"a"},
        {"items": [one("a", digest="x"), one("b", digest="x", split="test")]},
        {"items": [one("a", digest="x"), one("b", digest="y", split="test")]},
    ),
    "one file on both sides, said to be of two sources": (
        "leak", "error", {"a"},
        {"items": [one("a", path="x.wav", digest="x"), one("b", path="x.wav", digest="x", split="test")]},
        {"items": [one("a", path="x.wav", digest="x"), one("b", path="x.wav", digest="x")]},
    ),
    "a near copy on the other side": (
        "leak", "error", {"a"},
        {"items": [one("a"), one("b", split="val")], "pairs": [(0, 1, 0.93)]},
        {"items": [one("a"), one("b", split="val")]},
    ),
    "a near copy of a file with two captions": (
        "leak", "error", {"a", "b"},
        {"items": [*(one(name, path="x.wav", source="x", digest="x") for name in "ab"), one("c", split="test")],
         "pairs": [(1, 2, 0.93)]},
        {"items": [*(one(name, path="x.wav", source="x", digest="x") for name in "ab"), one("c", split="test")]},
    ),
    "one sound with two labels": (
        "contradiction", "error", {"a", "b"},
        {"items": [one("a", digest="x"), one("b", label="rain", digest="x")]},
        {"items": [one("a", digest="x"), one("b", label="rain", digest="y")]},
    ),
    "an exact copy": (
        "exact copy", "warning", {"b", "c"},
        {"items": [one(name, digest="x") for name in "abc"]},
        {"items": [one(name, path="x.wav", digest="x") for name in "abc"]},
    ),
    "a near copy": (
        "near copy", "warning", set(),
        {"items": [one("a"), one("b")], "pairs": [(0, 1, 0.93)]},
        {"items": [one("a", source="s"), one("b", source="s")], "pairs": [(0, 1, 0.93)]},
    ),
    "audio that is missing": (
        "missing audio", "warning", set(),
        {"items": [one()], "coverage": {"val": FoundClips(99, 100)}},
        {"items": [one()], "coverage": {"val": FoundClips(100, 100)}},
    ),
    "a class that is never trained": (
        "class without training", "warning", set(),
        {"items": [one("a"), one("b", label="rain", split="test")]},
        {"items": [one("a"), one("b", label="dog", split="test")]},
    ),
    "eleven clips against one": (
        "imbalance", "warning", set(),
        {"items": [*row(11), *row(1, label="rain")]},
        {"items": [*row(10), *row(1, label="rain")]},
    ),
    "a clip that is far louder": (
        "unlike level", "warning", set(),
        {"items": [*row(4), one("loud", level_db=0.1)]},
        {"items": [*row(4), one("loud", level_db=0.0)]},
    ),
    "a clip that is far quieter": (
        "unlike level", "warning", set(),
        {"items": [*row(4), one("quiet", level_db=-40.1)]},
        {"items": [*row(4), one("quiet", level_db=-40.0)]},
    ),
    "a clip that is far longer": (
        "unlike length", "warning", set(),
        {"items": [*row(4), one("long", duration=20.1)], "duration": 30.0},
        {"items": [*row(4), one("long", duration=20.0)], "duration": 30.0},
    ),
    "a clip that is far shorter": (
        "unlike length", "warning", set(),
        {"items": [*row(4), one("short", duration=0.199)]},
        {"items": [*row(4), one("short", duration=0.2)]},
    ),
    "clips that will be cut": (
        "cut", "note", set(),
        {"items": [one("a"), one("b", duration=2.02)]},
        {"items": [one("a"), one("b", duration=2.005)]},
    ),
    "clips that will be padded": (
        "padded", "note", set(),
        {"items": [one("a"), one("b", duration=0.99)]},
        {"items": [one("a"), one("b", duration=1.0)]},
    ),
    "two rates": (
        "mixed formats", "note", set(),
        {"items": [one("a"), one("b", sample_rate=44_100)]},
        {"items": [one("a"), one("b")]},
    ),
    "mono and stereo": (
        "mixed formats", "note", set(),
        {"items": [one("a"), one("b", channels=2)]},
        {"items": [one("a", channels=2), one("b", channels=2)]},
    ),
    "no caption": (
        "caption: empty", "error", {"a"},
        {"items": [one("a", caption="---")]},
        {"items": [one("a", caption="- a dog")]},
    ),
    "a caption in a broken encoding": (
        "caption: garbled", "warning", set(),
        {"items": [one("a", caption="un cafÃ© bondÃ©")]},
        {"items": [one("a", caption="a café at noon")]},
    ),
    "a file name for a caption": (
        "caption: file name", "warning", set(),
        {"items": [one("a", caption="dog_bark_03")]},
        {"items": [one("a", caption="dog bark")]},
    ),
    "a caption that is not English": (
        "caption: language", "warning", set(),
        {"items": [one("a", caption=SENTENCE)]},
        {"items": [one("a", caption="A man talks while a dog barks in the background")]},
    ),
    "a caption too long to be read": (
        "caption: long", "warning", set(),
        {"items": [one("a", caption=" ".join(["bark"] * 76))]},
        {"items": [one("a", caption=" ".join(["bark"] * 75))]},
    ),
    "one caption among others that comes twice": (
        "caption: repeated", "note", set(),
        {"items": [*row(3), one("a"), one("b")]},
        {"items": [*row(2), one("a"), one("b")]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", COLLECTION_RULES)
def test_a_collection_is_told_what_is_wrong_with_it(rule):
    kind, severity, dropped, wrong, _ = COLLECTION_RULES[rule]
    items = wrong["items"]
    findings = found(*items, **{name: value for name, value in wrong.items() if name != "items"})
    for finding in findings:
        check(finding)
    told = [finding for finding in findings if finding.kind == kind]
    assert len(told) == 1
    assert told[0].severity == severity
    assert set(told[0].drop) == dropped
    assert told[0].where in {item.clip.where for item in items} or not told[0].where.startswith("metadata")
    assert all(told[0].where in {item.clip.where for item in items} for _ in told[0].drop)
    assert set(told[0].clips) <= {item.clip.id for item in items}


@pytest.mark.parametrize("rule", COLLECTION_RULES)
def test_what_is_nearly_wrong_with_a_collection_is_left_alone(rule):
    kind, _, _, _, right = COLLECTION_RULES[rule]
    findings = found(*right["items"], **{name: value for name, value in right.items() if name != "items"})
    assert kind not in {finding.kind for finding in findings}


def test_nothing_is_wrong_with_clips_that_have_nothing_in_common():
    assert found(*row(12), *row(5, label="rain"), *[one(f"v{i}", f"another sound {i}", split="val") for i in range(3)]) == []


def test_a_leak_of_a_contradiction_leaves_out_all_of_it():
    findings = found(one("a", digest="x"), one("b", label="rain", digest="x", split="test"), pairs=[(0, 1, 1.0)])
    assert [(finding.kind, set(finding.drop)) for finding in findings if finding.severity == "error"] == [
        ("contradiction", {"a", "b"})
    ]


def test_several_captions_of_one_file_are_no_copies():
    items = [one(name, f"the {i}th caption", path="x.wav", digest="x", source="x") for i, name in enumerate("abcde")]
    assert found(*items) == []


def test_of_copies_with_several_captions_one_file_stays_with_all_of_them():
    items = [one(f"{path}{i}", f"caption {i}", path=path, digest="x", source="x") for path in ("1.wav", "2.wav") for i in range(3)]
    (finding,) = (finding for finding in found(*items) if finding.kind == "exact copy")
    assert set(finding.drop) == {"2.wav0", "2.wav1", "2.wav2"}


def test_silence_is_a_copy_of_nothing():
    silent = {"digest": "x", "silent_share": 1.0, "level_db": -math.inf}
    assert not {"exact copy", "leak"} & {finding.kind for finding in found(one("a", **silent), one("b", split="test", **silent))}


def test_a_clip_that_cannot_be_read_still_counts_in_everything_but_its_sound():
    broken = one("a", error=InputError("/data/a.wav", "is empty (0 bytes)", "copy it again"), source="s")
    assert [finding.kind for finding in found(broken, one("b", source="s", split="test"))] == ["leak"]
    assert found(broken) == []


def test_an_empty_collection_has_nothing_wrong_with_it():
    assert found() == []


@FAST
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["train", "val", "test"]), st.sampled_from("stu"), st.sampled_from("xyz"), st.sampled_from("lm"),
            st.sampled_from("pqrs"),
        ),
        max_size=9,
    ),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=4),
)  # fmt: skip
def test_what_is_kept_has_no_errors_left(clips, pairs):
    items = [
        one(str(i), f"sound {i}", label=label, source=source, split=split, digest=digest, path=f"{path}{digest}.wav")
        for i, (split, source, digest, label, path) in enumerate(clips)
    ]
    pairs = {(i, j) for i, j in pairs if i < j < len(items) and items[i].clip.path != items[j].clip.path}
    paths = {frozenset((items[i].clip.path, items[j].clip.path)) for i, j in pairs}
    findings = found(*items, pairs=[(i, j, 0.93) for i, j in pairs])
    for finding in findings:
        check(finding)
    kept = Checkup(items, findings, {}, 0.9).kept
    places = {item.clip.path: i for i, item in enumerate(kept)}
    left = [
        (*sorted(places[path] for path in pair), 0.93)
        for pair in sorted(map(sorted, paths))
        if all(path in places for path in pair)
    ]
    assert not [finding for finding in found(*kept, pairs=left) if finding.severity == "error"]


# ---------------------------------------------------------------- a folder as a whole


bursts = partial(layouts.bursts, seconds=2.0)


def listed(root: Path, recordings: dict[str, np.ndarray]) -> Folder:
    """A folder of recordings named split/label/name.wav."""
    rows: list[list[object]] = [["file", "caption", "label", "split"]]
    for name, samples in recordings.items():
        write(root / name, samples)
        split, label, stem = name.removesuffix(".wav").split("/")
        rows.append([name, f"the {label} called {stem}", label, split])
    layouts.write_csv(root / "metadata.csv", rows)
    return Folder(root, duration=2.0)


SOUND = {f"{split}/dog/{split}{i}.wav": bursts(100 * n + i) for n, split in enumerate(("train", "val", "test")) for i in range(6)}
LEAKS = {
    "exact": bursts(1),
    "in another file format": None,
    "quieter": 0.3 * bursts(1),
    "quieter and shifted": 0.3 * np.concatenate([np.zeros(4000), bursts(1)[:-4000]]),
}


def test_sounds_that_differ_have_nothing_wrong_with_them(tmp_path):
    checkup = examine(listed(tmp_path / "data", SOUND), tmp_path / "out", threads=1)
    assert checkup.findings == []
    assert len(checkup.kept) == len(checkup.items) == 18
    assert {split: str(one) for split, one in checkup.coverage.items()} == dict.fromkeys(
        ("train", "val", "test"), "6 of 6 clips, 100.0 %"
    )


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("other", ["val", "test"])
def test_a_training_clip_that_is_held_out_too_is_a_leak(tmp_path, leak, other):
    data = listed(tmp_path / "data", {**SOUND, f"{other}/dog/leak.wav": bursts(1) if LEAKS[leak] is None else LEAKS[leak]})
    if LEAKS[leak] is None:
        path = tmp_path / "data" / other / "dog" / "leak.wav"
        write(path.with_suffix(".flac"), soundfile.read(path)[0])
        path.unlink()
        table = tmp_path / "data" / "metadata.csv"
        table.write_text(table.read_text().replace("leak.wav", "leak.flac"))
    checkup = examine(data, tmp_path / "out", threads=2)
    (finding,) = (one for one in checkup.findings if one.kind != "unlike level")
    check(finding)
    assert (finding.kind, finding.severity, finding.drop) == ("leak", "error", ("train/dog/train1.wav",))
    assert finding.where == f"{tmp_path}/data/metadata.csv, line 3"
    assert {one.clip.id for one in checkup.items} - {one.clip.id for one in checkup.kept} == {"train/dog/train1.wav"}


def test_of_many_near_copies_on_both_sides_only_the_held_out_one_stays(tmp_path):
    recordings = {**SOUND, "test/dog/held_out.wav": 0.5 * bursts(1)}
    sound = bursts(1)
    for number in range(15):
        recordings[f"train/dog/again{number:02d}.wav"] = np.clip((0.3 + number / 30) * sound + 1e-3 * bursts(300 + number), -1, 1)
    checkup = examine(listed(tmp_path / "data", recordings), tmp_path / "out", threads=2)
    kept = {one.clip.id for one in checkup.kept}
    assert "test/dog/held_out.wav" in kept
    assert not [name for name in kept if "again" in name or name.endswith("train1.wav")]
    assert len([one for one in checkup.findings if one.kind == "leak"]) == 1


def test_one_id_in_two_splits_leaves_out_the_training_side_and_keeps_the_manifest_readable(tmp_path):
    layouts.audiocaps(tmp_path / "caps")
    table = tmp_path / "caps" / "train.csv"
    table.write_text(table.read_text() + "999,te-_0000000,0,A sound that is tested too\n")
    data = AudioCaps(tmp_path / "caps", duration=0.4)
    checkup = examine(data, tmp_path / "out", threads=1)
    (leak,) = [one for one in checkup.findings if one.kind == "leak" and "source 'te-_0000000'" in one.problem]
    assert (leak.clips, leak.drop) == (("train/te-_0000000_0", "test/te-_0000000_0"), ("train/te-_0000000_0",))
    assert {one.clip.id for one in checkup.kept if "te-_0000000" in one.clip.id} == {"test/te-_0000000_0"}
    for name, items in (("all", checkup.items), ("clean", checkup.kept)):
        write_manifest(tmp_path / f"{name}.jsonl", items, data.root)
    clean = Folder(data.root, table=tmp_path / "clean.jsonl")
    assert len(clean.clips("test")) == 4


def test_an_entry_that_comes_twice_is_left_out_once(tmp_path):
    layouts.audioset(tmp_path / "set")
    table = tmp_path / "set" / "eval_segments.csv"
    table.write_text(table.read_text() + table.read_text().splitlines()[3] + "\n")
    checkup = examine(AudioSet(tmp_path / "set", duration=0.4), tmp_path / "out", threads=1)
    (finding,) = [one for one in checkup.findings if one.kind == "repeated id"]
    assert finding.where.endswith("eval_segments.csv, line 13")
    assert finding.drop == finding.clips == ("-ev_0000000_0 #2",)
    assert {one.clip.id for one in checkup.kept if "ev_0000000" in one.clip.id} == {"-ev_0000000_0"}


def test_of_two_copies_the_one_that_may_stay_is_kept(tmp_path):
    data = listed(tmp_path / "data", {**SOUND, "train/dog/a.wav": bursts(77), "train/dog/b.wav": bursts(77)})
    (tmp_path / "data" / "metadata.csv").write_text(
        "".join("train/dog/a.wav,,dog,train\n" if "a.wav" in line else line
                for line in (tmp_path / "data" / "metadata.csv").read_text().splitlines(keepends=True))
    )  # fmt: skip
    kept = {one.clip.id for one in examine(data, tmp_path / "out", threads=1).kept}
    assert "train/dog/b.wav" in kept
    assert "train/dog/a.wav" not in kept


def test_a_split_that_has_no_clip_or_keeps_none_is_an_error(tmp_path):
    checkup = examine(listed(tmp_path / "one", {"train/dog/a.wav": bursts(1), "val/dog/b.wav": bursts(2)}), tmp_path / "out", 1)
    assert [(one.where, one.severity) for one in checkup.findings if one.kind == "empty split"] == [("test split", "warning")]
    both = {"train/dog/a.wav": bursts(1), "val/dog/b.wav": bursts(2), "test/dog/b.wav": bursts(2)}
    checkup = examine(listed(tmp_path / "two", both), tmp_path / "out", 1)
    (finding,) = [one for one in checkup.findings if one.kind == "empty split"]
    assert (finding.where, finding.severity, finding.problem) == ("val split", "error", "has no clip that may stay")


@pytest.mark.parametrize("threads", [1, 3])
def test_the_order_of_findings_does_not_hang_on_threads(tmp_path, threads):
    recordings = {**SOUND, "train/dog/copy.wav": bursts(3), "test/dog/zeros.wav": np.zeros(RATE // 2), "val/dog/x.wav": bursts(200)}
    data = listed(tmp_path / "data", recordings)
    (tmp_path / "data" / "train" / "dog" / "train0.wav").write_bytes(b"")
    checkup = examine(data, tmp_path / "out", threads)
    assert [(one.severity, one.kind) for one in checkup.findings] == [
        ("error", "leak"), ("error", "silent"), ("error", "unreadable"), ("warning", "exact copy"), ("note", "padded"),
    ]  # fmt: skip
    assert not list((tmp_path / "out").iterdir())


# ---------------------------------------------------------------- histogram


@FAST
@given(st.lists(st.floats(), max_size=40), st.integers(1, 40))
def test_a_histogram_holds_every_finite_number_once(values, bins):
    values = [value if not abs(value) > 1e300 or math.isinf(value) else value / 1e10 for value in values]
    drawn = histogram(values, bins)
    finite = [value for value in values if math.isfinite(value)]
    assert sum(count for _, count, _, _ in drawn["bars"]) == len(finite)
    if not finite:
        assert drawn == {"bars": [], "low": 0.0, "high": 0.0}
        return
    assert len(drawn["bars"]) == bins
    assert max(height for height, *_ in drawn["bars"]) == 1
    assert all(0 <= height <= 1 and low < high for height, _, low, high in drawn["bars"])
    assert drawn["low"] <= min(finite) <= max(finite) <= drawn["high"]


def test_a_histogram_of_numbers_a_rounding_apart_is_drawn():
    drawn = histogram([5.0, math.nextafter(5.0, 6.0), -math.inf])
    assert sum(count for _, count, _, _ in drawn["bars"]) == 2
    assert drawn["low"] < 5 < drawn["high"]
