"""The clips of a data set, and how they become waveforms of one length."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from torch.utils.data import Dataset

from audioldm_lit.audio.decoding import MAX_SAMPLES, check_openable, open_audio
from audioldm_lit.audio.loudest import read_loudest
from audioldm_lit.audio.recording import Span
from audioldm_lit.audio.waveform import Padding, fit
from audioldm_lit.data.phrasing import Phrasing
from audioldm_lit.errors import InputError

Split = Literal["train", "val", "test"]
Part = tuple[Path, Span | None]
READING = "mono/2"  # how channels become one: a change of it makes new waveforms of the same bytes


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording and what is known about it.

    Attributes:
        id: Unique in the data set; scores and seeds are tied to it.
        path: Audio file, or a `Member` of another file.
        caption: Text the model is conditioned on; empty where the data set has no captions.
        label: Class, for few-shot selection; one empty label where there are no classes.
        source: Recording session or upload; clips of one source never straddle two splits. Its own id where unknown.
        where: Where it is listed, for messages: "metadata.csv, line 3"; its path where no table lists it.
        others: Other captions of it, of which training draws one each time as it draws wordings.
        span: Seconds of its start and end in the file; None for all of it.
    """

    id: str
    path: Path
    caption: str
    label: str = ""
    source: str = ""
    where: str = field(default="", compare=False)
    others: tuple[str, ...] = ()
    span: Span | None = None

    def __post_init__(self) -> None:
        """A clip of unknown source is its own source."""
        object.__setattr__(self, "source", self.source or self.id)
        object.__setattr__(self, "where", self.where or str(self.path))

    @property
    def part(self) -> Part:
        """What it is in files, whatever else is said of it."""
        return self.path, self.span

    def error(self, problem: str, mend: str) -> InputError:
        """An error about the clip's file; where a table lists the clip, its line is the place, and the problem names the file."""
        return InputError(self.where, problem if self.where == str(self.path) else f"{self.path}: {problem}", mend)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Make errors about the clip's file say where it is listed."""
        try:
            yield
        except InputError as error:
            raise type(error)(*self.error(error.problem, error.mend).args) from error


@dataclass(frozen=True, slots=True)
class FoundClips:
    """How many of a split's listed clips have their audio on this machine.

    Attributes:
        found: Clips whose file is there.
        listed: Clips in the data set's list.
    """

    found: int
    listed: int

    @property
    def share(self) -> float:
        """Share of the listed clips that were found, in [0, 1]."""
        return self.found / self.listed

    def __str__(self) -> str:
        """Say it in words: "964 of 975 clips, 98.9 %"; rounded down, so that 100 % means all."""
        return f"{self.found:,} of {self.listed:,} clips, {math.floor(1000 * self.share) / 10:.1f} %"


class ItemDataset(Dataset[dict[str, Any]], ABC):
    """Items, one a clip or one of its variants, before or after the encoders."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    @property
    @abstractmethod
    def choices(self) -> int:
        """How many ways there are to choose an item's text, see `ClipDataset`."""


class ClipDataset(ItemDataset):
    """Clips as waveforms of one length.

    Where captions have several texts, indices go on behind the last item: with n items and c choices, index k n + i is item i with
    choice k of c.

    Args:
        clips: The clips, in order.
        sample_rate: Hz.
        num_samples: Length of every waveform.
        padding: What fills clips that are too short.
        phrasing: The texts of each caption that training draws from; where not given, a clip comes with its first caption alone.
    """

    def __init__(
        self, clips: Sequence[Clip], sample_rate: int, num_samples: int, padding: Padding, phrasing: Phrasing | None = None
    ) -> None:
        self.clips = list(clips)
        self.sample_rate = sample_rate
        self.num_samples = num_samples
        self.padding = padding
        self.phrasing = phrasing
        self.one_channel: dict[str, int] = {}
        """The channel that was taken of clips read so far whose channels are of opposite polarity, by their ids."""

    def __len__(self) -> int:
        """Number of items."""
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Item with `id`, `caption` and `waveform` (T,)."""
        caption, item = self.text(index), index % len(self)
        return {"id": self.id(item), "caption": caption, "waveform": self.waveform(item)}

    def id(self, index: int) -> str:
        """Id of an item's clip."""
        return self.clips[index].id

    def where(self, index: int) -> str:
        """Where an item's clip is listed."""
        return self.clips[index].where

    def caption(self, index: int) -> str:
        """Caption of an item, without reading its file."""
        return self.clips[index].caption

    def captions(self, index: int) -> list[str]:
        """All captions of an item's clip, that of the item first."""
        clip = self.clips[index]
        return [clip.caption, *clip.others]

    def texts(self, item: int) -> list[str]:
        """All texts that an item may come with."""
        if not self.phrasing:
            return [self.caption(item)]
        return [text for caption in self.captions(item) for text in self.phrasing.texts(caption)]

    @cached_property
    def choices(self) -> int:
        """How many choices there are: a number that every item's number of texts divides, so that all texts are equally likely."""
        return math.lcm(*{len(self.texts(item)) for item in range(len(self))}) if self.phrasing else 1

    def text(self, index: int) -> str:
        """The text that an index chooses."""
        choice, item = divmod(index, len(self))
        texts = self.texts(item)
        return texts[choice * len(texts) // self.choices]

    def waveform(self, index: int) -> Tensor:
        """Waveform (T,) of an item; an `InputError` says where a broken file is listed."""
        clip = self.clips[index]
        with clip.errors():
            waveform, channel = read_loudest(clip.path, self.sample_rate, self.num_samples, clip.span)
        if channel is not None:
            self.one_channel[clip.id] = channel
        return fit(waveform, self.num_samples, self.padding)

    def content_key(self, index: int) -> str:
        """SHA-256 of everything the waveform depends on: the file's bytes and how they are read and fitted."""
        clip = self.clips[index]
        digest = hashlib.sha256(f"{READING} {self.sample_rate} {self.num_samples} {self.padding}".encode())
        with clip.errors():
            check_openable(clip.path)
            if clip.path.stat().st_size > 8 * MAX_SAMPLES:  # perhaps too long to be read, so not worth hashing
                open_audio(clip.path).close()
            digest.update(_file_digest(clip.path, clip.path.stat().st_mtime_ns))
        if clip.span:
            digest.update("{} {}".format(*clip.span).encode())
        return digest.hexdigest()


@lru_cache(maxsize=64)  # the clips of one recording come one after the other
def _file_digest(path: Path, changed: int) -> bytes:
    """SHA-256 of a file as it was when it was last changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
