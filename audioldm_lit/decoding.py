"""Audio files to samples: whole or in pieces, and every way in which a file can be broken as one sentence."""

import re
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioldm_lit.errors import InputError

MAX_SAMPLES = 2**27  # of all channels together that are ever held at once: 512 MB, 50 minutes at 44.1 kHz
WHOLE = 0.95  # of the length a compressed file states: some state an estimate


def read_channels(path: Path) -> tuple[Tensor, int]:
    """Read an audio file as it is.

    Args:
        path: Any file libsndfile reads (WAV, FLAC, OGG, MP3, AIFF ...).

    Returns:
        Waveform (C, T), float32, of all channels, and its rate in Hz.

    Raises:
        InputError: If the file is missing, cannot be decoded, is empty, cut off or too long, or holds samples that are not finite.
    """
    with open_audio(path) as file:
        if file.frames * file.channels > MAX_SAMPLES:
            hours = file.frames / file.samplerate / 3600
            raise InputError(f"{path}: lasts {hours:.1f} h in {file.channels} channels, too long for a clip; cut it into pieces.")
        samples = decode(file)  # (T, C)
        if not len(samples):
            raise InputError(f"{path}: holds no samples; remove it or record it again.")
        check_whole(file, len(samples))
        return torch.from_numpy(samples).T, file.samplerate  # (T, C) -> (C, T)


def open_audio(path: Path) -> soundfile.SoundFile:
    """Open an audio file to decode it.

    Raises:
        InputError: If it is missing, empty, or no audio that can be read.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such audio file; correct the path or remove the entry.")
    try:
        if not path.stat().st_size:
            raise InputError(f"{path}: is empty (0 bytes); copy it again or remove it.")
        with path.open("rb"):  # libsndfile has one message for everything that is wrong with a file
            pass
        return soundfile.SoundFile(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); see to its permissions.") from error
    except (RuntimeError, TypeError) as error:  # libsndfile's own errors; TypeError for headerless files
        raise _unreadable(path, error) from error


def decode(file: soundfile.SoundFile, num_frames: int = -1) -> NDArray[np.float32]:
    """The next samples (T, C), float32, all that are left by default; none at the end.

    Raises:
        InputError: If they cannot be decoded or are not finite.
    """
    try:
        samples = file.read(num_frames, dtype="float32", always_2d=True)
    except RuntimeError as error:
        raise _unreadable(file.name, error) from error
    if not np.isfinite(samples).all():
        raise InputError(f"{file.name}: holds NaN or infinite samples; export it again as PCM.")
    return samples


def check_whole(file: soundfile.SoundFile, num_frames: int) -> None:
    """Refuse a file that ends before its own header says it does, as after a copy that broke off.

    Args:
        file: At its end.
        num_frames: What could be decoded.

    Raises:
        InputError: If more was to come.
    """
    stated = file.frames
    # libsndfile corrects the length of WAV and AIFF and only mentions what the header says. A writer to a pipe, which cannot go
    # back to the header, leaves a length beyond 2 GB there.
    sizes = re.search(r"(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info)
    if sizes and int(sizes[1]) < 0x7FFF_0000 and int(sizes[2]) > 0:
        stated = round(stated * int(sizes[1]) / int(sizes[2]))
    if num_frames < WHOLE * stated:
        seconds = num_frames / file.samplerate, stated / file.samplerate
        raise InputError(f"{file.name}: is cut off, {seconds[0]:.1f} of {seconds[1]:.1f} s are there; copy it again.")


def _unreadable(path: Path | str, error: Exception) -> InputError:
    reason = str(getattr(error, "error_string", error)).strip(".")
    return InputError(f"{path}: cannot be read as audio ({reason}); remove it or convert it to WAV or FLAC.")
