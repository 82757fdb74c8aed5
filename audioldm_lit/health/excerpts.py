"""What a page lets people hear and see of a recording: a few seconds as MP3 and their spectrogram, as parts of the page itself."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import soundfile
import torch
from PIL import Image
from torch import Tensor

from audioldm_lit.audio.channels import mono
from audioldm_lit.audio.parts import open_part
from audioldm_lit.audio.spectrogram import COLOURS
from audioldm_lit.audio.waveform import crop_loudest, resample
from audioldm_lit.data.clips import Part
from audioldm_lit.errors import InputError
from audioldm_lit.health.findings import Examined, Finding

MOST = 120  # sounds on a page, 3 MB: every clip of a small set, of a large one those with findings and those far out on the map
LINKED = 8  # clips of a finding, of which a note may name all
SECONDS = 3.0  # of each, the loudest
HEARD = 30  # seconds from the start among which they are sought
RATE = 16_000  # Hz
N_FFT, HOP, BANDS = 512, 160, 64
FLOOR_DB, TOP_DB = -60.0, 30.0  # power of a bin; a full-scale sine reaches 36


@dataclass(frozen=True)
class Excerpt:
    """A part of a recording.

    Attributes:
        seconds: How long it is.
        sound: MP3, mono at 16 kHz, as a data URI.
        picture: Spectrogram, 0 to 8 kHz upwards, as a data URI.
    """

    seconds: float
    sound: str
    picture: str


def worth_hearing(
    items: Sequence[Examined], findings: Iterable[Finding], places: Mapping[Part, tuple[float, float]], most: int = MOST
) -> list[Part]:
    """What a page lets hear: clips with errors and warnings, the first of each note, then those farthest out on the map.

    Args:
        items: Clips of the data set.
        findings: The worst first.
        places: On the map.
        most: How many at most.
    """
    readable = {item.clip.id: item.clip.part for item in items if item.measurement is not None}
    named = [name for finding in findings for name in finding.clips[: LINKED if finding.severity == "note" else None]]
    far = sorted(places, key=lambda part: -sum(place**2 for place in places[part]))
    return list(dict.fromkeys([*(readable[name] for name in named if name in readable), *far]))[:most]


def excerpts(parts: Sequence[Part], threads: int) -> dict[Part, Excerpt]:
    """Excerpts of recordings or parts of them, but of those that can no longer be read."""
    onwards = sorted(parts, key=lambda part: (str(part[0]), part[1] or (0.0, 0.0)))  # a long recording is read once
    with ThreadPoolExecutor(threads) as pool:
        made = dict(zip(onwards, pool.map(_excerpt, onwards), strict=True))
    return {part: excerpt for part in parts if (excerpt := made[part]) is not None}


def _excerpt(part: Part) -> Excerpt | None:
    path, span = part
    try:
        with open_part(path, span) as recording:
            rate = recording.sample_rate
            if span is not None:
                recording.skip_to(round(span[0] * rate))
            samples = recording.read(round(min(HEARD, span[1] - span[0] if span else HEARD) * rate))  # (T, C)
    except InputError:
        return None  # it could be read a moment ago; the check-up has said all there is to say
    waveform = resample(torch.from_numpy(mono(samples)[0]), rate, RATE)
    if len(waveform) > SECONDS * RATE:
        waveform = crop_loudest(waveform, round(SECONDS * RATE))
    return Excerpt(len(waveform) / RATE, _sound(waveform), _picture(waveform)) if len(waveform) else None


def _sound(waveform: Tensor) -> str:
    file = io.BytesIO()
    soundfile.write(file, waveform.clamp(-1, 1).numpy(), RATE, format="MP3", subtype="MPEG_LAYER_III")
    return f"data:audio/mpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _picture(waveform: Tensor) -> str:
    """A spectrogram whose colours mean the same in every picture."""
    padded = torch.nn.functional.pad(waveform, (N_FFT // 2, N_FFT // 2))
    power = torch.stft(padded, N_FFT, HOP, window=torch.hann_window(N_FFT), center=False, return_complex=True).abs().square()
    bands = power[: N_FFT // 2].reshape(BANDS, -1, power.shape[1]).mean(dim=1)  # (BANDS, frames)
    level = ((10 * bands.clamp(min=1e-12).log10() - FLOOR_DB) / (TOP_DB - FLOOR_DB)).clamp(0, 1).numpy()[::-1]
    file = io.BytesIO()
    Image.fromarray(COLOURS(level, bytes=True)[..., :3]).save(file, format="WEBP", quality=50)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
