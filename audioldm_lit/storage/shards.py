"""Rows of tensors on disk by key: safetensors files that are only ever added, read through memory maps."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from audioldm_lit.console.stages import say
from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import atomic_write, clear_unfinished
from audioldm_lit.storage.digest import row_digest
from audioldm_lit.storage.plain_files import parse_json

Row = Mapping[str, Tensor]
Place = tuple[Path, int, str]  # file, number in it, and hash that the row must have


class Shards:
    """An append-only store of rows.

    Rows written together share one file, so that a data set is read from one memory map for each split instead of one file for
    each clip, and rows that several data sets share are stored once. Every process may read and write at any time. A row is
    believed if it has the hash that was written with it, which each process checks once; one that has not is as good as none.

    Args:
        folder: Where the files are; made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, list[Place]] = defaultdict(list)
        self._checked: dict[str, Place] = {}
        self._known: set[Path] = set()
        self._maps: dict[Path, dict[str, Tensor]] = {}
        clear_unfinished(folder)
        self.refresh()

    def refresh(self) -> None:
        """Find what other processes have written since."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path not in self._known:
                for key, place in _places(path):
                    self._places[key].append(place)
                self._known.add(path)

    def __contains__(self, key: str) -> bool:
        """Whether there is such a row, and it is whole."""
        return self._whole(key) is not None

    def __getitem__(self, key: str) -> Row:
        """A row's tensors by name, as views of the memory map.

        Raises:
            KeyError: If there is no such row.
            InputError: If it is damaged.
        """
        place = self._whole(key)
        if place is not None:
            return self._row(place)
        if key not in self._places:
            raise KeyError(key)
        raise InputError(self._places[key][0][0], "holds a row that is damaged", "start again, it is made again")

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys that have no row to be believed; how many are damaged, and so made again, is said."""
        lacking = [key for key in keys if key not in self]
        if damaged := sum(key in self._places for key in lacking):
            say(f"{self.folder}: {damaged} of its rows are damaged and are made again")
        return lacking

    def write(self, rows: Mapping[str, Row]) -> None:
        """Add rows of the same names and shapes as one file, written whole or not at all; rows that exist by now are left out.

        Raises:
            InputError: If it cannot be written.
        """
        self.refresh()
        keys = [key for key in rows if key not in self]
        if not keys:
            return
        names = rows[keys[0]]
        stacked = {name: torch.stack([rows[key][name].cpu() for key in keys]) for name in names}
        digests = [row_digest(key, rows[key]) for key in keys]
        path = self.folder / f"{hashlib.sha256(' '.join(keys).encode()).hexdigest()[:32]}.safetensors"
        try:
            with atomic_write(path) as unfinished:
                unfinished.write_bytes(save(stacked, metadata={"keys": json.dumps(keys), "sha256": json.dumps(digests)}))
        except InputError:
            self.refresh()
            if not all(key in self for key in keys):
                raise
            return  # another user was faster, and the folder keeps his files from others
        self._known.discard(path)  # all of it was damaged, if there was such a file
        self._maps.pop(path, None)
        self.refresh()

    def _whole(self, key: str) -> Place | None:
        """Where a row is that has the hash it must have."""
        if key not in self._checked:
            for place in self._places.get(key, ()):
                try:
                    whole = row_digest(key, self._row(place)) == place[2]
                except IndexError:  # fewer rows than keys
                    whole = False
                if whole:
                    self._checked[key] = place
                    break
        return self._checked.get(key)

    def _row(self, place: Place) -> Row:
        path, number, _ = place
        if path not in self._maps:
            with _opened(path) as file:
                self._maps[path] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        return {name: values[number] for name, values in self._maps[path].items()}


def _places(path: Path) -> list[tuple[str, Place]]:
    """Where the rows of a file are, by their keys."""
    with _opened(path) as file:
        metadata = file.metadata() or {}
    try:
        keys, digests = (parse_json(metadata[name]) for name in ("keys", "sha256"))
        return [(str(key), (path, number, digest)) for number, (key, digest) in enumerate(zip(keys, digests, strict=True))]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, "is no part of the cache", "remove it") from error


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, "pt")
    except (OSError, SafetensorError) as error:
        raise InputError(path, f"this part of the cache is damaged ({error})", "remove it, it is made again") from error
