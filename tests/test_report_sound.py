"""Sounds as parts of a page."""

import base64
import io

import av
import numpy as np
import pytest
import torch

from audioldm_lit.audio.waveform import write
from audioldm_lit.report.sound import BIT_RATE, opus, read_sound


def decoded(ogg: bytes) -> tuple[np.ndarray, int]:
    with av.open(io.BytesIO(ogg)) as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        return np.concatenate(frames), container.streams.audio[0].rate


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
def test_opus_keeps_length_and_sound(rate):
    seconds = torch.arange(round(1.003 * rate)) / rate
    waveform = 0.3 * torch.sin(2 * torch.pi * 440 * seconds) + 0.2 * torch.sin(2 * torch.pi * 3000 * seconds)
    ogg = opus(waveform, rate)
    assert ogg == opus(waveform, rate)
    heard, heard_rate = decoded(ogg)
    assert abs(len(heard) / heard_rate - 1.003) < 0.001
    times = np.arange(len(heard)) / heard_rate
    meant = 0.3 * np.sin(2 * np.pi * 440 * times) + 0.2 * np.sin(2 * np.pi * 3000 * times)
    inner = slice(heard_rate // 10, -heard_rate // 10)
    assert np.corrcoef(heard[inner], meant[inner])[0, 1] > 0.99  # in step, with nothing put before it


def test_a_sound_of_a_page_is_small_and_as_long_as_its_file(tmp_path):
    write(tmp_path / "noise.wav", 0.3 * torch.rand(3 * 16_000, generator=torch.Generator().manual_seed(0)), 16_000)
    sound = read_sound(tmp_path / "noise.wav")
    assert sound.seconds == 3
    assert len(base64.b64decode(sound.audio)) < 1.3 * 3 * BIT_RATE / 8
    assert sound.picture.startswith("data:image/webp;base64,")
    assert sound.ticks[8] == 1
