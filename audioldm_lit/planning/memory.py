"""What memory there is, and the most that was used of it; bytes."""

import sys
from pathlib import Path

import psutil
import torch

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container
PROCESS = Path("/proc/self")


def there_is(device: torch.device) -> int:
    """Memory of a GPU, or of the machine as far as this process may use it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    limits = [Path(file).read_text(encoding="utf-8").strip() for file in LIMITS if Path(file).is_file()]
    return min([psutil.virtual_memory().total, *(int(limit) for limit in limits if limit.isdigit())])


def free(device: torch.device) -> int:
    """What of it others leave: what is free, and what this process has already."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return psutil.virtual_memory().available + psutil.Process().memory_info().rss


def forget_peak(device: torch.device) -> None:
    """Measure the peak anew from here on, where the system can do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        (PROCESS / "clear_refs").write_text("5")


def peak(device: torch.device) -> int:
    """The most that was used at once."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    if sys.platform == "linux":
        lines = (PROCESS / "status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))
