"""Recordings of AudioSet's videos, which every downloader names otherwise: found by video and start, however these are written."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

from audioldm_lit.data.clips import Clip
from audioldm_lit.data.files import by_stem
from audioldm_lit.errors import InputError
from audioldm_lit.storage.names import why_no_file

VIDEO = re.compile(r"[\w-]{1,64}", re.ASCII)  # id of a YouTube video
TIMES = re.compile(r"(?P<video>.+?)[_ -](?P<start>\d+(\.\d+)?)(s|ms)?([_ -]\d+(\.\d+)?(s|ms)?)?", re.ASCII)
ONE_TIME = re.compile(r"(?P<video>.+)[_ -](?P<start>\d+(\.\d+)?)(s|ms)?", re.ASCII)
TITLED = re.compile(r".*\[(?P<video>[\w-]+)\]", re.ASCII)  # yt-dlp's "title [id]"
EXACT = 5e-4  # seconds within which two starts are one


class Videos:
    """The recordings below a folder, by video.

    A name is the video's id, with or without a Y before it and with or without start and end behind it: in seconds, whole, decimal
    or padded with zeros, or in milliseconds.

    Args:
        root: The folder; a recording may lie anywhere below it.
        listed: Ids of the videos that are looked for.

    Raises:
        InputError: If the folder is missing, or two files have the same name.
    """

    def __init__(self, root: Path, listed: Collection[str]) -> None:
        self.by_stem = by_stem(root)
        self.takes: dict[str, list[tuple[str, Path]]] = defaultdict(list)
        for stem, path in self.by_stem.items():
            for video, start in set(_readings(stem)):
                if video in listed:
                    self.takes[video].append((start, path))

    def find(self, video: str, start: float, others: Collection[str] = ()) -> Path | None:
        """The recording of a video from `start` seconds on, else one of the names `others`; None where there is none.

        Raises:
            InputError: If two recordings have a claim to be it.
        """
        found = dict.fromkeys(path for text, path in self.takes.get(video, ()) if not text or _is(text, start))
        if len(found) > 1:
            first, second = list(found)[:2]
            raise InputError(second, f"is the clip of {video} at {start:g} s, as {first} is", "keep one of the two")
        return next(iter(found), None) or next((self.by_stem[name] for name in others if name in self.by_stem), None)

    def missing(self, clip: Clip, start: float) -> InputError:
        """The error for a clip that was not found; it says what was looked for and what is there."""
        problem, mend = why_no_file(clip.path), "correct the path or remove the entry"
        if self.by_stem:
            tried = f"{clip.source}, with or without Y and the start as {start:g}, {start:.3f}, {start:06g} or {1000 * start:.0f}"
            problem = f"{problem}, nor any named {tried} and an end; there is {next(iter(self.by_stem.values()))}"
            mend = "rename the recordings after the videos"
        return clip.error(problem, mend)


def _readings(stem: str) -> Iterator[tuple[str, str]]:
    """What a name may stand for: video and start, the latter empty where it says none; a video's id may hold any of the marks."""
    for name in {stem, stem.removeprefix("Y")}:
        yield name, ""
        for pattern in (TIMES, ONE_TIME):
            if match := pattern.fullmatch(name):
                yield match["video"], match["start"]
        if match := TITLED.fullmatch(name):
            yield match["video"], ""


def _is(text: str, start: float) -> bool:
    """Whether a number in a name is this start in seconds, or in milliseconds."""
    return abs(float(text) - start) < EXACT or ("." not in text and int(text) == round(1000 * start))
