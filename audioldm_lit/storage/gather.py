"""What several processes hold, brought together."""

from typing import Any, TypeVar

import torch.distributed

Value = TypeVar("Value")


def gather(value: Value, group: Any = None) -> list[Value]:
    """The values of all processes, in order of rank; of a process that is alone, its own.

    All processes of the group must call it. Values may be anything that can be pickled and need not be alike.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(values, value, group)
    return values
