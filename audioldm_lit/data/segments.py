"""Long recordings to clips, and how much of all sound is used."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from audioldm_lit.audio.decoding import open_audio
from audioldm_lit.audio.events import events, frame_powers, windows
from audioldm_lit.audio.recording import Span
from audioldm_lit.console.stages import track
from audioldm_lit.data.clips import Clip
from audioldm_lit.data.remark import Remark
from audioldm_lit.errors import InputError
from audioldm_lit.storage.prefetch import prefetch

Segment = Literal["none", "events", "windows"]
ALL = 0.99  # of the sound, beyond which nothing need be said
Scan = tuple[NDArray[np.float64], float]  # power of every frame, and the length in seconds

CUTS: Mapping[str, Callable[[Scan, float], list[Span]]] = {
    "events": lambda scan, duration: events(*scan, duration),
    "windows": lambda scan, duration: windows(0.0, scan[1], duration),
}


def segmented(clips: Sequence[Clip], segment: Segment, duration: float) -> dict[str, list[Clip]]:
    """The clips that each recording is cut into, by the id of the clip that was all of it.

    A recording stays whole where a table says a part of it, it cannot be read, it makes a single clip, or nothing in it sounds:
    what is wrong with it is told where clips are read.

    Args:
        clips: The recordings.
        segment: `events`, `windows` or `none`.
        duration: Seconds of a clip.
    """
    whole = {clip.path: clip for clip in clips if clip.span is None} if segment != "none" else {}
    scans = track(prefetch(_scan, whole), f"cutting {len(whole):,} recordings", len(whole))
    spans = {path: CUTS[segment](scan, duration) for path, scan in zip(whole, scans, strict=True) if scan}
    return {clip.id: _parts(clip, spans.get(clip.path, []) if clip.span is None else []) for clip in clips}


def _parts(clip: Clip, spans: Sequence[Span]) -> list[Clip]:
    if len(spans) < 2:
        return [clip]
    spans = [(round(start, 3), round(end, 3)) for start, end in spans]
    return [replace(clip, id=f"{clip.id}#{span[0]:09.3f}", span=span) for span in spans]


def _scan(path: Path) -> Scan | None:
    try:
        return frame_powers(path)
    except InputError:
        return None


def share_used(root: Path, clips: Sequence[Clip], segment: Segment, duration: float) -> Iterator[Remark]:
    """How much of all sound the clips hold, as far as the files say how long they are; nothing where it is all."""
    seconds = {path: _length(path) for path in {clip.path for clip in clips}}
    parts = {(clip.path, clip.span) for clip in clips}
    lengths = [span[1] - span[0] if span else seconds[path] for path, span in parts]
    held, longer = sum(min(length, duration) for length in lengths), sum(length > duration + 0.01 for length in lengths)
    if held >= ALL * sum(seconds.values()) and segment == "none":
        return
    kept = f", of {longer:,} clips that are longer than {duration:g} s, the loudest {duration:g} s" if longer else ""
    cut = "" if segment == "none" else f", cut into {len(parts):,} {segment}"
    problem = f"uses {_in_words(held)} of {_in_words(sum(seconds.values()))} in {len(seconds):,} recordings{cut}{kept}"
    mend = "nothing, or set data.init_args.segment to events or windows" if longer and segment == "none" else "nothing"
    yield Remark("used", str(root), problem, mend)


def _length(path: Path) -> float:
    try:
        with open_audio(path) as recording:
            return recording.seconds or 0.0
    except InputError:
        return 0.0


def _in_words(seconds: float) -> str:
    for unit, length in (("s", 1), ("min", 60)):
        if seconds < 99.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds / 3600:.2g} h"
