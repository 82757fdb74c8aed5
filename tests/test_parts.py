"""Conditioning, moving average and clip metrics: each against what it says of itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioldm_lit import seeding
from audioldm_lit.conditioning import Conditioning
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.denoising_loss import HeldOutLoss
from audioldm_lit.training.ema import EMA

GENERATORS = [("c", i) for i in range(3000)]


@pytest.mark.parametrize(("audio_probability", "dropout"), [(0.0, 0.0), (0.0, 0.1), (0.5, 0.1), (1.0, 0.0), (0.3, 1.0)])
def test_conditions_come_in_the_stated_shares(audio_probability, dropout):
    count = len(GENERATORS)
    text, audio, nothing = torch.full((count, 1), 1.0), torch.full((count, 1), 2.0), torch.zeros(1)
    generators = [seeding.generator(*key) for key in GENERATORS]
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
    ema, expected = EMA(0.3), 1.0
    ema.start({"w": weight})
    for step in range(1, 6):
        weight.data = torch.tensor([float(step + 1)])
        ema.update({"w": weight})
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1)
    ema.swap({"w": weight})
    assert weight.item() == pytest.approx(expected)
    ema.swap({"w": weight})
    assert weight.item() == 6


@pytest.mark.parametrize("decay", [-0.1, 1, float("nan")])
def test_a_decay_that_averages_nothing_is_refused(decay):
    assert EMA(0).decay == 0
    with pytest.raises(InputError, match=rf"model\.ema_decay: is {decay}; give a number from 0 to below 1"):
        EMA(decay)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.integers(1, 5), st.randoms(use_true_random=False))
def test_held_out_loss_counts_every_clip_once_in_any_order(losses, repeats, random):
    rows = [(f"clip {i}", loss) for i, loss in enumerate(losses)]
    seen = rows + [random.choice(rows) for _ in range(repeats)]
    random.shuffle(seen)
    metric = HeldOutLoss()
    for start in range(0, len(seen), 3):
        part = seen[start : start + 3]
        by_timestep = torch.tensor([[loss, 3 * loss] for _, loss in part], dtype=torch.float64)
        metric.update([one for one, _ in part], by_timestep)
    mean = sum(losses) / len(losses)
    assert metric.by_timestep().tolist() == pytest.approx([mean, 3 * mean], rel=1e-12, abs=1e-12)
    assert metric.compute().item() == pytest.approx(2 * mean, rel=1e-12, abs=1e-12)
