"""Where a verb computes."""

import torch

from audioldm_lit.errors import InputError


def device_named(name: str) -> torch.device:
    """The device of a name, the GPU where `auto` finds one."""
    try:
        return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    except RuntimeError as error:
        raise InputError(f"--device is '{name}'; use cpu, cuda, cuda:1, mps or auto.") from error
