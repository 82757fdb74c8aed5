"""Where a verb computes."""

import torch

from audioldm_lit.errors import InputError


def device_named(name: str) -> torch.device:
    """The device of a name, the GPU where `auto` finds one."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without the device
        raise InputError(f"--device is '{name}', which is not here; use cpu, cuda, cuda:1, mps or auto.") from error
    return device
