"""Weights that are taken whole or not at all."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Network = TypeVar("Network", bound=nn.Module)
NAMED = 10  # of each kind; a sentence of six hundred names tells nobody more


def load_strictly(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Copy weights into the tensors of the same names.

    Args:
        own: What is overwritten, such as a network's `state_dict()`.
        weights: As many, of the same names and shapes.

    Raises:
        ValueError: Names what is missing, too much or of another shape; then nothing was copied.
    """
    fault = misfit(own, weights)
    if fault:
        raise ValueError(fault)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def load_pretrained(network: type[Network], path: str | Path, **where: Any) -> Network:
    """Load a network in float32 from what is on this machine; what its files hold beyond its weights is left alone.

    Args:
        network: Class of diffusers or transformers, with their `from_pretrained`.
        path: Folder, or hub id that was fetched before.
        **where: See `from_pretrained`.

    Raises:
        ValueError: Names the weights that are missing, no numbers, or of another shape than the configuration asks for.
        OSError, RuntimeError, SafetensorError: From the library, if files are missing or damaged.
    """
    asked = {"local_files_only": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    if issubclass(network, PreTrainedModel):
        asked["disable_mmap"] = True  # transformers never lets go of a file that it has mapped, and so of no weights
    with _quiet():  # what the libraries say of missing weights, the error says
        # diffusers and transformers share no type for this
        loaded, info = network.from_pretrained(path, dtype=torch.float32, **asked, **where)  # type: ignore[attr-defined]
    fault = _sentence(sorted(info["missing_keys"]), [], sorted(info["mismatched_keys"]))
    if fault:
        raise ValueError(fault)
    if broken := [name for name, weight in loaded.state_dict().items() if not weight.float().sum().isfinite()]:
        raise ValueError(f"its weights hold NaN or infinity: {_listed(broken)}")
    return loaded


def misfit(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """What is missing, too much or of another shape in `weights`, by name; empty where they fit."""
    shared = sorted(own.keys() & weights.keys())
    unlike = [(name, weights[name].shape, own[name].shape) for name in shared if weights[name].shape != own[name].shape]
    return _sentence(sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys()), unlike)


def _sentence(missing: Sequence[str], unexpected: Sequence[str], unlike: Sequence[tuple[str, torch.Size, torch.Size]]) -> str:
    shapes = [f"{name} {tuple(given)} for {tuple(wanted)}" for name, given, wanted in unlike]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    counts = [f"{len(names)} {kind} ({_listed(names)})" for kind, names in kinds.items() if names]
    return f"its weights do not fit: {', '.join(counts)}" if counts else ""


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


@contextmanager
def _quiet() -> Iterator[None]:
    before = [(logger, logger.level) for logger in map(logging.getLogger, ("diffusers", "transformers"))]
    for logger, _ in before:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in before:
            logger.setLevel(level)
