"""Published weights: found, hashed and loaded, without running code from the file."""

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from audioldm_lit.assets.asset import fetching
from audioldm_lit.assets.finding import find_weights
from audioldm_lit.errors import InputError
from audioldm_lit.networks.strict_loading import load_strictly

# PANNs' 16 kHz file also holds its training sampler's clip numbers: int64 arrays, pickled by NumPy 1 under a name that NumPy 2 has
# moved. To rebuild such arrays is all that this allows.
RECONSTRUCT = np.empty(0).__reduce__()[0], "numpy.core.multiarray._reconstruct"
CLIP_NUMBERS: list[Any] = [RECONSTRUCT, np.ndarray, np.dtype, np.dtypes.Int64DType]

# How torch.load fails on a file that was cut short or is of another kind.
UNREADABLE = (OSError, EOFError, LookupError, RuntimeError, ValueError, struct.error, pickle.UnpicklingError)


def load_weights(network: nn.Module, path: Path | None, name: str) -> str:
    """Load a published file into a network, whose keys must match the file's exactly, and freeze the network.

    Args:
        network: Takes the file's `model` entry, or the whole file where it has none.
        path: The file; by default it lies where `assets fetch` puts it, or is the one that `evaluate --weights` gave.
        name: Of the asset that it is.

    Returns:
        SHA-256 of the file.

    Raises:
        InputError: If the file is missing, cannot be read or holds the weights of another network.
    """
    path = path or find_weights(name)
    mend = f"{fetching(name)}, or give the published file"
    if not path.is_file():
        raise InputError(path, "no such file of weights", f"correct its path, or {fetching(name)}")
    try:
        with path.open("rb") as file, torch.serialization.safe_globals(CLIP_NUMBERS):
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise InputError(path, "cannot be read as PyTorch weights", mend) from error
    state = content["model"] if isinstance(content, dict) and "model" in content else content
    try:
        load_strictly(network.state_dict(), dict(state))
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(path, f"is of another network, {error}", mend) from error
    network.requires_grad_(False).eval()
    return sha256
