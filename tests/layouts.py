"""Small synthetic data sets on disk, one function per data module, named like its class in lower case.

Each writes short tones in noise below `root` and returns the init_args that read them. The conformance suite in test_data.py looks
the function of every data module up by name.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

LABELS = ("dog", "rain", "sea_waves")


def tone(path: Path, frequency: float, seed: int = 0, duration: float = 0.5, sample_rate: int = 16_000, channels: int = 1) -> Path:
    """Write a tone in a little noise, of `duration` seconds; the suffix says the format."""
    num_samples = round(duration * sample_rate)
    noise = 0.05 * np.random.default_rng(seed).standard_normal((num_samples, channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.3 * np.sin(2 * np.pi * frequency * np.arange(num_samples) / sample_rate)[:, None] + noise
    soundfile.write(path, samples.astype("float32"), sample_rate)
    return path


def write_csv(path: Path, rows: list[list[object]]) -> Path:
    """Write a table; its first row names the columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def esc50(root: Path, takes: int = 4) -> dict[str, Any]:
    """Three classes, `takes` clips in each of five folds."""
    rows: list[list[object]] = [["filename", "fold", "target", "category", "esc10", "src_file", "take"]]
    for target, label in enumerate(LABELS):
        for fold in range(1, 6):
            for take in range(takes):
                source = 100 * target + 10 * fold + take
                name = f"{fold}-{source}-A-{target}.wav"
                tone(root / "audio" / name, 200 * (target + 1), seed=source)
                rows.append([name, fold, target, label, target < 2, source, "A"])
    write_csv(root / "meta" / "esc50.csv", rows)
    return {"root": root}


def folder(root: Path, takes: int = 6) -> dict[str, Any]:
    """Three class sub-folders of `takes` clips, of several lengths, rates and channel counts."""
    for number, label in enumerate(LABELS):
        for take in range(takes):
            tone(
                root / label / f"{label}{take}.wav", 200 * (number + 1), seed=10 * number + take,
                duration=0.3 + 0.2 * take, sample_rate=(16_000, 44_100)[take % 2], channels=1 + take % 2,
            )  # fmt: skip
    return {"root": root}


def kenneyeffects(root: Path) -> dict[str, Any]:
    """With a root given, the data module reads any folder."""
    return folder(root)
