"""Plant copies in data sets and see what the search for near duplicates finds: `python scripts/bench/duplicates.py --root DIR ...`.

Every audio file below the folders is a clip. What it was cut from is the `family` in a folder's `metadata.csv`, the ID in a name
FOLD-ID-TAKE, or else the file itself; clips of different such sources must be independent.
"""

import argparse
import csv
import io
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import process_time

import soundfile
import torch
import torch.nn.functional as F
from copies import Generator, Manipulation, gain, half_hop, in_turn, noisy, uniform
from rich.console import Console
from rich.table import Table
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.audio.waveform import read, resample
from audioldm_lit.errors import InputError
from audioldm_lit.health.duplicates import DuplicateSearch, nearest, whiten
from audioldm_lit.metrics.extractors.fingerprint import Fingerprint
from audioldm_lit.storage.atomic_write import write_json

RATE = Fingerprint.sample_rate
REACH = 3 * RATE // 2  # samples that copies are shifted or trimmed by at most
SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif"}
RANKS = (1, 3, 5, 10)


def shift(clip: Tensor, generator: Generator) -> Tensor:
    """Later by up to 1.5 s, silence before it."""
    return F.pad(clip, (int(uniform(0, REACH, generator)), 0))


def trim(clip: Tensor, generator: Generator) -> Tensor:
    """Up to 1.5 s off, some of it from the start; drawn again where that takes more than half of the clip or of its energy."""
    while True:
        off = int(uniform(0, min(REACH, len(clip) // 2), generator))
        start = int(uniform(0, off + 1, generator))
        rest = clip[start : len(clip) - (off - start)]
        if 2 * rest.square().sum() >= clip.square().sum():
            return rest


def encoded(kind: str, subtype: str) -> Manipulation:
    """Written with loss and read again."""

    def encode(clip: Tensor, generator: Generator) -> Tensor:
        file = io.BytesIO()
        soundfile.write(file, (clip / clip.abs().max().clamp(min=1)).numpy(), RATE, format=kind, subtype=subtype)
        file.seek(0)
        return torch.from_numpy(soundfile.read(file, dtype="float32")[0])

    return encode


def resampled(clip: Tensor, generator: Generator) -> Tensor:
    """To 11,025 Hz and back: what was above 5.5 kHz is gone."""
    return resample(resample(clip, RATE, 11_025), 11_025, RATE)


MANIPULATIONS: dict[str, Manipulation] = {
    "gain": gain,
    "half a hop": half_hop,
    "shift": shift,
    "trim": trim,
    "OGG": encoded("OGG", "VORBIS"),
    "MP3": encoded("MP3", "MPEG_LAYER_III"),
    "11 kHz": resampled,
    "noise 20 dB": noisy(20),
    "noise 10 dB": noisy(10),
    "trim, gain, noise 20 dB": in_turn(trim, gain, noisy(20)),
    "trim, MP3, noise 10 dB": in_turn(trim, encoded("MP3", "MPEG_LAYER_III"), noisy(10)),
}


def sources(root: Path, paths: Sequence[Path]) -> list[str]:
    """What each clip was cut from."""
    table = root / "metadata.csv"
    families: dict[Path, str] = {}
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            families = {root / row["file"]: row["family"] for row in csv.DictReader(file)}
    names = [path.stem.split("-") for path in paths]
    ids = [name[1] if len(name) >= 3 and name[1].isdigit() else None for name in names]
    return [f"{root.name}/{families.get(path) or id_ or path}" for path, id_ in zip(paths, ids, strict=True)]


def load(options: argparse.Namespace) -> tuple[list[Tensor], list[str]]:
    """Clips (T,), silent ones left out, and their sources."""
    clips, labels = [], []
    for root in options.root:
        paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not paths:
            raise InputError(root, "no audio files", "give a folder of recordings")
        for path, source in zip(paths, sources(root, paths), strict=True):
            clip = read(path, RATE)
            if clip.any():
                clips.append(clip)
                labels.append(source)
    return clips, labels


def measure(options: argparse.Namespace, folder: Path) -> dict:
    """All figures, as plain values."""
    start = process_time()
    clips, labels = load(options)
    reading = process_time() - start
    chosen = torch.randperm(len(clips), generator=seeding.generator(options.seed))[: options.copies].tolist()
    search = DuplicateSearch(len(clips) + len(chosen), folder)
    start = process_time()
    for i, clip in enumerate(clips):
        search.add(i, clip)
    adding = process_time() - start
    everyone = [*labels, *(f"copy {i}" for i in chosen)]
    start = process_time()
    clean = search.pairs(everyone)
    comparing = process_time() - start
    strangers = {(i, j) for i, j, _ in clean.pairs if labels[i] != labels[j]}
    figures: dict = {
        "clips": len(clips),
        "threshold": clean.threshold,
        "pairs": len(clean.pairs),
        "pairs of different sources": len(strangers),
        "clips in them": len({i for pair in strangers for i in pair}),
        "copies": {},
        "milliseconds a clip": {"reading": 1000 * reading / len(clips), "adding": 1000 * adding / len(clips)},
        "milliseconds a second of sound": 1000 * adding * RATE / sum(map(len, clips)),
        "seconds of comparing": comparing,
        "adding / reading": adding / reading,
        "comparing / reading": comparing / reading,
    }
    for name, manipulate in MANIPULATIONS.items():
        for n, i in enumerate(chosen):
            search.add(len(clips) + n, manipulate(clips[i], seeding.generator(options.seed, name, i)))
        result = search.pairs(everyone)
        found = {(i, j) for i, j, _ in result.pairs}
        planted = {(i, len(clips) + n) for n, i in enumerate(chosen)}
        hits = nearest(whiten(search.descriptions), max(RANKS))[len(clips) :] == torch.tensor(chosen)[:, None]  # (copies, k)
        figures["copies"][name] = {
            "found": len(planted & found) / len(planted),
            "among the nearest": {k: float(hits[:, :k].any(dim=1).double().mean()) for k in RANKS},
            "threshold": result.threshold,
            "new pairs": len({pair for pair in found - planted if pair[1] < len(clips)} - {(i, j) for i, j, _ in clean.pairs}),
        }
    figures["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return figures


def show(figures: dict) -> None:
    """Print the figures as a table and a few lines."""
    title = f"{figures['clips']} recordings, threshold {figures['threshold']:.2f}"
    table = Table("copies", "found, %", *(f"top {k}" for k in RANKS), "threshold", "new pairs", title=title)
    for name, figure in figures["copies"].items():
        shares = [f"{100 * share:.1f}" for share in (figure["found"], *figure["among the nearest"].values())]
        table.add_row(name, *shares, f"{figure['threshold']:.2f}", str(figure["new pairs"]))
    pairs = f"{figures['pairs']} pairs as they are, {figures['pairs of different sources']} of different sources"
    time = f"adding takes {figures['adding / reading']:.2f} times the reading, comparing {figures['comparing / reading']:.2f}"
    memory = f"{figures['peak memory, MB']:.0f} MB at most, the recordings included"
    Console().print(table, f"{pairs}, with {figures['clips in them']} clips", time, memory, sep="\n")


def main() -> None:
    """Measure and print, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, nargs="+", help="folders of recordings")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--copies", type=int, default=400, help="clips that are copied, each way in turn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, Path(folder))
    show(figures)
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
