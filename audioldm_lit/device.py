"""The device that a verb computes on, the precision it computes in, and memory that nobody needs any more."""

import ctypes
import os
import sys

import torch

from audioldm_lit.errors import InputError


def device_named(name: str) -> torch.device:
    """The device with this name; `auto` is the GPU where there is one, else the CPU; of several processes each has its own GPU."""
    gpus = torch.cuda.device_count()
    own = f"cuda:{int(os.environ['LOCAL_RANK']) % gpus}" if gpus and "LOCAL_RANK" in os.environ else "cuda"
    try:
        device = torch.device((own if gpus else "cpu") if name == "auto" else name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without the device
        raise InputError("--device", f"is '{name}', which is not here", "use cpu, cuda, cuda:1, mps or auto") from error
    return device


def fast_precision() -> str:
    """The trainer's precision by default: `bf16-mixed` where the hardware computes in bfloat16, else `32-true`.

    Emulated, a training step takes many times as long as in float32: 30 times on a CPU with AVX2 alone.
    """
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 may not have it
        native = any(there for name, there in capabilities.items() if name.endswith("bf16"))
    return "bf16-mixed" if native else "32-true"


def give_back() -> None:
    """Return to the system what was freed: after training on the CPU, glibc keeps a gigabyte of AudioLDM-S's activations."""
    if sys.platform == "linux" and (
        trim := getattr(ctypes.CDLL(None), "malloc_trim", None)
    ):  # other libraries return it themselves
        trim(0)
