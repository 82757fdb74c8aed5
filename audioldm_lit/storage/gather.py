"""What several processes hold, brought together."""

from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed

Value = TypeVar("Value")
PATIENCE = timedelta(days=30)  # a process with much to do is waited for


def gather(value: Value, group: Any = None) -> list[Value]:
    """The values of all processes, in order of rank; of a process that is alone, its own.

    All processes of the group must call it. Values may be anything that can be pickled and need not be alike.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(values, value, group)
    return values


def join() -> tuple[int, int]:
    """Number of this process, and of all that `torchrun` started with it, connected so that they can `gather`; 0 and 1 if alone."""
    distributed = torch.distributed
    if not distributed.is_available():
        return 0, 1
    if distributed.is_torchelastic_launched() and not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=PATIENCE)
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
