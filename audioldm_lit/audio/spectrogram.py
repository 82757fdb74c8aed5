"""Log-mel spectrograms as pictures: dark is quiet, and a colour means the same level in every one of them."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from audioldm_lit.audio.log_mel import MEL_FLOOR, LogMel
from audioldm_lit.storage.atomic_write import atomic_write

LOUDEST = 2.2  # natural log of a mel bin: a full-scale sine reaches it, at low frequencies; 0 dB
DECIBELS = 20 / np.log(10)  # of one step of the natural logarithm of a magnitude
QUIETEST_DB = round(DECIBELS * (np.log(MEL_FLOOR) - LOUDEST))  # the floor, which is black
COLOURS = matplotlib.colormaps["magma"]  # evenly lighter with level, so that it can be read in grey
KILOHERTZ = (0.5, 1, 2, 4, 8, 16)  # labelled
EAST_ASIAN = ("Noto Sans CJK JP", "IPAGothic", "Hiragino Sans", "Yu Gothic")  # whichever is installed, for prompts


def coloured(log_mel: Tensor) -> NDArray[np.uint8]:
    """Pixels (M, F, 3) of a log-mel (F, M), natural log, as `LogMel` makes it: time to the right, frequency upwards."""
    floor = np.log(MEL_FLOOR)
    level = (log_mel.detach().float().cpu().numpy().T[::-1] - floor) / (LOUDEST - floor)
    return COLOURS(level.clip(0, 1), bytes=True)[..., :3]


def webp(log_mel: Tensor) -> bytes:
    """The bare picture as WebP, a pixel a bin, for pages that write its axes beside it."""
    file = io.BytesIO()
    Image.fromarray(coloured(log_mel)).save(file, format="WEBP", quality=60)
    return file.getvalue()


def frequency_ticks(front_end: LogMel) -> dict[float, float]:
    """Where labelled frequencies lie, as the share of the picture's height below them, by kHz."""
    filters = front_end.mel.mel_scale.fb.cpu().numpy()  # (bins, M)
    nyquist = front_end.sample_rate / 2
    centres = filters.argmax(axis=0) * nyquist / (len(filters) - 1)
    rows = len(centres)
    places = {one: np.interp(1000 * one, centres, np.arange(rows) + 0.5, right=rows) for one in KILOHERTZ if 1000 * one <= nyquist}
    return {one: float(place) / rows for one, place in places.items()}


def write_spectrogram(path: Path, log_mel: Tensor, front_end: LogMel, prompt: str) -> None:
    """Write a PNG with axes in seconds and kHz, a scale in dB and the prompt above; written whole or not at all.

    Args:
        path: The file.
        log_mel: (F, M), natural log.
        front_end: What made it.
        prompt: What the clip was made from; plain text, whatever signs it has.

    Raises:
        InputError: If the file cannot be written.
    """
    seconds = len(log_mel) * front_end.hop_length / front_end.sample_rate
    ticks = frequency_ticks(front_end)
    with matplotlib.rc_context({"font.family": _families()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a prompt in letters that no font here has
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        axes = figure.add_subplot(xlabel="s", ylabel="kHz")
        axes.set_title(prompt, loc="left", parse_math=False, wrap=True)
        axes.imshow(coloured(log_mel), extent=(0, seconds, 0, 1), aspect="auto", interpolation="nearest")
        axes.set_yticks(list(ticks.values()), [f"{kilohertz:g}" for kilohertz in ticks])
        figure.colorbar(ScalarMappable(Normalize(QUIETEST_DB, 0), COLOURS), ax=axes, label="dB")
        with atomic_write(path) as unfinished:
            figure.savefig(unfinished, format="png", dpi=100)


def _families() -> Sequence[str]:
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in EAST_ASIAN if name in installed)]
