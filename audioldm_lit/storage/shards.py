"""Rows of tensors on disk by key: safetensors files that are only ever added, read through memory maps."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import atomic_write

Row = Mapping[str, Tensor]


class Shards:
    """An append-only store of rows.

    Rows written together share one file, so that a data set is read from one memory map for each split instead of one file for
    each clip, and rows that several data sets share are stored once. Every process may read and write at any time.

    Args:
        folder: Where the files are; made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, tuple[Path, int]] = {}
        self._known: set[Path] = set()
        self._maps: dict[Path, dict[str, Tensor]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Find what other processes have written since."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path not in self._known:
                with _opened(path) as file:
                    metadata = file.metadata() or {}
                if "keys" not in metadata:
                    raise InputError(path, "is no part of the cache", "remove it")
                keys = json.loads(metadata["keys"])
                self._known.add(path)
                for row, key in enumerate(keys):
                    self._places.setdefault(key, (path, row))

    def __contains__(self, key: str) -> bool:
        """Whether there is such a row."""
        return key in self._places

    def __getitem__(self, key: str) -> Row:
        """A row's tensors by name, as views of the memory map."""
        path, row = self._places[key]
        if path not in self._maps:
            with _opened(path) as file:
                self._maps[path] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        return {name: values[row] for name, values in self._maps[path].items()}

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
        path = self.folder / f"{hashlib.sha256(' '.join(keys).encode()).hexdigest()[:32]}.safetensors"
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(save(stacked, metadata={"keys": json.dumps(keys)}))
        self.refresh()


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, "pt")
    except (OSError, SafetensorError) as error:
        raise InputError(path, f"this part of the cache is damaged ({error})", "remove it, it is made again") from error
