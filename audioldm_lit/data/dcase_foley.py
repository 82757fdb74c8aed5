"""DCASE 2023 task 7, Foley sound synthesis (Choi et al. 2023, arXiv 2304.12521): seven classes, 4 s, 22,050 Hz mono."""

import os
import re
from pathlib import Path
from typing import Any

from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.clips import Clip, Split
from audioldm_lit.data.files import entries, recordings
from audioldm_lit.data.selection import split_by_source
from audioldm_lit.data.tables.table import read_rows
from audioldm_lit.errors import InputError

CLASSES = ("dog_bark", "footstep", "gunshot", "keyboard", "moving_motor_vehicle", "rain", "sneeze_cough")
COLUMNS = ("category", "current_file_path", "original_dataset", "original_file_name")


class DCASEFoley(AudioDataModule):
    """DCASE 2023 task 7 as published: `dev/CLASS/*.wav`, `eval/CLASS/*.wav`, and `DevMeta.csv`, which knows each clip's recording.

    `eval` is for testing; a fifth of the sources of every class of `dev` is for validation. The development set
    alone, whose class folders lie in the root itself, is split by source into three fifths, a fifth and a fifth. A clip that
    `DevMeta.csv` does not know is its own source.

    Args:
        root: Folder that holds `dev/` and `eval/`, or the class folders of the development set alone.
        prompts: Caption of each class; by default its name in words.
        **kwargs: See `AudioDataModule`.
    """

    def __init__(self, root: Path, prompts: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.prompts = {name: name.replace("_", " ") for name in CLASSES} | (prompts or {})
        unknown = sorted(set(self.prompts) - set(CLASSES))
        if unknown:
            raise InputError("data.init_args.prompts", f"names the class '{unknown[0]}'", f"use one of {', '.join(CLASSES)}")

    def clips(self, split: Split) -> list[Clip]:
        """List the clips of a split."""
        if not self.root.is_dir():
            raise InputError(self.root, "no such folder", "correct data.init_args.root")
        held_out = self.root / "eval"
        if split == "test" and held_out.is_dir():
            return self._below(held_out)
        clips = self._below(self.root / "dev" if held_out.is_dir() else self.root)
        splits = split_by_source(clips)
        chosen = {split, "test"} if split == "train" and held_out.is_dir() else {split}  # eval tests, so nothing of dev does
        return [clip for clip in clips if splits[clip.id] in chosen]

    def _below(self, folder: Path) -> list[Clip]:
        """Clips of the class folders in a folder."""
        if not folder.is_dir():
            raise InputError(folder, "no such folder", "give the whole published data set")
        sources = self._sources("Eval" if folder.name == "eval" else "Dev")
        clips: list[Clip] = []
        for entry in entries(folder):
            if entry.is_dir():
                label = _class_of(entry.name)
                if label is None:
                    raise InputError(entry, f"is none of the classes {', '.join(CLASSES)}", "remove or rename it")
                before = len(clips)
                for path in recordings(entry):
                    source = sources.get((label, path.stem), "")
                    clips.append(Clip(path.relative_to(self.root).as_posix(), path, self.prompts[label], label, source))
                if len(clips) == before:
                    raise InputError(entry, "this class has no audio file", "copy the published data set again")
        return clips

    def _sources(self, part: str) -> dict[tuple[str, str], str]:
        """Recording that each clip was cut from, by class and file name; nothing where the list is not there."""
        table = self.listing(self.root / f"{part}Meta.csv")
        if not os.path.lexists(table):
            return {}
        sources = {}
        for where, row in read_rows(table, COLUMNS):
            label, name = _class_of(row["category"]), Path(row["current_file_path"]).stem
            if not label or not name or not row["original_file_name"]:
                raise InputError(where, "names no class, no file or no recording", "copy the published list again")
            sources[label, name] = f"{row['original_dataset']}/{row['original_file_name']}"
        return sources


def _class_of(name: str) -> str | None:
    """The class that a folder or a list refers to: `DogBark`, `dog_bark`, and `Sneeze` for sneeze_cough."""
    letters = re.sub("[^a-z]", "", name.lower())
    return {**{label.replace("_", ""): label for label in CLASSES}, "sneeze": "sneeze_cough"}.get(letters)
