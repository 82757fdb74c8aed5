"""A log-mel spectrogram as a picture, with the same colours for the same loudness in every picture."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from audioldm_lit.audio.log_mel import MEL_FLOOR
from audioldm_lit.storage.atomic_write import atomic_write

LOUDEST = 2.2  # natural log of a mel bin: a full-scale sine reaches it, at low frequencies
ROWS = 4  # pixels a mel bin
COLOURS = np.array([(0, 0, 0), (60, 15, 110), (160, 40, 120), (240, 110, 70), (255, 250, 190)])  # dark to light, evenly


def write_spectrogram(path: Path, log_mel: Tensor) -> None:
    """Write a PNG, time to the right and frequency upwards, black where the log-mel is at its floor; written whole or not at all.

    Args:
        path: The file.
        log_mel: (F, M), natural log, as `LogMel` makes it.

    Raises:
        InputError: If the file cannot be written.
    """
    floor = np.log(MEL_FLOOR)
    level = (log_mel.detach().float().cpu().numpy().T[::-1] - floor) / (LOUDEST - floor)  # (M, F), 0 to 1
    scale = np.linspace(0, 1, len(COLOURS))
    pixels = np.stack(
        [np.interp(level, scale, channel) for channel in COLOURS.T], axis=-1
    )  # (M, F, 3); beyond the ends as the ends
    with atomic_write(path) as unfinished:
        Image.fromarray(pixels.round().astype(np.uint8).repeat(ROWS, axis=0)).save(unfinished, format="PNG")
