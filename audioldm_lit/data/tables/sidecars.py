"""Captions that lie beside recordings: `door.wav` and `door.txt`, `door.caption`, `door.lab`, `door.json` or `door.wav.txt`."""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from audioldm_lit.data.tables.columns import COLUMNS, canonical
from audioldm_lit.data.tables.encoding import decode_together
from audioldm_lit.data.tables.json_table import parse
from audioldm_lit.data.tables.lookup import plain
from audioldm_lit.errors import InputError
from audioldm_lit.storage.names import is_mark

SUFFIXES = (".txt", ".caption", ".lab", ".json")  # of several beside one recording the first counts
LONGEST = 2**20  # bytes
TIMED = re.compile(r"\s*\d+(\.\d+)?\s+\d+(\.\d+)?\s+\S.*")  # a line of a label track: start, end, what is heard


def candidates(recordings: Collection[Path], files: Sequence[Path]) -> dict[Path, list[Path]]:
    """The files beside each recording that may hold its captions, the one that counts first.

    One of exactly the recording's name comes before one whose letter case, width or normal form differs; the latter is nobody's
    where it is exactly another recording's.
    """
    exact: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    loose: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in recordings:
        for name in dict.fromkeys((path.stem, path.name)):
            exact[path.parent, name].append(path)
            loose[path.parent, plain(name)].append(path)
    found: dict[Path, list[tuple[bool, int, Path]]] = defaultdict(list)
    for file in files:
        if (suffix := file.suffix.lower()) in SUFFIXES and os.path.isfile(file):
            owners = exact.get((file.parent, file.stem))
            for path in owners or loose.get((file.parent, plain(file.stem)), []):
                found[path].append((owners is None, SUFFIXES.index(suffix), file))
    return {path: [file for _, _, file in sorted(beside)] for path, beside in found.items()}


def read_captions(files: Collection[Path]) -> tuple[dict[Path, list[str]], dict[str, list[Path]]]:
    """Captions of side-cars, one a line, and which of them are in which encoding other than UTF-8.

    A JSON file holds a text, a list of texts, or an object with either as its caption, else as its label. Files that hold
    something else have none: an object of other things, the times of a label track.

    Raises:
        InputError: If one is empty, too long, no text or no JSON.
    """
    texts, encodings = decode_together({file: _content(file) for file in files})
    captions = {}
    for file, text in texts.items():
        if not text.split():
            raise InputError(file, "this caption is empty", "write one or remove the file")
        if mark := next((letter for letter in text if is_mark(letter) and not letter.isspace()), None):
            raise InputError(file, f"holds {mark!a}, which is no text", "save it as UTF-8 or retype it")
        lines = _from_json(file, text) if file.suffix.lower() == ".json" else text.splitlines()
        captions[file] = list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
        if all(map(TIMED.fullmatch, captions[file])):
            captions[file] = []
    return captions, encodings


def _content(file: Path) -> bytes:
    try:
        if file.stat().st_size > LONGEST:
            raise InputError(file, f"is longer than a caption of {LONGEST:,} bytes", "shorten it or remove it")
        return file.read_bytes()
    except OSError as error:
        raise InputError(file, f"cannot be opened ({error.strerror})", "see to its permissions") from error


def _from_json(file: Path, text: str) -> Iterator[str]:
    content = parse(text, str(file), "correct it or remove it")
    if isinstance(content, Mapping):
        fields = dict(zip(canonical(list(content), COLUMNS), content.values(), strict=True))
        content = fields.get("caption") or fields.get("label")
    return _texts(content)


def _texts(content: Any) -> Iterator[str]:
    for text in content if isinstance(content, list) else [content]:
        if isinstance(text, str):
            yield text
