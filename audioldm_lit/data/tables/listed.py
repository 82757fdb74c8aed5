"""The clips that tables name, with all they say about them."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from audioldm_lit.audio.recording import Span
from audioldm_lit.data.base import caption_from
from audioldm_lit.data.clips import Clip, Split
from audioldm_lit.data.remark import below
from audioldm_lit.data.tables.columns import COLUMNS, FURTHER
from audioldm_lit.data.tables.in_folder import Table
from audioldm_lit.data.tables.lookup import Lookup
from audioldm_lit.data.tables.table import inside, read_rows
from audioldm_lit.errors import InputError


@dataclass
class Listed:
    """What tables say.

    Attributes:
        root: Folder of the recordings.
        lookup: Its recordings by their names.
        caption: Template of captions made from a class, where a table has no captions; None for no captions at all.
        clips: The clips so far, by id.
        splits: Split of each, where tables say it.
    """

    root: Path
    lookup: Lookup
    caption: str | None
    clips: dict[str, Clip] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    homes: dict[str, Split] = field(default_factory=dict)  # of sources

    @property
    def columns(self) -> Sequence[str]:
        """What a table must say."""
        return ("file",) if self.caption is None else ("file", "caption")

    def read(self, table: Table, folder: Path) -> None:
        """Take in a table whose paths are relative to `folder`, the root or one below it.

        Rows that differ in their captions alone are other captions of one clip.

        Raises:
            InputError: If the table is wrong, see `read_rows`, a clip comes again with anything else, or splits are contradictory.
        """
        before, prefix = len(self.clips), "" if folder == self.root else below(self.root, folder)
        prefixes = (prefix, os.path.join(prefix, table.path.stem))
        for where, row in read_rows(table.path, self.columns, raw="file", names=COLUMNS, encoding=table.encoding):
            clip, split = self._clip(where, row, prefixes), self._split(where, row, table)
            earlier = self.clips.get(clip.id)
            if earlier is None:
                self.clips[clip.id] = clip
                self._place(clip, split)
            elif self._is_same(earlier, clip) and split == self.splits.get(clip.id):
                more = (clip.caption, *clip.others) if self.caption is not None else ()
                self.clips[clip.id] = replace(earlier, others=(*earlier.others, *more))
            else:
                raise InputError(where, f"'{clip.id}' is listed twice", "keep one line for every clip, or for every caption of it")
        if len(self.clips) == before:
            raise InputError(table.path, "lists no clip", "add a line for every clip")

    def _clip(self, where: str, row: Mapping[str, str], prefixes: Sequence[str]) -> Clip:
        file = self._file(row["file"], prefixes, where)
        captions, label = [""], row.get("label", "")
        if self.caption is not None:
            first = row["caption"] if "caption" in row else caption_from(self.caption, label.replace("_", " "))
            captions = [first, *(text for name, text in row.items() if FURTHER.fullmatch(name) and text)]
        first, *others = dict.fromkeys(" ".join(caption.split()) for caption in captions)
        span = named_span(row, where)
        name = row.get("id") or (f"{file}#{span[0]:09.3f}" if span else file)
        return Clip(name, self.root / file, first, label, row.get("source") or file, where, tuple(others), span)

    def _file(self, name: str, prefixes: Sequence[str], where: str) -> str:
        """Path relative to the root of what a table says, which may start in its folder, in one of its own name, or in the root."""
        at = [os.path.join(start, name) if name else "" for start in (*prefixes, "")]
        for place in dict.fromkeys(at):
            if found := self.lookup.find(inside(self.root, place, where), where):
                return found
        return self.lookup.anywhere(name, where) or inside(self.root, at[0], where)

    def _is_same(self, earlier: Clip, clip: Clip) -> bool:
        """Whether a row names an earlier clip with another caption, or again where captions do not matter."""
        alike = (earlier.part, earlier.label, earlier.source) == (clip.part, clip.label, clip.source)
        return alike and (self.caption is None or clip.caption not in (earlier.caption, *earlier.others))

    def _split(self, where: str, row: Mapping[str, str], table: Table) -> Split | None:
        said = row.get("split", table.split)
        if self.clips and (said is not None) != bool(self.splits):  # JSON lines may differ in what they say
            says = "no" if said is None else "a"
            raise InputError(where, f"says {says} split, unlike the lines before", "say it in all lines or in none")
        split: Split | None = next((known for known in get_args(Split) if known == said), None)
        if said is not None and split is None:
            raise InputError(where, f"split is '{said}'", "write train, val or test")
        return split

    def _place(self, clip: Clip, split: Split | None) -> None:
        """Note a clip's split, in which all of its source must be."""
        if split is None:
            return
        self.splits[clip.id] = split
        home = self.homes.setdefault(clip.source, split)
        if home != split:
            raise InputError(clip.where, f"source '{clip.source}' is in both {home} and {split}", "keep it in one split")


def named_span(row: Mapping[str, str], where: str) -> Span | None:
    """The part of a file that a row names by `start` and `end`; None for all of it.

    Raises:
        InputError: If these are no seconds, one of them is missing, or the start is not before the end.
    """
    said = row.get("start", ""), row.get("end", "")
    if not any(said):
        return None
    try:
        start, end = map(float, said)
    except ValueError:
        start = end = math.nan
    if not 0 <= start < end < math.inf:
        raise InputError(where, f"start and end are '{said[0]}' and '{said[1]}'", "write both in seconds, the start before the end")
    return start, end
