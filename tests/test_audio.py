"""Audio in and out, and AudioLDM's front end: golden numbers, independent references, properties."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers.audio_utils import mel_filter_bank

from audioldm_lit.audio.log_mel import LogMel
from audioldm_lit.audio.waveform import PEAK, crop_loudest, fit, read, resample, write
from audioldm_lit.errors import InputError

RATE = 16_000
FAST = settings(max_examples=60, deadline=None)


def sine(frequency: float, num_samples: int, rate: int = RATE, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(num_samples) / rate)


# ---------------------------------------------------------------- log-mel


def reference_log_mel(waveform: np.ndarray, n_fft: int = 1024, hop: int = 160, n_mels: int = 64) -> np.ndarray:
    """The formula of AudioLDM's training code in numpy, float64: (T,) -> (F, M)."""
    pad = (n_fft - hop) // 2
    padded = np.pad(waveform.astype(np.float64), pad, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    magnitude = np.abs(np.fft.rfft(frames * scipy.signal.get_window("hann", n_fft), axis=1))  # (F, n_fft / 2 + 1)
    bank = mel_filter_bank(n_fft // 2 + 1, n_mels, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    return np.log(np.maximum(magnitude @ bank, 1e-5))


def test_ten_seconds_of_silence_are_1024_frames_of_minus_11_5129():
    log_mel = LogMel()(torch.zeros(1, 163_840))
    assert log_mel.shape == (1, 1, 1024, 64)
    assert log_mel.numpy() == pytest.approx(np.full(log_mel.shape, -11.5129), abs=1e-4)


def test_a_sine_of_half_amplitude_tops_out_near_1_29():
    log_mel = LogMel()(torch.from_numpy(sine(440, 163_840))[None])
    assert log_mel.max().item() == pytest.approx(1.29, abs=0.01)


@pytest.mark.parametrize("kind", ["noise", "quiet noise", "sine", "click"])
def test_log_mel_equals_the_formula_in_numpy(kind):
    rng = np.random.default_rng(0)
    click = np.zeros(RATE)
    click[5000] = 0.5
    waveforms = {"noise": 0.2 * rng.normal(size=RATE), "quiet noise": 1e-4 * rng.normal(size=RATE), "sine": sine(1000, RATE)}
    waveform = {**waveforms, "click": click}[kind].astype(np.float32)
    ours = LogMel()(torch.from_numpy(waveform)[None])[0, 0].numpy()
    reference = reference_log_mel(waveform)
    # Beside a pure tone the far bins hold the float32 FFT's own rounding, about 1e-5 of magnitude: compare those as magnitudes.
    assert np.exp(ours) == pytest.approx(np.exp(reference), rel=1e-4, abs=1e-4)
    loud = reference > -5
    assert ours[loud] == pytest.approx(reference[loud], abs=1e-3)


def test_log_mel_stays_in_float32_under_autocast():
    waveform = torch.from_numpy(sine(440, 16_000)).float()[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = LogMel()(waveform)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, LogMel()(waveform))


@FAST
@given(hops=st.integers(4, 200))
def test_a_whole_number_of_hops_gives_as_many_frames(hops):
    assert LogMel()(torch.zeros(2, 160 * hops)).shape == (2, 1, hops, 64)


# ---------------------------------------------------------------- fit

LENGTHS = st.integers(1, 3000)
PADDINGS = st.sampled_from(["zeros", "repeat"])


@FAST
@given(LENGTHS, LENGTHS, PADDINGS, st.floats(1e-4, 1e4), st.floats(-2, 2), st.integers(0, 1000))
def test_fit_gives_the_length_and_a_peak_of_half_whatever_comes(length, num_samples, padding, gain, offset, seed):
    noise = torch.randn(length, generator=torch.Generator().manual_seed(seed))
    fitted = fit(gain * (noise + offset), num_samples, padding)
    assert fitted.shape == (num_samples,)
    assert fitted.dtype == torch.float32
    assert fitted.isfinite().all()
    assert fitted.abs().max() <= PEAK
    if min(length, num_samples) > 1:
        assert fitted.abs().max() > PEAK * 0.99


@FAST
@given(LENGTHS, LENGTHS, PADDINGS, st.floats(-1, 1, width=32))
def test_silence_stays_silence_even_on_a_constant_offset(length, num_samples, padding, offset):
    assert fit(torch.full((length,), offset), num_samples, padding).abs().max() < 1e-6


@FAST
@given(LENGTHS, st.integers(1, 6), PADDINGS)
def test_padding_fills_the_end_and_keeps_the_clip(length, times, padding):
    waveform = torch.randn(length, generator=torch.Generator().manual_seed(length))
    clip = fit(waveform, length)
    fitted = fit(waveform, times * length + 1, padding)
    assert torch.equal(fitted[:length], clip)
    rest = clip.repeat(times)[: (times - 1) * length + 1] if padding == "repeat" else torch.zeros((times - 1) * length + 1)
    assert torch.equal(fitted[length:], rest)


@FAST
@given(st.integers(2, 400), st.data())
def test_the_crop_is_the_loudest_window(length, data):
    num_samples = data.draw(st.integers(1, length - 1))
    waveform = torch.randn(length, generator=torch.Generator().manual_seed(length))
    energies = [float(waveform[i : i + num_samples].double().square().sum()) for i in range(length - num_samples + 1)]
    cropped = crop_loudest(waveform, num_samples)
    assert len(cropped) == num_samples
    assert float(cropped.double().square().sum()) == pytest.approx(max(energies), rel=1e-9)


def test_of_equal_windows_the_earliest_is_cut():
    clicks = torch.zeros(100)
    clicks[[20, 60]] = 1.0
    assert crop_loudest(clicks, 10).tolist() == clicks[11:21].tolist()


def test_a_clip_that_starts_with_silence_still_sounds():
    late = torch.cat([torch.zeros(9000), torch.randn(1000, generator=torch.Generator().manual_seed(0))])
    assert fit(late, 1000).square().mean() > 0.01


# ---------------------------------------------------------------- read


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000, 22_254, 44_101])
def test_resampling_keeps_a_sine(tmp_path, rate):
    path = tmp_path / "sine.wav"
    soundfile.write(path, sine(440, rate // 2, rate), rate, subtype="FLOAT")
    waveform = read(path, RATE).numpy()
    assert len(waveform) == pytest.approx(RATE / 2, abs=2)
    inner = slice(200, -200)  # the filter starts and ends in silence
    assert waveform[inner] == pytest.approx(sine(440, len(waveform))[inner], abs=5e-3)


def test_what_lies_above_half_the_rate_is_removed(tmp_path):
    path = tmp_path / "ultrasonic.wav"
    soundfile.write(path, sine(20_000, 48_000, 48_000), 48_000)
    assert read(path, RATE)[200:-200].abs().max() < 0.01


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(tmp_path, channels):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (4000, channels)).astype("float32")
    path = tmp_path / "clip.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    assert read(path, RATE).numpy() == pytest.approx(samples.mean(axis=1), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [("a.wav", "PCM_U8", 0.01), ("a.wav", "PCM_16", 1e-4), ("a.wav", "PCM_24", 1e-6), ("a.wav", "ULAW", 0.02),
     ("a.flac", "PCM_16", 1e-4), ("a.aiff", "PCM_16", 1e-4), ("A B – ü 犬.WAV", "PCM_16", 1e-4), ("a.ogg", "VORBIS", 0.1)],
)  # fmt: skip
def test_every_usual_format_is_read(tmp_path, name, subtype, tolerance):
    path = tmp_path / name
    soundfile.write(path, sine(440, 8000), RATE, subtype=subtype)
    assert read(path, RATE).numpy() == pytest.approx(sine(440, 8000), abs=tolerance)


@pytest.mark.parametrize("rate", [8000, 16_000, 192_000])
def test_one_sample_is_a_recording(tmp_path, rate):
    soundfile.write(tmp_path / "one.wav", np.array([0.5]), rate)
    waveform = read(tmp_path / "one.wav", RATE)
    assert len(waveform) >= 1
    assert fit(waveform, 100).shape == (100,)


def unreadable(kind: str, path: Path) -> Path:
    if kind == "folder":
        path.mkdir()
    elif kind == "no bytes":
        path.touch()
    elif kind == "text":
        path.write_text("not audio")
    elif kind == "no samples":
        soundfile.write(path, np.zeros(0), RATE, format="WAV")
    elif kind in ("nan", "infinite"):
        samples = np.zeros(100)
        samples[50] = float(kind.removesuffix("inite"))
        soundfile.write(path, samples, RATE, subtype="FLOAT", format="WAV")
    elif kind == "half a FLAC":
        soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, RATE), RATE, format="FLAC")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "half a header":
        soundfile.write(path, np.zeros(100), RATE, format="WAV")
        path.write_bytes(path.read_bytes()[:20])
    return path


@pytest.mark.parametrize("name", ["a b ü.wav", "clip.flac", "clip.mp3", "clip.raw"])
@pytest.mark.parametrize(
    "kind", ["missing", "folder", "no bytes", "text", "no samples", "nan", "infinite", "half a FLAC", "half a header"]
)
def test_broken_audio_is_one_sentence_naming_the_file(tmp_path, kind, name):
    path = unreadable(kind, tmp_path / name)
    with pytest.raises(InputError) as caught:
        read(path, RATE)
    sentence = str(caught.value)
    assert sentence.count(str(path)) == 1, sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


# ---------------------------------------------------------------- write


@FAST
@given(st.lists(st.floats(-1, 1, width=32), max_size=300))
def test_write_then_read_gives_the_samples_back(tmp_path_factory, samples):
    assume(samples)
    path = tmp_path_factory.mktemp("write") / "deep" / "er" / "clip.wav"
    write(path, torch.tensor(samples), RATE)
    assert soundfile.info(path).subtype == "PCM_16"
    assert read(path, RATE).numpy() == pytest.approx(np.array(samples), abs=1.01 / 2**15)
    shutil.rmtree(path.parents[2])


def test_a_waveform_beyond_full_scale_is_scaled_not_clipped(tmp_path):
    loud = torch.from_numpy(sine(440, 1000, amplitude=3.0)).bfloat16()
    write(tmp_path / "loud.wav", loud, RATE)
    assert read(tmp_path / "loud.wav", RATE).numpy() == pytest.approx((loud / loud.abs().max()).float().numpy(), abs=0.01)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "clip.wav"
    write(path, torch.full((100,), 0.5), RATE)
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile, "write", full)
    with pytest.raises(InputError, match=r"clip\.wav: cannot be written"):
        write(path, torch.zeros(100), RATE)
    assert os.listdir(tmp_path) == ["clip.wav"]
    assert path.read_bytes() == before


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="taken"):
        write(tmp_path / "taken" / "clip.wav", torch.zeros(10), RATE)


def test_samples_that_are_not_finite_are_never_written(tmp_path):
    with pytest.raises(InputError, match=r"clip\.wav: would hold NaN"):
        write(tmp_path / "clip.wav", torch.tensor([0.0, float("nan")]), RATE)
    assert not os.listdir(tmp_path)


def test_resampling_keeps_full_precision_under_autocast():
    waveform = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        resampled = resample(waveform, 16_000, 44_100)
    assert torch.equal(resampled, resample(waveform, 16_000, 44_100))
