"""Data sets of the library `datasets` (Hugging Face), with an audio column, from this machine's disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from audioldm_lit.audio.member import Member
from audioldm_lit.data.base import AudioDataModule, caption_from
from audioldm_lit.data.clips import Clip, Split
from audioldm_lit.data.folder import words
from audioldm_lit.data.selection import split_by_source, with_validation
from audioldm_lit.data.splits import resolve, role_of
from audioldm_lit.errors import InputError


@dataclass(frozen=True, eq=False)
class RowBytes:
    """The sound of a row, encoded as it was stored."""

    rows: Any  # `datasets.Dataset` of the audio column alone
    column: str
    number: int

    def __call__(self) -> bytes:
        """Read it."""
        sound = self.rows[self.number][self.column]
        return sound["bytes"] if sound["bytes"] is not None else Path(sound["path"]).read_bytes()


class HuggingFace(AudioDataModule):
    """A data set that `datasets` saved (`save_to_disk`), or a folder that it reads, such as one of Parquet files.

    Splits are those of the data set, by their names; where it has no validation split, or a single one, they are chosen as in
    `Folder`, each row being a source of its own. Nothing is fetched.

    Args:
        root: Folder of the data set.
        audio: Column of the sounds.
        text: Column of captions, each a text or a list of them; captions are made of classes where not given.
        label: Column of classes.
        caption: Template of captions made from a class; `{label}` is its name in words.
        **kwargs: See `AudioDataModule`.
    """

    def __init__(
        self,
        root: Path,
        audio: str = "audio",
        text: str | None = None,
        label: str | None = None,
        caption: str = "{label}",
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        caption_from(caption, "")
        if text is None and label is None:
            raise InputError("data.init_args.text", "is not given, and neither is label", "name the column of captions or classes")
        self.audio, self.text, self.label, self.caption = audio, text, label, caption

    def clips(self, split: Split) -> list[Clip]:
        """List the clips of a split."""
        clips, splits = self._listing
        return [clip for clip in clips if splits[clip.id] == split]

    @cached_property
    def _listing(self) -> tuple[list[Clip], dict[str, Split]]:
        """Every clip and its split."""
        parts = _read(self.root)
        clips = {name: self._clips(name, rows) for name, rows in parts.items()}
        roles = {name: role[1] for name in parts if (role := role_of(name))}
        found = resolve(set(roles.values())) if len(roles) == len(parts) > 1 else None
        everything = [clip for several in clips.values() for clip in several]
        if found is None or "train" not in found.values():
            return everything, split_by_source(everything)
        splits = {clip.id: found[roles[name]] for name, several in clips.items() for clip in several}
        return everything, with_validation(self.root, everything, splits, self.remarks)

    def _clips(self, part: str, rows: Any) -> list[Clip]:
        """The clips of one of its splits."""
        for key, column in (("audio", self.audio), ("text", self.text), ("label", self.label)):
            if column is not None and column not in rows.column_names:
                raise InputError(f"data.init_args.{key}", f"is '{column}'", f"name one of {', '.join(rows.column_names)}")
        from datasets import Audio

        try:
            sounds = rows.select_columns([self.audio]).cast_column(self.audio, Audio(decode=False))
        except (TypeError, ValueError, NotImplementedError) as error:
            raise InputError("data.init_args.audio", f"is '{self.audio}', which holds no sound", "name another column") from error
        texts = rows[self.text] if self.text else [[]] * len(rows)
        labels = _names(rows, self.label) if self.label else [""] * len(rows)
        clips = []
        for number, (said, label) in enumerate(zip(texts, labels, strict=True)):
            captions = [said] if isinstance(said, str) else list(said or [])
            captions = captions or [caption_from(self.caption, words(label))]
            name = f"{part}/{number:06}"
            member = Member(self.root / name, RowBytes(sounds, self.audio, number))
            clips.append(Clip(name, member, captions[0], label, others=tuple(captions[1:])))
        return clips


def _read(root: Path) -> Mapping[str, Any]:
    """The splits of a data set by name."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise InputError("data", f"needs {error.name}, which is not installed", "pip install datasets") from error
    try:
        saved = (root / "state.json").is_file() or (root / "dataset_dict.json").is_file()
        found = datasets.load_from_disk(str(root)) if saved else datasets.load_dataset(str(root))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        problem = f"cannot be read as a data set ({' '.join(str(error).split())})"
        raise InputError(root, problem, "give a folder that save_to_disk wrote, or of Parquet files") from error
    return found if isinstance(found, Mapping) else {"all": found}


def _names(rows: Any, column: str) -> list[str]:
    """Classes as text, numbers by the names that the data set has for them."""
    feature = rows.features[column]
    return [feature.int2str(value) if hasattr(feature, "int2str") else str(value) for value in rows[column]]
