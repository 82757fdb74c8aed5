"""What this machine has for training and generating."""

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import psutil
import torch

from audioldm_lit.device import fast_precision
from audioldm_lit.storage.cache_folder import cache_folder


def machine() -> dict[str, Any]:
    """Devices, arithmetic, memory and threads; memory and disk in GB, 10^9 bytes."""
    memory = psutil.virtual_memory()
    native = fast_precision() == "bf16-mixed"
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "memory_gb": memory.total / 1e9,
        "memory_free_gb": memory.available / 1e9,
        "devices": [*_graphics(), *(["mps"] if torch.backends.mps.is_available() else []), "cpu"],
        "bfloat16": "computed by the hardware" if native else "emulated, many times slower than float32",
        "precision": fast_precision(),
        "cache": str(cache_folder()),
        "cache_free_gb": shutil.disk_usage(_existing(cache_folder())).free / 1e9,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _graphics() -> list[str]:
    """GPUs, each with its memory."""
    cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [f"cuda:{number} {card.name}, {card.total_memory / 1e9:.0f} GB" for number, card in enumerate(cards)]


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())
