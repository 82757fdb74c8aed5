"""Bounds on what a file may cost while an adapter is made as it says: it may come from anybody and ask for anything."""

import resource
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import psutil
from torch import Tensor

from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError

SECONDS = 10.0  # of computing for the smallest UNet, and as many again for each GB of it: an evil pattern takes years
BYTES = 2**30  # beyond four times the file's own weights
MEND = "fetch the file again from somebody you know"


def check_sizes(settings: Mapping[str, Any], weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse settings with a whole number that is larger than the file has weights: a rank, or a number of vectors, cannot be."""
    held = sum(weight.numel() for weight in weights.values())
    for key, number in _numbers(settings):
        if number > held and key != "seed":
            raise InputError(path, f"asks for {key} {number:,} and holds {held:,} numbers in all", MEND)


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _numbers(part, str(name))
    elif isinstance(value, list):
        for part in value:
            yield from _numbers(part, key)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, value


@contextmanager
def bounded(path: Path, weights: Mapping[str, Tensor], backbone: Backbone) -> Iterator[None]:
    """Bound the computing and, on a CPU, the memory of what is done within; time is bounded in a program's main thread alone.

    Raises:
        InputError: If a bound is passed.
    """
    size = sum(weight.nbytes for weight in backbone.unet.parameters())
    seconds = SECONDS * (1 + size / 1e9)
    more = BYTES + 4 * sum(weight.nbytes for weight in weights.values()) + size
    try:
        with _seconds(path, seconds), _memory(more if backbone.device.type == "cpu" else None):
            yield
    except (MemoryError, RuntimeError) as error:
        if type(error) is RuntimeError and "allocate" not in str(error):  # how torch says that there is no memory left
            raise
        raise InputError(path, f"cannot be made as it says ({' '.join(str(error).split()) or 'no memory'})", MEND) from error


@contextmanager
def _seconds(path: Path, seconds: float) -> Iterator[None]:
    def end(*_: object) -> NoReturn:
        raise InputError(path, f"takes more than {seconds:.0f} s of computing to be made as it says", MEND)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def _memory(more: int | None) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if more is None or soft != resource.RLIM_INFINITY:  # a bound of the user's own stays
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
