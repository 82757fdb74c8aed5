"""Conditioning, moving average, cache and clip metrics: each against what it says of itself."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioldm_lit import noise
from audioldm_lit.cache import Cache
from audioldm_lit.conditioning import Conditioning
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.ema import EMA
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.held_out import HeldOutLoss

import layouts
import tiny

GENERATORS = [("c", i) for i in range(3000)]


@pytest.mark.parametrize(("audio_probability", "dropout"), [(0.0, 0.0), (0.0, 0.1), (0.5, 0.1), (1.0, 0.0), (0.3, 1.0)])
def test_conditions_come_in_the_stated_shares(audio_probability, dropout):
    count = len(GENERATORS)
    text, audio, nothing = torch.full((count, 1), 1.0), torch.full((count, 1), 2.0), torch.zeros(1)
    generators = [noise.generator(*key) for key in GENERATORS]
    drawn = Conditioning(audio_probability, dropout).draw(text, audio, nothing, generators)
    shares = [(drawn == value).double().mean().item() for value in (0, 1, 2)]
    expected = [dropout, (1 - dropout) * (1 - audio_probability), (1 - dropout) * audio_probability]
    assert shares == pytest.approx(expected, abs=0.035)  # about four standard deviations


@pytest.mark.parametrize("settings", [{"dropout": 1.1}, {"audio_probability": -0.1}])
def test_wrong_probability_is_named(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        Conditioning(**settings)


def test_average_follows_the_formula_and_swaps_back():
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    ema, expected = EMA(0.5), 1.0
    ema.start({"w": weight})
    for step in range(1, 6):
        weight.data = torch.tensor([float(step + 1)])
        ema.update({"w": weight})
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1)
    ema.swap({"w": weight})
    assert weight.item() == pytest.approx(expected)
    ema.swap({"w": weight})
    assert weight.item() == 6


@pytest.fixture
def clips(tmp_path):
    data = ESC50(**layouts.esc50(tmp_path / "esc50"), duration=0.64)
    data.setup("validate")
    return data.datasets["val"]


def test_cached_latents_equal_fresh_ones(clips, tmp_path, backbone):
    encoded = Cache(tmp_path / "cache", backbone, audio_embeds=True).encode(clips)
    for index in (0, len(clips) - 1):
        waveform = clips[index]["waveform"][None]
        mean, std = backbone.encode_posterior(waveform)
        item = encoded[index]
        assert torch.allclose(item["mean"], mean[0], atol=1e-3 * mean.abs().max().item())
        assert torch.allclose(item["std"], std[0], atol=1e-3 * std.abs().max().item())
        assert torch.allclose(item["audio_embeds"], backbone.encode_audio(waveform)[0], atol=1e-5)
        assert torch.allclose(item["prompt_embeds"], backbone.encode_text([item["caption"]])[0], atol=1e-5)


def test_cache_depends_on_content_and_encoder_alone(clips, tmp_path, backbone):
    folder = tmp_path / "cache"
    first = Cache(folder, backbone, audio_embeds=False).encode(clips).paths
    assert Cache(folder, backbone, audio_embeds=False).encode(clips).paths == first
    other_encoder = Cache(folder, tiny.backbone(seed=1), audio_embeds=False).encode(clips).paths
    assert not set(first) & set(other_encoder)
    longer = copy.copy(clips)
    longer.num_samples *= 2
    assert not set(first) & set(Cache(folder, backbone, audio_embeds=False).encode(longer).paths)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_processes_that_start_one_after_the_other_leave_no_clip_out(clips, tmp_path, backbone, order):
    cache = Cache(tmp_path / "cache", backbone, audio_embeds=False)
    parts = [cache.encode(clips, rank, num_ranks=3) for rank in order]
    assert all(path.is_file() for path in parts[0].paths)


def test_cached_clips_are_not_read_again(clips, tmp_path, backbone, monkeypatch):
    cache = Cache(tmp_path / "cache", backbone, audio_embeds=False)
    cache.encode(clips)
    monkeypatch.setattr(type(backbone), "encode_posterior", None)
    monkeypatch.setattr(type(backbone), "encode_text", None)
    assert len(cache.encode(clips)) == len(clips)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.integers(1, 5), st.randoms(use_true_random=False))
def test_held_out_loss_counts_every_clip_once_in_any_order(losses, repeats, random):
    rows = [(f"clip {i}", loss) for i, loss in enumerate(losses)]
    seen = rows + [random.choice(rows) for _ in range(repeats)]
    random.shuffle(seen)
    metric = HeldOutLoss()
    for start in range(0, len(seen), 3):
        part = seen[start : start + 3]
        metric.update([one for one, _ in part], torch.tensor([loss for _, loss in part], dtype=torch.float64))
    assert metric.compute().item() == pytest.approx(sum(losses) / len(losses), rel=1e-12, abs=1e-12)
