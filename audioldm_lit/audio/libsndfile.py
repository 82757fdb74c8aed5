"""What libsndfile decodes: WAV, FLAC, Ogg, MP3, AIFF and many older formats."""

import re
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from audioldm_lit.audio.member import Member
from audioldm_lit.audio.recording import Recording, UnknownFormatError, unknown_format
from audioldm_lit.errors import InputError

WHOLE = 0.95  # of the length a compressed file states: some state an estimate
EXACT = 0.999  # of the length an uncompressed one states: some count a byte of padding
UNKNOWN = 2**63 - 1  # frames, as libsndfile has it for a FLAC that was written to a pipe
OGG_PAGE = 65_307  # bytes of the longest page


class _Onwards(soundfile.SoundFile):
    """A file that is read onwards only: soundfile seeks after every read, and MP3 read in pieces then has gaps."""

    def seekable(self) -> bool:
        """Whether soundfile may seek."""
        return False


class SndFile(Recording):
    """An audio file as libsndfile decodes it.

    Args:
        path: The file.

    Raises:
        InputError: If libsndfile cannot decode it, or it states no length.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.file = _Onwards(path.open("rb") if isinstance(path, Member) else path)
        except (RuntimeError, TypeError) as error:  # libsndfile's own errors; TypeError for headerless files
            raise _unreadable(path, error) from error
        if self.file.frames == UNKNOWN:
            raise InputError(path, "does not say how long it is, as when it was written to a pipe", "convert it to WAV or FLAC")
        self.num_frames = self.file.frames
        rate = self.file.samplerate
        super().__init__(path, rate, self.file.channels, self.num_frames / rate if rate else None, self.file.subtype)

    def decode(self, num_frames: int) -> NDArray[np.float32]:
        """The next samples (T, C), at most so many."""
        try:
            return self.file.read(min(num_frames, self.num_frames - self.position), dtype="float32", always_2d=True)
        except RuntimeError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: RuntimeError) -> InputError:
        there = self._place()
        if 0 < there < self.num_frames:
            seconds = f"{there / self.sample_rate:.1f} of {self.num_frames / self.sample_rate:.1f} s"
            return InputError(self.path, f"is damaged, {seconds} can be read", "copy it again")
        return _unreadable(self.path, error)

    def _place(self) -> int:
        """Where libsndfile stands; it cannot tell in files of some telephones' codecs."""
        try:
            return self.file.tell()
        except RuntimeError:
            return self.position

    def skip_to(self, position: int) -> None:
        """Go on to a later sample, at once where every sample has a place of its own."""
        if self.subtype.startswith("PCM_") or self.subtype in ("FLOAT", "DOUBLE", "ULAW", "ALAW"):
            try:
                self.position = self.file.seek(min(max(position, self.position), self.num_frames))
            except RuntimeError as error:  # a damaged FLAC, which has to be searched
                raise self._damaged(error) from error
        else:
            super().skip_to(position)

    def check_whole(self) -> None:
        """Refuse a file that ends before its own header says it does."""
        stated, whole = self.num_frames, WHOLE
        # libsndfile corrects the length of WAV, AIFF, AU, W64 and RF64 and only mentions what the header says. A writer to a pipe,
        # which cannot go back to the header, leaves a length beyond 2 GB there.
        sizes = re.search(r"(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", self.file.extra_info)
        if sizes and int(sizes[1]) < 0x7FFF_0000 and int(sizes[2]) > 0:
            stated, whole = round(stated * int(sizes[1]) / int(sizes[2])), EXACT
        if self.file.format == "OGG" and ("Corrupted bitstream" in self.file.extra_info or not _has_last_page(self.path)):
            raise InputError(self.path, "is damaged or cut off, not all of its pages are there", "copy it again")
        if self.position < whole * stated:
            seconds = self.position / self.sample_rate, stated / self.sample_rate
            raise InputError(self.path, f"is cut off, {seconds[0]:.1f} of {seconds[1]:.1f} s are there", "copy it again")

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _has_last_page(path: Path) -> bool:
    """Whether an Ogg file ends with a whole page that is marked as the last; without it, libsndfile just stops earlier."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2 * OGG_PAGE))
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    return len(page) > 26 and bool(page[5] & 4) and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def _unreadable(path: Path, error: Exception) -> UnknownFormatError:
    reason = str(getattr(error, "error_string", error)).strip(".")
    if reason.startswith("File does not exist"):  # what libsndfile says where it finds no frame of MP3
        reason = "Format not recognised"
    return unknown_format(path, reason)
