"""Sounds as parts of a page: Opus to hear, a picture to see. Nothing is ever measured on these copies."""

import base64
import io
from dataclasses import dataclass
from functools import cache
from math import log
from pathlib import Path

import av
import torch
from torch import Tensor

from audioldm_lit.audio.channels import mono
from audioldm_lit.audio.decoding import read_channels
from audioldm_lit.audio.log_mel import MEL_FLOOR, LogMel
from audioldm_lit.audio.spectrogram import LOUDEST, frequency_ticks, webp
from audioldm_lit.report.shell import data_uri

BIT_RATE = 48_000  # bit/s of mono Opus, above what its own listening tests found to be transparent
RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # Hz that Opus knows


@dataclass(frozen=True)
class Sound:
    """A clip as a page holds it.

    Attributes:
        seconds: How long it is.
        audio: Ogg Opus in base64, for a script to decode.
        picture: Log-mel spectrogram as a data URI, without axes.
        ticks: Height of each labelled frequency in kHz, as a share of the picture's.
    """

    seconds: float
    audio: str
    picture: str
    ticks: dict[float, float]


def read_sound(path: Path) -> Sound:
    """A recording of any format, as mono.

    Raises:
        InputError: If it is missing or cannot be read.
    """
    channels, rate = read_channels(path)
    waveform = torch.from_numpy(mono(channels.T.numpy())[0])
    front_end = _front_end(rate)
    padded = torch.nn.functional.pad(waveform, (0, max(0, front_end.mel.n_fft - len(waveform))))
    picture = data_uri(webp(front_end(padded[None])[0, 0]), "image/webp")
    return Sound(len(waveform) / rate, base64.b64encode(opus(waveform, rate)).decode(), picture, frequency_ticks(front_end))


def opus(waveform: Tensor, sample_rate: int) -> bytes:
    """A waveform (T,) in [-1, 1] as Ogg Opus of `BIT_RATE`; the same samples give the same bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        rate = next((rate for rate in RATES if rate >= sample_rate), RATES[-1])
        stream = container.add_stream("libopus", rate=rate, layout="mono")
        stream.bit_rate = BIT_RATE
        frame = av.AudioFrame.from_ndarray(waveform.float().clamp(-1, 1).numpy()[None], format="flt", layout="mono")
        frame.sample_rate = sample_rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def scale() -> str:
    """The colours of spectrograms from the quietest to the loudest, as a data URI."""
    return data_uri(webp(torch.linspace(log(MEL_FLOOR), LOUDEST, 120)[:, None]), "image/webp")


@cache
def _front_end(sample_rate: int) -> LogMel:
    """AudioLDM's own, at 16 kHz; windows as long at any other rate, and frequencies up to the highest that it holds."""
    seconds = {"n_fft": 0.064, "hop_length": 0.01}
    sizes = {name: round(length * sample_rate) for name, length in seconds.items()}
    return LogMel(sample_rate, **sizes, f_max=sample_rate / 2)
