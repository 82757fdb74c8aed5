"""The hash that a row of tensors on disk is believed by."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def row_digest(key: str, row: Mapping[str, Tensor]) -> str:
    """SHA-256 of a row: its key, and name, type, shape and bytes of each of its tensors, in any order."""
    digest = hashlib.sha256(key.encode())
    for name, value in sorted(row.items()):
        digest.update(f"\x1f{name} {value.dtype} {tuple(value.shape)}\x1f".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
