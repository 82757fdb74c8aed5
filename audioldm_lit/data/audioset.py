"""AudioSet (Gemmeke et al. 2017, doi 10.1109/ICASSP.2017.7952261): 10 s clips of YouTube videos, 527 classes, several a clip."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from audioldm_lit import seeding
from audioldm_lit.data.base import AudioDataModule, caption_from
from audioldm_lit.data.clips import Clip, Split
from audioldm_lit.data.tables.table import read_rows
from audioldm_lit.data.videos import VIDEO, Videos
from audioldm_lit.errors import InputError

SEGMENT = ("YTID", "start_seconds", "end_seconds", "positive_labels")
VALIDATION = 20  # one video in so many validates; AudioSet has no validation list of its own


class AudioSet(AudioDataModule):
    """AudioSet: the published segment lists, `class_labels_indices.csv`, and the audio anywhere below the same folder.

    One video in twenty of the training list is for validation, chosen by its name alone; `eval_segments.csv` is for testing. The
    class of a clip, for few-shot selection, is the rarest of its labels in its list. A clip's file is named after the video,
    `{YTID}` or `Y{YTID}`, alone or with start and end behind it, in seconds or milliseconds (`{YTID}_30`, `_30.000_40.000`,
    `_000030`, `_30000_40000`), with any suffix that can be read. Videos vanish from the web, so some audio is always missing.

    Args:
        root: Folder of the lists.
        train: Training list: `balanced` (22,160 clips) or `unbalanced` (2,041,789).
        num_test_clips: Clips of the evaluation list to test on, the same on every machine, each choice containing the smaller ones;
            null for all 20,371.
        caption: Template of the caption; `{label}` stands for the display names, joined by commas.
        min_coverage: Share in [0, 1] of a split's listed clips whose audio must be there; how many are left out is said.
        **kwargs: See `AudioDataModule`.
    """

    def __init__(
        self,
        root: Path,
        train: Literal["balanced", "unbalanced"] = "balanced",
        num_test_clips: int | None = 2000,
        caption: str = "{label}.",
        min_coverage: float = 0.8,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, min_coverage=min_coverage, **kwargs)
        caption_from(caption, "")
        if num_test_clips is not None and num_test_clips < 1:
            raise InputError("data.init_args.num_test_clips", f"is {num_test_clips}", "give at least 1 clip, or null for all")
        self.train = train
        self.num_test_clips = num_test_clips
        self.caption = caption

    def clips(self, split: Split) -> list[Clip]:
        """List the clips of a split."""
        table = self.listing(self.root / ("eval_segments.csv" if split == "test" else f"{self.train}_train_segments.csv"))
        names = self._display_names()
        counts, listed = Counter[str](), set[str]()
        for _, row, labels in _segments(table, names):
            counts.update(labels)
            listed.add(row["YTID"])
        self.videos = Videos(self.root, listed)
        clips = []
        for where, row, labels in _segments(table, names):
            if split == "test" or _validates(row["YTID"]) == (split == "val"):
                rarest = min(labels, key=lambda label: (counts[label], label))
                clips.append(self._clip(where, row, [names[label] for label in labels], names[rarest]))
        if split == "test" and self.num_test_clips is not None:
            clips.sort(key=lambda clip: seeding.number("test", clip.id))
            return clips[: self.num_test_clips]
        return clips

    def missing(self, clip: Clip) -> InputError:
        """The error for a clip whose audio is not there."""
        return self.videos.missing(clip, float(clip.id.rpartition("_")[2]))

    def _clip(self, where: str, row: dict[str, str], names: list[str], rarest: str) -> Clip:
        video, start = row["YTID"], float(row["start_seconds"])
        path = self.videos.find(video, start) or self.root / f"Y{video}.wav"
        return Clip(f"{video}_{start:g}", path, caption_from(self.caption, ", ".join(names)), rarest, video, where)

    def _display_names(self) -> dict[str, str]:
        """Display name of each class by its id (`/m/09x0r`)."""
        table = self.listing(self.root / "class_labels_indices.csv")
        names = {}
        for where, row in read_rows(table, ("index", "mid", "display_name")):
            if not row["mid"] or not row["display_name"] or row["mid"] in names:
                raise InputError(where, "names no class, or one that was named before", "copy the published list again")
            names[row["mid"]] = row["display_name"]
        return names


def _validates(video: str) -> bool:
    return seeding.number("validation", video) % VALIDATION == 0


def _segments(table: Path, names: dict[str, str]) -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """Where each segment stands, its row, and the ids of its classes."""
    for where, row in read_rows(table, SEGMENT, header=SEGMENT):
        labels = [label for label in row["positive_labels"].split(",") if label]
        if not VIDEO.fullmatch(row["YTID"]) or not labels:
            raise InputError(where, "names no video or no class", "copy the published list again")
        unknown = next((label for label in labels if label not in names), None)
        if unknown:
            raise InputError(where, f"class '{unknown}' is not in class_labels_indices.csv", "copy the published lists again")
        try:
            right = 0 <= float(row["start_seconds"]) < float(row["end_seconds"]) < math.inf
        except ValueError:
            right = False
        if not right:
            raise InputError(where, "start or end is no number of seconds", "copy the published list again")
        yield where, row, labels
