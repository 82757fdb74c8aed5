"""Audio in and out: reading, resampling, writing, and fitting to a length.

Letters in shapes: T samples.
"""

from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

from audioldm_lit.audio.channels import mono
from audioldm_lit.audio.decoding import read_channels
from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import atomic_write
from audioldm_lit.storage.paths import accepts_strings

Padding = Literal["zeros", "repeat"]

PEAK = 0.5  # every training clip is scaled to this peak, as AudioLDM's own loader does


@accepts_strings
def read(path: Path, sample_rate: int) -> Tensor:
    """Read an audio file as mono at the asked rate in Hz; (T,) float32, see `read_channels` and `Channels`."""
    channels, file_rate = read_channels(path)
    return resample(torch.from_numpy(mono(channels.T.numpy())[0]), file_rate, sample_rate)


def resample(waveform: Tensor, sample_rate: int, new_sample_rate: int) -> Tensor:
    """Change the rate of a waveform (..., T) with torchaudio's windowed sinc (Hann, six zero crossings)."""
    ratio = resampling_ratio(sample_rate, new_sample_rate)
    # The filter is a convolution, which autocast would run in half precision.
    with torch.autocast(waveform.device.type, enabled=False):
        return torchaudio.functional.resample(waveform, ratio.denominator, ratio.numerator)


def resampling_ratio(sample_rate: int, new_sample_rate: int) -> Fraction:
    """New samples for one old one, in terms up to 1,000: exact for usual rates, less than a hundredth of a cent off for odd ones.

    The filter bank has one filter a term: 44,101 Hz would take gigabytes.
    """
    return Fraction(new_sample_rate, sample_rate).limit_denominator(1000)


@accepts_strings
def write(path: Path, waveform: Tensor, sample_rate: int) -> None:
    """Write a waveform (T,) as 16-bit PCM WAV; the file appears whole or not at all, whichever processes write it.

    Samples beyond [-1, 1] would be clipped, so such a waveform is first scaled to peak 1.

    Raises:
        InputError: If the file cannot be written, or a sample is not finite.
    """
    samples = waveform.detach().float().cpu().numpy()
    if not np.isfinite(samples).all():
        mend = "lower what made it so loud, such as an adapter's strength or the guidance, or compute in float32"
        raise InputError(path, "would hold NaN or infinite samples and is not written", mend)
    samples = samples / max(1.0, float(np.abs(samples).max(initial=0.0)))
    try:
        with atomic_write(path) as unfinished:
            soundfile.write(unfinished, samples, sample_rate, subtype="PCM_16", format="WAV")
    except RuntimeError as error:  # libsndfile's own errors
        raise InputError(path, f"cannot be written ({error})", "choose another folder or make room") from error


def crop_loudest(waveform: Tensor, num_samples: int) -> Tensor:
    """Cut the window of `num_samples` samples with the most energy, the earliest of equals; (T,) -> (num_samples,).

    A fixed rule instead of a random crop: the same clip gives the same latent in every run, so it can be cached, and a
    recording that starts with silence still gives sound.
    """
    energy = F.pad(waveform.double().square().cumsum(0), (1, 0))  # (T + 1,)
    in_window = energy[num_samples:] - energy[:-num_samples]  # (T - num_samples + 1,)
    start = int(in_window.argmax())
    return waveform[start : start + num_samples]


def fit(waveform: Tensor, num_samples: int, padding: Padding = "zeros") -> Tensor:
    """Bring a waveform of any length to `num_samples`, centred and scaled to peak 0.5 as the model was trained.

    Args:
        waveform: (T,), any length above zero.
        num_samples: Length of the result in samples.
        padding: What fills a clip that is too short: `zeros` at its end (AudioLDM's own rule) or `repeat` the clip.

    Returns:
        (num_samples,) float32 with peak at most 0.5; silence stays silence, also where it sits on a constant offset.
    """
    if len(waveform) > num_samples:
        waveform = crop_loudest(waveform, num_samples)
    waveform = waveform.double()  # in float32 the rounding of the mean alone would be scaled up to an audible offset
    waveform = waveform - waveform.mean()
    waveform = (PEAK * waveform / (waveform.abs().max() + 1e-8)).float()
    if padding == "repeat":
        return waveform.repeat(-(-num_samples // len(waveform)))[:num_samples]
    return F.pad(waveform, (0, num_samples - len(waveform)))
