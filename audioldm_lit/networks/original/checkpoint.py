"""A checkpoint in the original's layout: a file of named tensors, read in place and written whole or not at all."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from audioldm_lit.errors import InputError
from audioldm_lit.storage.zip_file import is_zip

AGAIN = "fetch the file again"
# Trainers leave more in their checkpoints than weights: settings, and the state of callbacks. It is read as nothing at all.
LEFT_BY_TRAINERS = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.nodes.AnyNode",
    "typing.Any",
)

PLAIN = (defaultdict, dict, float, int, list, set, str)  # what those are made of


class Nothing:
    """What stands for an object of a trainer's: it takes whatever it is made of and keeps none of it."""

    def __new__(cls, *_: Any, **__: Any) -> "Nothing":
        """Leave out what it would be made with."""
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None: ...


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, mapped into memory: nothing of them is read before it is used.

    Args:
        path: A file of `torch.save`, with the tensors under "state_dict" or at the top, or a safetensors file.

    Raises:
        InputError: If it is damaged, holds anything but tensors and plain values, or no tensors.
    """
    if not path.is_file():
        raise InputError(path, "is no file", "give the original's checkpoint, such as audioldm-s-full.ckpt")
    with path.open("rb") as file:
        head = file.read(9)
    if not head.startswith(b"PK") and not head.endswith(b"{"):
        raise InputError(path, "is neither a file of torch.save (of PyTorch 1.6 or later) nor of safetensors", AGAIN)
    content = _pickled(path) if head.startswith(b"PK") else _safetensors(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)} if isinstance(state, dict) else {}
    if not tensors:
        raise InputError(path, "holds no named tensors", "give the original's checkpoint, such as audioldm-s-full.ckpt")
    return tensors


def write(path: Path, tensors: Mapping[str, Tensor], kind: str, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors by name.

    Args:
        path: File.
        tensors: Their content is read while it is written.
        kind: `.safetensors`, or anything else for a file of `torch.save` as Lightning's are.
        metadata: Texts for the head of a safetensors file.

    Raises:
        OSError: If it cannot be written.
    """
    try:
        if kind == ".safetensors":
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"format": "pt", **(metadata or {})})
        else:
            torch.save({"state_dict": dict(tensors)}, path)
    except (RuntimeError, SafetensorError) as error:  # so both libraries say that a disk is full
        raise OSError(str(error).splitlines()[0]) from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise InputError(path, f"is damaged or cut short ({error})", AGAIN) from error


def _pickled(path: Path) -> Any:
    if not is_zip(path):
        raise InputError(path, "is damaged or cut short", AGAIN)
    known = [*PLAIN, *((Nothing, name) for name in LEFT_BY_TRAINERS)]
    with torch.serialization.safe_globals(known):  # type: ignore[arg-type]  # pairs are allowed
        try:
            return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        except UnpicklingError as error:
            raise InputError(path, _refusal(path, error), "nothing of it was run; use it only if you know who made it") from error
        except (EOFError, OSError, RuntimeError, ValueError) as error:
            raise InputError(path, f"is damaged or cut short ({str(error).splitlines()[0]})", AGAIN) from error


def _refusal(path: Path, error: UnpicklingError) -> str:
    """What in a pickle is neither tensor nor plain value."""
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except (RuntimeError, ValueError, UnpicklingError):
        names = []
    what = ", ".join(names) if names else str(error).splitlines()[0]
    return f"asks for more than tensors, which can be code: {what}"
