"""What a model's folder holds, read without loading it: each part's files, their format, precision and size."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open

from audioldm_lit.assets.sources import HEARS
from audioldm_lit.errors import InputError
from audioldm_lit.networks.model_folder import INDEXED
from audioldm_lit.networks.weight_files import NAME, loading

SETTINGS = ("tokenizer", "scheduler", "feature_extractor")  # parts without weights
PRECISIONS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # as safetensors calls them


@dataclass(frozen=True)
class Part:
    """A part of a model as it lies in its folder.

    Attributes:
        name: Of its folder.
        here: Whether it is there.
        format: `safetensors`, `pickle` (.bin) or, of a part without weights, `settings`.
        files: Weight files that are loaded.
        precision: Of most of its numbers.
        parameters: How many numbers its weights are.
        megabytes: Size of all that its folder holds, 10^6 bytes.
        problem: What is wrong with it, in one sentence; empty where nothing is.
    """

    name: str
    here: bool
    format: str = ""
    files: int = 0
    precision: str = ""
    parameters: int = 0
    megabytes: float = 0.0
    problem: str = ""


def look_at(model: Path) -> list[Part]:
    """Every part that an AudioLDM can have."""
    return [_part(model / name) for name in (*INDEXED, *HEARS)]


def _part(folder: Path) -> Part:
    if not folder.is_dir():
        return Part(folder.name, here=False)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    if folder.name in SETTINGS:
        return Part(folder.name, here=True, format="settings", megabytes=size)
    try:
        files = sorted(_chosen(folder))
        numbers: Counter[str] = Counter()
        for file in files:
            numbers.update(_numbers(file))
    except (InputError, OSError, RuntimeError, SafetensorError, UnpicklingError) as error:
        problem = error.problem if isinstance(error, InputError) else f"cannot be read ({str(error).splitlines()[0]})"
        return Part(folder.name, here=True, megabytes=size, problem=problem)
    kind = "pickle" if files[0].suffix == ".bin" else "safetensors"
    (precision, _), *_ = numbers.most_common(1)
    return Part(folder.name, True, kind, len(files), precision, numbers.total(), size)


def _chosen(folder: Path) -> Iterator[Path]:
    """The files of weights that loading takes, of all that lie in the folder."""
    chosen = loading(folder)
    suffix = ".safetensors" if chosen["use_safetensors"] else ".bin"
    for file in folder.iterdir():
        found = NAME.fullmatch(file.name)
        if found and file.suffix == suffix and found["variant"] == chosen.get("variant"):
            yield file


def _numbers(file: Path) -> Counter[str]:
    """How many numbers of each precision a file holds; their values are not read."""
    numbers: Counter[str] = Counter()
    if file.suffix == ".bin":
        for tensor in torch.load(file, map_location="cpu", weights_only=True, mmap=True).values():
            numbers[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
        return numbers
    with safe_open(file, framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118  (not a dict)
            tensor = weights.get_slice(name)
            numbers[PRECISIONS.get(tensor.get_dtype(), tensor.get_dtype())] += torch.Size(tensor.get_shape()).numel()
    return numbers
