"""Recordings in formats that FFmpeg writes, made by PyAV's own encoders."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 44_100
STEPS = {"wavpack": "s16p", "tta": "s16"}  # else they would take 8 bits


def sweep(channels: int = 2, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """Rising tones (C, T), another in each channel, which are like themselves at no other place."""
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * (200 + 300 * c + 900 * time) * time) for c in range(channels)]).astype(np.float32)


def encode(
    path: Path, codec: str, samples: np.ndarray, rate: int = RATE, box: str | None = None, video: bool = False, tracks: int = 1,
    cover: bool = False,
) -> Path:  # fmt: skip
    """Write samples (C, T); with `video` beside a picture that moves, in several `tracks` each half as loud as the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    with av.open(path, "w", format=box) as container:
        picture = _picture(container, "mjpeg" if cover else "mpeg4") if video or cover else None
        streams = [container.add_stream(codec, rate=rate, layout=layout) for _ in range(tracks)]
        for stream in streams:
            stream.bit_rate = 12_200 if "amr" in codec else 96_000
            if codec in STEPS:
                stream.format = STEPS[codec]
        container.start_encoding()
        for _ in range(1 if cover else 10) if picture else ():
            frame = av.VideoFrame(64, 64, "yuvj420p" if cover else "yuv420p")
            frame.time_base = Fraction(1, 10)
            container.mux(picture.encode(frame))
        if picture:
            container.mux(picture.encode(None))
        for number, stream in enumerate(streams):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples / 2**number, np.float32), "fltp", layout)
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
            resampler = av.AudioResampler(stream.format.name, layout, rate)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
    return path


def _picture(container: av.container.OutputContainer, codec: str) -> av.VideoStream:
    stream = container.add_stream(codec, rate=10, width=64, height=64, pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p")
    if codec == "mjpeg":
        stream.disposition = av.stream.Disposition.attached_pic
    return stream


def by_frames(path: Path, track: int = 0) -> np.ndarray:
    """The sound (C, T) of a file, frame by frame as FFmpeg's own converter makes float32 of it."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[track]
        resampler, pieces = av.AudioResampler("fltp"), []
        for frame in container.decode(stream):
            pieces += resampler.resample(frame)
        pieces += resampler.resample(None)
        return np.concatenate([piece.to_ndarray() for piece in pieces], axis=1)
