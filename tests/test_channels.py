"""Channels that cancel each other, silence, and recordings too long to be held."""

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioldm_lit.audio import loudest as reading
from audioldm_lit.audio.channels import Channels, mono
from audioldm_lit.audio.loudest import loudest, read_loudest, resampled
from audioldm_lit.audio.loudness import SilentError
from audioldm_lit.audio.waveform import crop_loudest, read, resample
from audioldm_lit.data.clips import Clip, ClipDataset
from audioldm_lit.health.findings import Examined, clip_findings
from audioldm_lit.health.measure import measure
from audioldm_lit.training.cache import Cache

RATE = 16_000
FAST = settings(max_examples=40, deadline=None)


def noise(seed: int, length: int = RATE) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)


A, B, C = (noise(seed) for seed in range(3))
TAKEN = {  # channels: which one is taken
    "turned over": ([A, -A], 0),
    "turned over, the second louder": ([0.5 * A, -A], 1),
    "turned over at half the level": ([A, -0.49 * A], 0),
    "turned over with noise of its own": ([A + 0.2 * B, -A + 0.1 * C], 0),
    "turned over on an offset": ([A + 0.3, -A + 0.3], 0),
    "pairs that cancel": ([A, -A, B, -B], 2),
    "three that cancel": ([A, B, -A - B], 2),
    "six of which two cancel and four are silent": ([0 * A, A, 0 * A, -A, 0 * A, 0 * A], 1),
    "alike": ([A, A], None),
    "unrelated": ([A, B], None),
    "one silent": ([A, 0 * A], None),
    "one of six sounds": ([0 * A, 0 * A, A, 0 * A, 0 * A, 0 * A], None),
    "turned over at a quarter of the level": ([A, -0.25 * A], None),
    "a wide recording": ([A - 0.3 * B, B - 0.3 * A], None),
    "opposite offsets": ([A + 0.3, A - 0.3], None),
    "silent": ([1e-5 * A, -1e-5 * A], None),
    "one": ([A], None),
}


@pytest.mark.parametrize("name", TAKEN)
def test_one_channel_is_taken_where_the_mean_would_cancel(name):
    channels, expected = np.stack(TAKEN[name][0], axis=1), TAKEN[name][1]
    waveform, channel = mono(channels)
    if name == "pairs that cancel":
        assert channel is not None  # all four are as loud
    else:
        assert channel == expected
    assert waveform == pytest.approx(channels.mean(axis=1) if channel is None else channels[:, channel], abs=1e-6)
    pieces = Channels(channels.shape[1])
    for piece in np.split(channels, [1, 700, 9000]):
        pieces.add(piece)
    assert pieces.kept() == channel


@FAST
@given(st.integers(2, 8), st.integers(0, 1000))
def test_the_mean_of_unrelated_channels_is_always_kept(count, seed):
    levels = np.random.default_rng(seed).uniform(0.01, 1, count)
    channels = np.stack([level * noise(1000 * seed + c, 4000) for c, level in enumerate(levels)], axis=1)
    assert mono(channels)[1] is None


def test_training_prepare_and_reading_take_the_same_channel(tmp_path):
    path = tmp_path / "phase.wav"
    soundfile.write(path, np.stack([A, -A], axis=1), RATE, subtype="FLOAT")
    found, heard = measure(path)
    assert (found.channel, found.silent_share) == (0, 0)
    assert heard.numpy() == pytest.approx(A, abs=1e-6)
    assert read(path, RATE).numpy() == pytest.approx(A, abs=1e-6)
    waveform, channel = read_loudest(path, RATE, 99_999)
    assert channel == 0
    assert waveform.numpy() == pytest.approx(A, abs=1e-6)
    (finding,) = clip_findings(Examined(Clip("a", path, ""), "train", found), RATE)
    assert (finding.kind, finding.severity, finding.drop) == ("opposite polarity", "note", ())
    assert "channel 1 alone is taken" in finding.problem


def test_training_says_where_one_channel_is_taken_and_refuses_all_silent_clips(tmp_path, backbone, capsys):
    loud = np.stack([A, -A], axis=1)
    sounds = {"a.wav": loud, "b.wav": 0 * loud, "c.wav": 1e-5 * loud, "d.wav": loud[:, :1], "e.wav": 0 * A + 0.4}
    clips = []
    for name, samples in sounds.items():
        soundfile.write(tmp_path / name, samples, RATE, subtype="FLOAT")
        clips.append(Clip(name, tmp_path / name, "a sound"))
    cache = Cache(tmp_path / "cache", backbone, audio_embeds=False)
    with pytest.raises(SilentError) as caught:
        cache.fill(ClipDataset(clips, RATE, 5120, "zeros"))
    silent = ", ".join(str(tmp_path / name) for name in ("b.wav", "c.wav", "e.wav"))
    assert str(caught.value).startswith(f"{silent}: are silent: ")
    assert str(caught.value).endswith("; record them again, or leave them out, as prepare --fix does.")
    with pytest.raises(SilentError, match=r"b\.wav: is silent: .*; record it again, or leave it out, as prepare --fix does\.$"):
        cache.fill(ClipDataset(clips[:2], RATE, 5120, "zeros"))
    cache.fill(ClipDataset([clips[0], clips[3]], RATE, 6400, "zeros"))
    assert "opposite polarity: the channels cancel each other, and one is taken, of a.wav\n" in capsys.readouterr().err


# ---------------------------------------------------------------- too long to be held


@pytest.mark.parametrize("rate", [8000, 16_000, 22_254, 44_100, 44_101, 48_000])
def test_resampling_in_pieces_equals_resampling_at_once(rate):
    samples = noise(rate, 7 * rate + 7)
    pieces = torch.cat(list(resampled(np.split(samples, [1, 5, 70_000]), rate, RATE)))
    assert pieces.equal(resample(torch.from_numpy(samples), rate, RATE))


@FAST
@given(st.integers(1, 500), st.lists(st.integers(0, 400), max_size=6), st.integers(0, 1000))
def test_the_loudest_window_does_not_depend_on_the_pieces(num_samples, cuts, seed):
    waveform = torch.from_numpy(noise(seed, 400))
    pieces = torch.tensor_split(waveform, sorted(cuts))
    found = loudest(pieces, num_samples)
    assert found.equal(crop_loudest(waveform, num_samples) if num_samples < 400 else waveform)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_recording_that_is_not_held_gives_the_window_of_one_that_is(tmp_path, monkeypatch, channels):
    samples = np.stack([noise(9, 400_000), -noise(9, 400_000)][:channels], axis=1)
    samples *= np.interp(np.arange(len(samples)), [0, 250_000, 260_000, 400_000], [0.1, 0.2, 1, 0.1])[:, None]
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    held = read_loudest(tmp_path / "a.wav", RATE, 30_000)
    monkeypatch.setattr(reading, "HELD", 1000)
    monkeypatch.setattr("audioldm_lit.audio.loudness.BLOCK", 100_000)
    long = read_loudest(tmp_path / "a.wav", RATE, 30_000)
    assert long[1] == held[1] == (0 if channels == 2 else None)
    assert long[0].equal(held[0])
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, 1e-5 * samples, 44_100, subtype="FLOAT")
    with pytest.raises(SilentError, match="is silent"):
        read_loudest(silent, RATE, 30_000)


def test_a_span_is_read_and_has_a_key_of_its_own(tmp_path):
    soundfile.write(tmp_path / "a.wav", A, RATE, subtype="FLOAT")
    spans = [None, (0.25, 0.5), (0.25, 0.75)]
    clips = ClipDataset([Clip(str(span), tmp_path / "a.wav", "", span=span) for span in spans], RATE, RATE, "zeros")
    assert len({clips.content_key(index) for index in range(3)}) == 3
    waveform, _ = read_loudest(tmp_path / "a.wav", RATE, RATE, (0.25, 0.5))
    assert np.array_equal(waveform.numpy(), A[RATE // 4 : RATE // 2])
    assert measure(tmp_path / "a.wav", (0.25, 0.5))[0].duration == 0.25
