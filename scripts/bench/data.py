"""How fast data sets are read, encoded and served: `python scripts/bench/data.py --root ESC-10`.

The folder holds recordings in ESC-50's layout (Piczak 2015). Whole commands are run as their users run them, each in a process of
its own; the clips that are asked for beyond those there are mixtures of two of them, so that none is a copy.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset

from audioldm_lit.audio.decoding import read_channels
from audioldm_lit.backbone import Backbone
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.places import NANO
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.storage.cache_folder import cache_folder
from audioldm_lit.storage.shards import Shards
from audioldm_lit.training.cache import Cache

BATCH = 8
SECONDS = 5


class FilePerClip(Dataset):
    """What a shard is compared with: a safetensors file a clip."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Latents of a clip."""
        return {name: value.float() for name, value in load_file(self.paths[index]).items()}


def write_mixtures(root: Path, folder: Path, count: int) -> None:
    """Write `count` different clips of 5 s: sums of two recordings at drawn levels and shifts."""
    paths, draw = sorted((root / "audio").glob("*.wav")), np.random.default_rng(0)
    for number in range(count):
        first, second = (soundfile.read(paths[i], dtype="float32") for i in draw.choice(len(paths), 2, replace=False))
        mixed = draw.uniform(0.3, 1) * first[0] + draw.uniform(0.3, 1) * np.roll(second[0], draw.integers(len(second[0])))
        path = folder / f"class{number % 10}" / f"{number:05d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.9 * mixed / np.abs(mixed).max(), first[1])


def command(*arguments: object, folder: Path) -> tuple[float, float]:
    """Seconds of a whole command, and the peak memory in GB of the largest command so far."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    began = perf_counter()
    words = [sys.executable, "-m", "audioldm_lit", *map(str, arguments)]
    result = subprocess.run(words, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    if result.returncode not in (0, 2):
        raise RuntimeError(result.stderr)
    return perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def check(root: Path, folder: Path, count: int) -> dict[str, float]:
    """`prepare` on `count` clips, against decoding them on one core."""
    write_mixtures(root, folder / "clips", count)
    paths = sorted((folder / "clips").rglob("*.wav"))
    began = perf_counter()
    for path in paths[:200]:
        read_channels(path)
    decoding = (perf_counter() - began) / min(200, count)
    data = ("--data", "audioldm_lit.data.folder.Folder", "--data.root", folder / "clips")
    seconds, memory = command("prepare", *data, folder=folder)
    return {
        "clips": count,
        "prepare, clips a second, start included": count / seconds,
        "prepare against decoding alone on one core": seconds / (count * decoding),
        "prepare, peak memory in GB": memory,
    }


def train(root: Path, folder: Path) -> dict[str, float]:
    """The first and the second `fit` on the same clips, to their first step."""
    data = ("--data", "audioldm_lit.data.esc50.ESC50", "--data.root", root)
    fit = ("fit", *data, "--trainer.max_steps", 1, "--trainer.val_check_interval", 1, "--trainer.limit_val_batches", 1)
    quick = ("--audition.count", 0, "--trainer.enable_progress_bar", "false")
    cached, _ = command("prepare", *data, "--cache", "true", folder=folder)
    second, _ = command(*fit, *quick, folder=folder)
    return {"prepare --cache on all clips, seconds": cached, "fit on cached clips up to its end after one step, seconds": second}


def serve(root: Path, folder: Path) -> dict[str, float]:
    """Batches a second out of the cache, from one shard and from a file a clip."""
    data = ESC50(root, duration=5.12)
    data.setup("fit")
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    cache = Cache(cache_folder(), Backbone.load(NANO), audio_embeds=False)
    began = perf_counter()
    cache.fill(data.datasets["train"])
    encoding = perf_counter() - began
    encoded = cache.read(data.datasets["train"])
    store, began = Shards(cache.latents.folder), process_time()
    if store.missing(encoded.keys):
        raise RuntimeError("rows that were just written are damaged")
    checking = (process_time() - began) / len(encoded)
    paths = []
    for index, key in enumerate(encoded.keys):
        paths.append(folder / "files" / f"{index}.safetensors")
        paths[-1].parent.mkdir(exist_ok=True)
        save_file({name: value.clone() for name, value in cache.latents[key].items()}, paths[-1])
    shard, files = (batches_per_second(dataset) for dataset in (encoded, FilePerClip(paths)))
    return {
        f"encoding {len(encoded)} clips again, seconds": encoding,
        "checking the hash of a row, once a process, CPU milliseconds": 1000 * checking,
        f"batches of {BATCH} a second": shard,
        "against 200 steps a second": shard / 200,
        "one shard against a file a clip": shard / files,
    }


def batches_per_second(dataset: Dataset, count: int = 2000) -> float:
    """Batches a second in the training process itself, shuffled."""
    loader = DataLoader(dataset, BATCH, shuffle=True)

    def endless() -> Iterator[dict]:
        while True:
            yield from loader

    stream = endless()
    next(stream)
    began = perf_counter()
    for _ in islice(stream, count):
        pass
    return count / (perf_counter() - began)


def main() -> None:
    """Measure and print, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder laid out as ESC-50")
    parser.add_argument("--clips", type=int, default=2000, help="clips to check")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    root = options.root.absolute()
    with tempfile.TemporaryDirectory() as name:
        figures = {**check(root, Path(name), options.clips), **train(root, Path(name)), **serve(root, Path(name))}
    figures |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    table = Table("figure", "value", title="Data")
    for label, value in figures.items():
        table.add_row(label, f"{value:,.3g}" if isinstance(value, float) else str(value))
    Console().print(table)
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
