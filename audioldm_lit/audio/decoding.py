"""Audio files to samples: what libsndfile does not know is given to FFmpeg."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audioldm_lit.audio.impostors import check_impostor, first_bytes
from audioldm_lit.audio.libsndfile import SndFile
from audioldm_lit.audio.member import is_there
from audioldm_lit.audio.recording import Recording, Span, UnknownFormatError, too_long
from audioldm_lit.errors import InputError
from audioldm_lit.storage.names import why_no_file

MAX_SAMPLES = 2**25  # of all channels together that are ever held at once: 128 MB, 12 minutes at 44.1 kHz


def open_audio(path: Path) -> Recording:
    """Open an audio file to decode it.

    Args:
        path: Any file that libsndfile (WAV, FLAC, Ogg, MP3, AIFF ...) or FFmpeg (M4A, WMA, WebM, sound of videos ...) decodes.

    Raises:
        InputError: If it is missing, empty, or not audio that can be read.
    """
    check_openable(path)  # libsndfile has one message for everything that is wrong with a file
    try:
        return SndFile(path)
    except UnknownFormatError as error:
        unknown = error
    check_impostor(path)
    from audioldm_lit.audio.ffmpeg import FFmpegFile  # a tenth of a second, for files that need it

    try:
        return FFmpegFile(path)
    except UnknownFormatError:
        if first_bytes(path)[4:8] == b"ftyp":  # MP4 and its kin, where the index is written last
            raise InputError(path, "has no index, as where a recording or a copy broke off", "copy it again") from None
        raise unknown from None


def read_channels(path: Path, span: Span | None = None) -> tuple[Tensor, int]:
    """Read an audio file as it is, whole or a span of it.

    Returns:
        Waveform (C, T), float32, of all channels, and its rate in Hz.

    Raises:
        InputError: If it is missing, cannot be decoded, is empty, cut off or too long to be held, or is not finite.
    """
    with open_audio(path) as recording:
        pieces = []
        stated = recording.seconds or 0.0
        if span is None and stated * recording.sample_rate * recording.channels > MAX_SAMPLES:
            raise too_long(path, stated, recording.channels)
        for piece in recording.pieces(span):
            pieces.append(piece)
            if sum(map(len, pieces)) * recording.channels > MAX_SAMPLES:
                raise too_long(path, recording.seconds or recording.position / recording.sample_rate, recording.channels)
        return torch.from_numpy(np.concatenate(pieces)).T, recording.sample_rate  # (T, C) -> (C, T)


def check_openable(path: Path) -> None:
    """Refuse what has no bytes to read.

    Raises:
        InputError: If it is missing, not a file, empty, or may not be read.
    """
    if not is_there(path):
        raise InputError(path, why_no_file(path), "correct the path or remove the entry")
    try:
        if not path.stat().st_size:
            raise InputError(path, "is empty (0 bytes)", "copy it again or remove it")
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(path, f"cannot be opened ({error.strerror})", "see to its permissions") from error
