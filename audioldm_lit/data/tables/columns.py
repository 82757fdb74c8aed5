"""What people call the columns of a table of recordings, and the fields of a side-car."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence

Names = Mapping[str, Sequence[str]]  # what we call a column, and what others do

CAPTION = ("caption", "text", "prompt", "description", "キャプション", "説明", "説明文", "captions", "caption_1", "caption1")
FURTHER = re.compile(r"caption_?\d+")  # other captions of a clip
COLUMNS: Names = {
    "file": ("file", "file_name", "filename", "path", "file_path", "filepath", "audio", "audio_file", "audio_filename",
             "audio_path", "wav", "wav_path", "fname", "ファイル名", "ファイル", "音声ファイル", "パス"),
    "caption": CAPTION,
    "label": ("label", "class", "category", "ラベル", "クラス", "分類", "カテゴリ"),
    "source": ("source",),
    "split": ("split", "subset"),
    "id": ("id",),
    "start": ("start",),
    "end": ("end",),
}  # fmt: skip
STAND_INS = {"caption": "label"}


def canonical(header: Sequence[str], names: Names) -> list[str]:
    """A header in our words; of several names for a column the first in `names` counts, and what is unknown stays as it is."""
    plain = [_plain(name) for name in header]
    ours: dict[str, str] = {}
    for name, others in names.items():
        if chosen := next((other for other in others if other in plain), None):
            ours[chosen] = name
    return [ours.get(other, name) for other, name in zip(plain, header, strict=True)]


def _plain(name: str) -> str:
    """A column's name without letter case, width of letters, and marks between words."""
    return "_".join(unicodedata.normalize("NFKC", name).casefold().replace("-", " ").replace("_", " ").split())


def lacking(header: Collection[str], columns: Sequence[str], names: Names) -> list[str]:
    """The wanted columns that a header lacks; where people may call columns as they like, a class stands in for a caption."""
    return [name for name in columns if name not in header and not (names and STAND_INS.get(name) in header)]
