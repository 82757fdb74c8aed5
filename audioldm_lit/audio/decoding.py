"""Audio files to samples, whole or in pieces; each way in which a file can be broken is an error of one sentence."""

import os
import re
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioldm_lit.errors import InputError
from audioldm_lit.storage.names import why_no_file

MAX_SAMPLES = 2**27  # of all channels together that are ever held at once: 512 MB, 50 minutes at 44.1 kHz
USUAL_RATE = 16_000  # Hz; what has a lower rate grows when it is brought to the model's
WHOLE = 0.95  # of the length a compressed file states: some state an estimate
EXACT = 0.999  # of the length an uncompressed one states: some count a byte of padding
RATES = 1_000, 1_000_000  # Hz; beyond them no recording was ever made, so the header is damaged
LEVEL = 1e12  # beyond it, samples in float32 overflow where channels are added
UNKNOWN = 2**63 - 1  # frames, as libsndfile has it for a FLAC that was written to a pipe
OGG_PAGE = 65_307  # bytes of the longest page


class _Onwards(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file that is read onwards only: soundfile seeks after every read, and MP3 read in pieces then has gaps."""

    def seekable(self) -> bool:
        """Whether soundfile may seek."""
        return False


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
        check_length(file)
        samples = decode(file)  # (T, C)
        if not len(samples):
            raise InputError(path, "holds no samples", "remove it or record it again")
        check_whole(file, len(samples))
        return torch.from_numpy(samples).T, file.samplerate  # (T, C) -> (C, T)


def check_length(file: soundfile.SoundFile) -> None:
    """Refuse a file too long to be held at once.

    Raises:
        InputError: If it is.
    """
    if file.frames * max(file.channels, USUAL_RATE / file.samplerate) > MAX_SAMPLES:
        hours = file.frames / file.samplerate / 3600
        raise InputError(file.name, f"lasts {hours:.1f} h in {file.channels} channels, too long for a clip", "cut it into pieces")


def check_openable(path: Path) -> None:
    """Refuse what has no bytes to read.

    Raises:
        InputError: If it is missing, not a file, empty, or may not be read.
    """
    if not os.path.isfile(path):
        raise InputError(path, why_no_file(path), "correct the path or remove the entry")
    try:
        if not path.stat().st_size:
            raise InputError(path, "is empty (0 bytes)", "copy it again or remove it")
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(path, f"cannot be opened ({error.strerror})", "see to its permissions") from error


def open_audio(path: Path) -> soundfile.SoundFile:
    """Open an audio file to decode it.

    Raises:
        InputError: If it is missing, empty, or not audio that can be read.
    """
    check_openable(path)  # libsndfile has one message for everything that is wrong with a file
    try:
        file = _Onwards(path)
    except (RuntimeError, TypeError) as error:  # libsndfile's own errors; TypeError for headerless files
        raise _unreadable(path, error) from error
    if not RATES[0] <= file.samplerate <= RATES[1]:
        raise InputError(path, f"states a sample rate of {file.samplerate:,} Hz, which no recording has", "export it again")
    if file.frames == UNKNOWN:
        raise InputError(path, "does not say how long it is, as when it was written to a pipe", "convert it to WAV or FLAC")
    return file


def decode(file: soundfile.SoundFile, num_frames: int = -1) -> NDArray[np.float32]:
    """The next samples (T, C), float32; by default all that are left, and none at the end.

    Raises:
        InputError: If they cannot be decoded or are not finite.
    """
    try:
        left = file.frames - file.tell()
        samples = file.read(left if num_frames < 0 else min(num_frames, left), dtype="float32", always_2d=True)
    except RuntimeError as error:
        there = file.tell()
        if 0 < there < file.frames:
            seconds = f"{there / file.samplerate:.1f} of {file.frames / file.samplerate:.1f} s"
            raise InputError(file.name, f"is damaged, {seconds} can be read", "copy it again") from error
        raise _unreadable(file.name, error) from error
    if len(samples) and not (samples.min() > -LEVEL and samples.max() < LEVEL):  # NaN is neither
        raise InputError(file.name, "holds NaN or infinite samples", "export it again as PCM")
    return samples


def check_whole(file: soundfile.SoundFile, num_frames: int) -> None:
    """Refuse a file that ends before its own header says it does, as after an interrupted copy.

    Args:
        file: At its end.
        num_frames: What could be decoded.

    Raises:
        InputError: If its header promises more.
    """
    stated, whole = file.frames, WHOLE
    # libsndfile corrects the length of WAV, AIFF, AU, W64 and RF64 and only mentions what the header says. A writer to a pipe,
    # which cannot go back to the header, leaves a length beyond 2 GB there.
    sizes = re.search(r"(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", file.extra_info)
    if sizes and int(sizes[1]) < 0x7FFF_0000 and int(sizes[2]) > 0:
        stated, whole = round(stated * int(sizes[1]) / int(sizes[2])), EXACT
    if file.format == "OGG" and ("Corrupted bitstream" in file.extra_info or not _has_last_page(file.name)):
        raise InputError(file.name, "is damaged or cut off, not all of its pages are there", "copy it again")
    if num_frames < whole * stated:
        seconds = num_frames / file.samplerate, stated / file.samplerate
        raise InputError(file.name, f"is cut off, {seconds[0]:.1f} of {seconds[1]:.1f} s are there", "copy it again")


def _has_last_page(path: str) -> bool:
    """Whether an Ogg file ends with a whole page that is marked as the last; without it, libsndfile just stops earlier."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 2 * OGG_PAGE))
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    return len(page) > 26 and bool(page[5] & 4) and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def _unreadable(path: Path | str, error: Exception) -> InputError:
    reason = str(getattr(error, "error_string", error)).strip(".")
    if reason.startswith("File does not exist"):  # what libsndfile says where it finds no frame of MP3
        reason = "Format not recognised"
    return InputError(path, f"cannot be read as audio ({reason})", "remove it or convert it to WAV or FLAC")
