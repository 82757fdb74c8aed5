"""The level that clips are brought to."""

import numpy as np
import pytest
import torch

from audioldm_lit.audio.level import Level, excess, k_weighting, loudness
from audioldm_lit.errors import InputError

RATE = 48_000
SINE = np.sin(2 * np.pi * 997 * np.arange(5 * RATE) / RATE)


def test_the_filters_are_the_standard_s():
    """Tables 1 and 2 of ITU-R BS.1770-4."""
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585]
    high_pass = [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]
    assert np.allclose(k_weighting(RATE), [shelf, high_pass], atol=1e-12)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_full_sine_of_997_hz_has_minus_3_01_lufs(rate):
    sine = np.sin(2 * np.pi * 997 * np.arange(5 * rate) / rate)
    assert loudness(sine, rate) == pytest.approx(-3.01, abs=0.05)
    assert loudness(0.1 * sine, rate) == pytest.approx(-23.01, abs=0.05)


def test_quiet_parts_are_gated():
    """Tech 3341 of the EBU, case 3: what is far below the rest does not count."""
    clip = np.concatenate([10 ** (-36 / 20) * SINE, 10 ** (-23 / 20) * np.tile(SINE, 6), 10 ** (-36 / 20) * SINE])
    assert loudness(clip, RATE) == pytest.approx(-23 - 3.01, abs=0.1)
    assert loudness(np.zeros(RATE), RATE) == -np.inf


def test_clips_are_brought_to_their_level():
    clip = torch.from_numpy(0.03 * SINE + 0.01 * np.random.default_rng(0).standard_normal(len(SINE)))
    assert loudness((clip * Level(lufs=-23).gain(clip, RATE)).numpy(), RATE) == pytest.approx(-23, abs=1e-6)
    assert float((clip * Level(peak=-1).gain(clip, RATE)).abs().max()) == pytest.approx(10 ** (-1 / 20))
    assert Level().gain(clip, RATE) == 1
    assert Level(lufs=-23).gain(torch.zeros(RATE), RATE) == Level(peak=-1).gain(torch.zeros(RATE), RATE) == 1


def test_what_would_clip_is_told_in_decibels():
    assert excess(torch.tensor([0.5, -2.0])) == pytest.approx(6.0206, abs=1e-4)
    assert excess(torch.tensor([0.5, -1.0])) == 0


@pytest.mark.parametrize(
    ("level", "seconds", "named"),
    [
        (Level(-1, -23), 1.0, "--peak and --lufs: are both given"),
        (Level(peak=1), 1.0, "--peak: is 1; give dB"),
        (Level(lufs=1), 1.0, "--lufs: is 1; give LUFS"),
        (Level(lufs=-23), 0.3, "--lufs: needs 0.4 s, and clips have 0.3"),
    ],
)
def test_what_no_clip_can_have_is_refused(level, seconds, named):
    with pytest.raises(InputError, match=named):
        level.check(seconds)
