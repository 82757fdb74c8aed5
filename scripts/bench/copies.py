"""Plant copies among real recordings and see what the copy meter finds: `python scripts/bench/copies.py --root ESC-10`.

The folder holds `audio/FOLD-SOURCE-TAKE-CLASS.wav` as ESC-50 does (Piczak 2015); recordings of different folds must be
independent. Per draw and fold: a few training clips a class from the other folds, a few held-out clips of this fold to calibrate
on, and the rest of this fold to be left alone. Copies of the training clips are to be found.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import torch
import torch.nn.functional as F
import torchaudio
from rich.console import Console
from rich.table import Table
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.audio.log_mel import LogMel
from audioldm_lit.audio.waveform import read
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.metrics.extractors.fingerprint import Fingerprint
from audioldm_lit.metrics.similarity import near_copy_threshold, shift_tolerant_similarity
from audioldm_lit.storage.atomic_write import write_json

RATE = Fingerprint.sample_rate
SHORTEST_WINDOW = 3 * RATE  # room to shift short effects in; recordings are filled up with silence, as for training
Generator = torch.Generator
Manipulation = Callable[[Tensor, Generator], Tensor]


def uniform(low: float, high: float, generator: Generator) -> float:
    """A number in [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def exact(clip: Tensor, generator: Generator) -> Tensor:
    """The clip itself."""
    return clip


def gain(clip: Tensor, generator: Generator) -> Tensor:
    """-12 to +6 dB."""
    return clip * 10 ** (uniform(-12, 6, generator) / 20)


def shift(clip: Tensor, generator: Generator) -> Tensor:
    """Up to a second either way, by samples; drawn again where more than half of the sound would leave the window."""
    while True:
        offset = round(uniform(-RATE, RATE, generator))
        moved = F.pad(clip, (offset, -offset))
        if 2 * moved.square().sum() >= clip.square().sum():
            return moved


def half_hop(clip: Tensor, generator: Generator) -> Tensor:
    """10 ms later: as far between two frames as can be."""
    return F.pad(clip, (RATE // 100, -RATE // 100))


def noisy(snr: float) -> Manipulation:
    """White noise over the whole window, `snr` dB below the mean power of the sound without the silence after it."""

    def add(clip: Tensor, generator: Generator) -> Tensor:
        sound = clip[: int(clip.nonzero().max()) + 1]
        return clip + 10 ** (-snr / 20) * sound.square().mean().sqrt() * torch.randn(clip.shape, generator=generator)

    return add


def vocoded(clip: Tensor, generator: Generator) -> Tensor:
    """What is left of the clip in AudioLDM's log-mel, with new phases (Griffin & Lim 1984): the best any such model can copy."""
    log_mel = LogMel()
    mel = log_mel(F.pad(clip, (0, -len(clip) % log_mel.hop_length))[None])[0, 0].exp()  # (F, M)
    magnitude = (mel @ torch.linalg.pinv(log_mel.mel.mel_scale.fb)).clamp(min=1e-6)  # (F, n_fft / 2 + 1)
    vocoder = torchaudio.transforms.GriffinLim(1024, 24, hop_length=log_mel.hop_length, power=1.0, rand_init=False)
    return vocoder(magnitude.T)[: len(clip)]


def in_turn(*steps: Manipulation) -> Manipulation:
    """One manipulation after the other."""

    def apply(clip: Tensor, generator: Generator) -> Tensor:
        for step in steps:
            clip = step(clip, generator)
        return clip

    return apply


MANIPULATIONS: dict[str, Manipulation] = {
    "exact": exact,
    "gain": gain,
    "noise 20 dB": noisy(20),
    "noise 10 dB": noisy(10),
    "half a hop": half_hop,
    "shift": shift,
    "shift, gain, noise 20 dB": in_turn(shift, gain, noisy(20)),
    "shift, gain, noise 10 dB": in_turn(shift, gain, noisy(10)),
    "vocoded": vocoded,
    "vocoded, shift": in_turn(vocoded, shift),
}


def embed(clips: Sequence[Tensor]) -> Tensor:
    """Clips (T,) of one or of several lengths -> rows (N, F, M)."""
    fingerprint, longest = Fingerprint(), max(map(len, clips))
    padded = [F.pad(clip, (0, longest - len(clip))) for clip in clips]
    batches = [torch.stack(padded[i : i + 32]) for i in range(0, len(padded), 32)]
    return torch.cat([fingerprint(AudioBatch(ids=(), waveform=batch, sample_rate=RATE))["embedding"] for batch in batches])


def area(positive: Tensor, negative: Tensor) -> float:
    """Area under the ROC curve: how often a positive (P,) lies above a negative (N,), ties half."""
    difference = positive[:, None] - negative[None]
    return float(((difference > 0).double() + (difference == 0).double() / 2).mean())


def load(root: Path) -> tuple[Tensor, list[str], list[str]]:
    """Recordings (N, T) filled up to one window, and the fold and class of each."""
    paths = sorted(root.glob("audio/*-*-*-*.wav"))
    if not paths:
        raise InputError(root, "no audio/FOLD-SOURCE-TAKE-CLASS.wav", "give a folder laid out as ESC-50")
    clips = [read(path, RATE) for path in paths]
    window = max(SHORTEST_WINDOW, *map(len, clips))
    folds, _, _, classes = zip(*(path.stem.split("-", 3) for path in paths), strict=True)
    return torch.stack([F.pad(clip, (0, window - len(clip))) for clip in clips]), list(folds), list(classes)


def draw(folds: list[str], classes: list[str], fold: str, options: argparse.Namespace, number: int) -> tuple[list[int], ...]:
    """Indices of the training, held-out and independent clips."""
    order = torch.randperm(len(folds), generator=seeding.generator(options.seed, fold, number)).tolist()
    training: list[int] = []
    taken: Counter[str] = Counter()
    for i in order:
        if folds[i] != fold and taken[classes[i]] < options.per_class:
            training.append(i)
            taken[classes[i]] += 1
    unseen = [i for i in order if folds[i] == fold and taken[classes[i]]]
    return training, unseen[: options.held_out], unseen[options.held_out :]


def measure(options: argparse.Namespace) -> dict:
    """All figures, as plain values."""
    clips, folds, classes = load(options.root)
    rows = embed(list(clips))
    start = perf_counter()
    among = shift_tolerant_similarity(rows, rows)
    figures: dict = {"recordings": len(clips), "seconds": perf_counter() - start, **vars(options), "root": options.root.name}
    planted = {}
    for name, manipulate in MANIPULATIONS.items():
        copies = [manipulate(clip, seeding.generator(options.seed, name, i)) for i, clip in enumerate(clips)]
        planted[name] = shift_tolerant_similarity(embed(copies), rows)
    thresholds: list[float] = []
    flags: dict[str, list[bool]] = {name: [] for name in sorted(set(classes))}
    found: dict[str, list[float]] = {name: [] for name in planted}
    areas: dict[str, list[float]] = {name: [] for name in planted}
    for number in range(options.draws):
        for fold in sorted(set(folds)):
            training, held_out, independent = draw(folds, classes, fold, options, number)
            bound = near_copy_threshold(among[held_out][:, training].amax(dim=1))
            nearest = among[independent][:, training].amax(dim=1)
            thresholds.append(float(bound))
            for i, flag in zip(independent, (nearest > bound).tolist(), strict=True):
                flags[classes[i]].append(flag)
            for name, similarity in planted.items():
                copies = similarity[training][:, training].amax(dim=1)
                found[name].append(float((copies > bound).double().mean()))
                areas[name].append(area(copies, nearest))
    every = [flag for some in flags.values() for flag in some]
    figures["threshold"] = {"mean": mean(thresholds), "highest": max(thresholds)}
    figures["false flags"] = {"all": mean(every), **{name: mean(some) for name, some in flags.items() if some}}
    figures["copies"] = {name: {"auc": mean(areas[name]), "recall": mean(found[name])} for name in planted}
    return figures


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def show(figures: dict) -> None:
    """Print the figures as two tables."""
    threshold = figures["threshold"]
    title = f"{figures['root']}: {figures['recordings']} recordings, threshold {threshold['mean']:.2f}"
    copies = Table("copies", "AUC", "found, %", title=f"{title} (highest {threshold['highest']:.2f})")
    for name, figure in figures["copies"].items():
        copies.add_row(name, f"{figure['auc']:.4f}", f"{100 * figure['recall']:.1f}")
    flagged = Table("independent clips", "flagged, %")
    for name, rate in figures["false flags"].items():
        flagged.add_row(name, f"{100 * rate:.1f}")
    Console().print(copies, flagged, f"all pairs in {figures['seconds']:.1f} s")


def main() -> None:
    """Measure and print, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder laid out as ESC-50")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--per-class", type=int, default=8, help="training clips a class")
    parser.add_argument("--held-out", type=int, default=8, help="clips to calibrate on")
    parser.add_argument("--draws", type=int, default=20, help="times everything is drawn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    path = options.json
    del options.json
    figures = measure(options)
    show(figures)
    if path:
        write_json(path, figures)


if __name__ == "__main__":
    main()
