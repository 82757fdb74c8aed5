"""Checkpoint files: written whole or not at all, read as plain data, and refused in one sentence where they cannot be gone on from.

A checkpoint is a pickle, and a pickle can run code. It is therefore read with an allow-list alone (tensors, numbers, strings and
containers of them), and from this machine's files alone: no address is fetched.
"""

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from audioldm_lit.assets.finding import original
from audioldm_lit.errors import InputError
from audioldm_lit.networks.original.unet import UNet
from audioldm_lit.storage.atomic_write import atomic_write
from audioldm_lit.storage.zip_file import is_zip
from audioldm_lit.training.checkpoint import KEY, ORIGIN

PLACE = ("global_step", "loops", "optimizer_states", "lr_schedulers")  # of a run that can be gone on from
UNREADABLE: tuple[type[Exception], ...] = (OSError, RuntimeError, EOFError, ValueError, LookupError, UnpicklingError)
# Zip files that are damaged, and torch's reader of plain data, which trusts the order of what it reads.
UNREADABLE += (zipfile.BadZipFile, AssertionError, AttributeError, TypeError, OverflowError, struct.error)


class PlainCheckpoints(TorchCheckpointIO):
    """Saves and loads checkpoints for the trainer."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write beside the target, to the disk itself, then rename: whatever stops it, the file before it stays whole."""
        with atomic_write(Path(path)) as unfinished, unfinished.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # how torch's writer reports a full disk
                raise OSError(str(error).splitlines()[0]) from error
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read plain data, whatever `weights_only` says."""
        return read_checkpoint(path)


def read_checkpoint(path: str | Path, in_memory: bool = True) -> dict[str, Any]:
    """Read a checkpoint on the CPU.

    Args:
        path: File.
        in_memory: Whether tensors are read at once, not when they are looked at.

    Raises:
        InputError: If it is none of this project, is cut off, or holds more than plain data.
    """
    check_path(path)
    try:
        found = torch.load(path, weights_only=True, map_location="cpu", mmap=not in_memory)
    except UNREADABLE as error:
        problem, mend = _fault(Path(path), error)
        raise InputError(path, problem, mend) from error
    state = found.get("state_dict", {}) if isinstance(found, dict) else None
    if isinstance(state, dict) and any(str(name).startswith(UNet.prefix) for name in state):
        raise original(Path(path))
    if not isinstance(found, dict) or not isinstance(state, dict) or KEY not in found:
        raise InputError(path, "is no checkpoint of this project", f"give {ORIGIN} one that `fit` wrote")
    return found


def check_path(path: str | Path) -> None:
    """Refuse what cannot be a checkpoint by its name and size alone."""
    if "://" in str(path):
        raise InputError(
            path, "is an address, and checkpoints are read from this machine alone", "fetch the file and give its path"
        )
    file = Path(path)
    if file.is_dir():
        raise InputError(path, "is a folder", "give the file, runs/NAME/version_N/checkpoints/last.ckpt")
    if not file.is_file():
        raise InputError(path, "no such file", f"give {ORIGIN} a checkpoint that `fit` wrote")
    if file.suffix == ".safetensors":
        mend = "give a checkpoint, runs/NAME/version_N/checkpoints/last.ckpt; adapters are used by `generate`"
        raise InputError(path, "is an adapter or other weights", mend)


def _fault(file: Path, error: Exception) -> tuple[str, str]:
    """What is wrong with a file that cannot be read, and the mend."""
    if isinstance(error, OSError) and not is_zip(file) and error.errno is not None:
        return f"cannot be read ({error.strerror})", "correct its permissions"
    if file.stat().st_size == 0:
        return "is empty", "take another checkpoint of the run"
    if not is_zip(file):
        return "is no whole checkpoint", "it was cut off while it was copied or written; take another of the run"
    if isinstance(error, UnpicklingError):
        asked = str(error).partition("GLOBAL ")[2].partition(" ")[0] or "more than plain data"
        return f"would run code ({asked})", "take a checkpoint that `fit` wrote, and ask where this one comes from"
    return f"is damaged ({(str(error).splitlines() or [type(error).__name__])[0]})", "take another checkpoint of the run"
