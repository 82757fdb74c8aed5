"""What FFmpeg decodes beyond libsndfile, through PyAV: M4A, AAC, WMA, WebM, AMR, the sound of videos and many more."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from audioldm_lit.audio.recording import Recording, unknown_format
from audioldm_lit.errors import InputError

WHOLE = 0.95  # of the length a header states
STATES_LENGTH = {"matroska,webm", "asf", "caf", "ape", "tta", "wv", "flv"}  # others state none or a wrong one, or miss what is cut
VIDEOS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf", "avi", "flv", "mpegts", "mpeg", "ogg"}
ZERO = {"u8": 128}  # of unsigned samples
SUBTYPES = {"u8": "PCM_U8", "s16": "PCM_16"}  # whose steps are known; 24 bits come as 32


class FFmpegFile(Recording):
    """The sound of a file as FFmpeg decodes it, encoders' delay taken away.

    Of several sound tracks it is the one marked as the default, else the one with most channels, else the first. Gaps in time are
    closed. Where rate or channels change on the way, what follows is brought to those at the start.

    Args:
        path: Any file that holds sound.

    Raises:
        InputError: If FFmpeg cannot decode it or it holds no sound.
    """

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")  # by its name FFmpeg would take it for an address
        try:
            closed = {"protocol_whitelist": "none"}  # what the file names is not opened either
            self.container = av.open(
                self.file, "r", io_open=_nothing_else, container_options=closed, metadata_errors="replace", buffer_size=2**18
            )
        except (FFmpegError, OSError, ValueError) as error:  # plain OSError where a header makes it look before the file's start
            self.file.close()
            raise unknown_format(path, getattr(error, "strerror", None) or str(error)) from error
        self.ended = 0.0  # seconds, of the track that ends last
        self.left = np.zeros((0, 0), dtype=np.float32)
        self.path, self.position = path, 0  # messages of the first frame need them
        self.resampler: av.AudioResampler | None = None
        self.kind: tuple[int, int, str] | None = None  # rate, channels and sample format of the last frame
        try:
            self.track = _track(path, self.container)
            self.frames = self._frames()
            first = next(self.frames, None)
            if first is None:
                raise unknown_format(path, "nothing in it can be decoded")
            self.first = first
            kind = self.first.format.name.removesuffix("p")
            length = self.container.duration
            seconds = length / av.time_base if length else None
            super().__init__(path, self.first.sample_rate, self.first.layout.nb_channels, seconds, SUBTYPES.get(kind, ""))
        except InputError:
            self.close()
            raise
        self.samples = self._samples()

    def decode(self, num_frames: int) -> NDArray[np.float32]:
        """The next samples (T, C), at most so many."""
        pieces, count = [self.left.reshape(-1, self.channels)], len(self.left)
        while count < num_frames and (samples := next(self.samples, None)) is not None:
            pieces.append(samples)
            count += len(samples)
        joined = np.concatenate(pieces)
        self.left = joined[num_frames:].copy()
        return joined[:num_frames]

    def check_whole(self) -> None:
        """Refuse a file all of whose tracks end before its header says they do."""
        there = max(self.ended - (self.container.start_time or 0) / av.time_base, self.position / self.sample_rate)
        if self.container.format.name in STATES_LENGTH and self.seconds and there < WHOLE * self.seconds:
            raise InputError(self.path, f"is cut off, {there:.1f} of {self.seconds:.1f} s are there", "copy it again")
        if self.container.format.name == "avi" and (missing := _missing_of_riff(self.path)):
            raise InputError(self.path, f"is cut off, {missing:,} bytes are missing", "copy it again")

    def close(self) -> None:
        """Close the file."""
        self.container.close()
        self.file.close()

    def _samples(self) -> Iterator[NDArray[np.float32]]:
        """Decoded samples (T, C), frame by frame."""
        yield from self._converted(self.first)
        for frame in self.frames:
            yield from self._converted(frame)
        yield from self._rest()

    def _converted(self, frame: av.AudioFrame) -> Iterator[NDArray[np.float32]]:
        """Samples of a frame; where rate or channels have changed, brought to those of the first."""
        kind = frame.sample_rate, frame.layout.nb_channels, frame.format.name
        if kind != self.kind:
            yield from self._rest()
            self.kind = kind
            if kind[:2] != (self.sample_rate, self.channels):
                self.resampler = av.AudioResampler("fltp", self.first.layout, self.sample_rate)
        yield from map(_as_float, self.resampler.resample(frame) if self.resampler else [frame])

    def _rest(self) -> Iterator[NDArray[np.float32]]:
        """What the resampler still holds; it is not needed any longer."""
        if self.resampler is not None:
            yield from map(_as_float, self.resampler.resample(None))
            self.resampler = None

    def _frames(self) -> Iterator[av.AudioFrame]:
        """Decoded frames; what is damaged before the first one is passed over, as where a broadcast is joined."""
        seconds = 0.0
        try:
            for packet in self._packets():
                frames = _decoded(packet, strict=seconds > 0)
                seconds += sum(frame.samples / frame.sample_rate for frame in frames)
                yield from frames
        except (FFmpegError, OSError) as error:
            problem = f"is damaged, {seconds:.1f} s can be read"
            raise InputError(self.path, problem, "copy it again or convert it to WAV") from error

    def _packets(self) -> "Iterator[av.Packet[av.AudioStream]]":
        """Encoded pieces of the track."""
        for packet in self.container.demux():
            if packet.pts is not None:
                self.ended = max(self.ended, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream is self.track:
                yield packet  # type: ignore[misc]  # which is one of sound


def _decoded(packet: "av.Packet[av.AudioStream]", strict: bool) -> list[av.AudioFrame]:
    """Frames of a packet; none of a damaged one unless `strict`, which refuses it."""
    try:
        frames = packet.decode()
    except FFmpegError:
        if strict:
            raise
        return []
    if strict and packet.is_corrupt:
        raise OSError("a packet is not whole")
    return frames


def _missing_of_riff(path: Path) -> int:
    """Bytes that a RIFF file states beyond its end; a writer to a pipe, which cannot go back, leaves more than 2 GB or nothing."""
    with path.open("rb") as file:
        stated = int.from_bytes(file.read(8)[4:], "little")
        return max(0, stated + 8 - file.seek(0, os.SEEK_END)) if stated < 0x7FFF_0000 else 0


def _track(path: Path, container: Any) -> Any:
    """The sound track that is read."""
    if container.streams.video and not container.streams.audio and container.format.name in VIDEOS:
        raise InputError(path, "is a video without sound", "remove it")
    tracks = [track for track in container.streams.audio if track.codec_context is not None]
    if not tracks:
        raise unknown_format(path, "no sound in it can be decoded")
    return max(tracks, key=lambda track: (bool(track.disposition & av.stream.Disposition.default), track.channels))


def _as_float(frame: av.AudioFrame) -> NDArray[np.float32]:
    """Samples of a frame (T, C) as FFmpeg itself brings them to float32: whole numbers are divided by half their range."""
    values = frame.to_ndarray()  # (C, T), or (1, T C) where channels alternate
    values = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    kind = frame.format.name.removesuffix("p")
    return (values.astype(np.float32) - ZERO.get(kind, 0)) * np.float32(2.0 ** (1 - 8 * values.dtype.itemsize))


def _nothing_else(*_: object) -> NoReturn:
    """What a file names is not opened: play lists would reach other files and the network."""
    raise PermissionError("names other files")
