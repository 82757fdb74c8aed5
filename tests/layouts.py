"""Small synthetic data sets on disk, one function per data module, named like its class in lower case.

Each writes short tones in noise below `root` and returns the init_args that read them. The conformance suite in test_data.py looks
the function of every data module up by name.
"""

import csv
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
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


@cache
def bursts(seed: int, seconds: float = 1.0) -> np.ndarray:
    """Bursts of coloured noise at random times, (T,) at 16 kHz, over a little noise of the whole band."""
    rng = np.random.default_rng(seed)
    samples = 0.002 * rng.standard_normal(round(seconds * 16_000))
    for start in rng.integers(0, len(samples) - 2000, int(10 * seconds)):
        low = rng.uniform(150, 4000)
        band = scipy.signal.butter(2, [low, 1.8 * low], "bandpass", fs=16_000, output="sos")
        samples[start : start + 2000] += 0.3 * scipy.signal.sosfilt(band, rng.standard_normal(2000)) * np.hanning(2000)
    return 0.7 * samples / np.abs(samples).max()


def write_csv(path: Path, rows: list[list[object]]) -> Path:
    """Write a table; its first row names the columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def esc50(root: Path, takes: int = 3) -> dict[str, Any]:
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


def webdataset(root: Path) -> dict[str, Any]:
    """The folder in a tar."""
    tar_of(folder(root / "plain")["root"], root / "tars")
    return {"root": root / "tars"}


def zipped(root: Path) -> dict[str, Any]:
    """The folder in a zip."""
    zip_of(folder(root / "plain")["root"], root / "zips")
    return {"root": root / "zips"}


def huggingface(root: Path) -> dict[str, Any]:
    """The folder as rows."""
    rows_of(folder(root / "plain")["root"], root / "saved")
    return {"root": root / "saved", "label": "kind"}


def tar_of(source: Path, target: Path) -> None:
    """Put the files of a folder into a tar in another."""
    target.mkdir(exist_ok=True)
    with tarfile.open(target / "all.tar", "w") as tar:
        for path in sorted(source.rglob("*.*")):
            tar.add(path, path.relative_to(source).as_posix())


def zip_of(source: Path, target: Path) -> None:
    """Put the files of a folder into a zip in another."""
    target.mkdir(exist_ok=True)
    with zipfile.ZipFile(target / "all.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(source.rglob("*.*")):
            file.write(path, path.relative_to(source).as_posix())


def rows_of(source: Path, target: Path) -> None:
    """Save the sounds of a folder as a data set of the library `datasets`, their classes in the column `kind`."""
    import datasets

    files = sorted(path for path in source.rglob("*.*") if path.suffix != ".txt")
    labels = datasets.ClassLabel(names=sorted({path.parent.name for path in files}))
    rows = {
        "audio": [{"bytes": path.read_bytes(), "path": path.name} for path in files],
        "kind": [labels.str2int(path.parent.name) for path in files],
    }
    stored = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    made = datasets.Dataset.from_dict(rows, features=datasets.Features({"audio": stored, "kind": labels}))
    made.cast_column("audio", datasets.Audio(decode=False)).save_to_disk(target)


def urbansound8k(root: Path, takes: int = 4) -> dict[str, Any]:
    """Three classes, `takes` slices of as many recordings in each of ten folds, every second one in the background."""
    rows: list[list[object]] = [["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]]
    for target, label in enumerate(LABELS):
        for fold in range(1, 11):
            for take in range(takes):
                source = 1000 * target + 10 * fold + take
                name = f"{source}-{target}-0-{take}.wav"
                rate = (44_100, 96_000)[take % 2]
                tone(root / "audio" / f"fold{fold}" / name, 200 * (target + 1), seed=source, sample_rate=rate)
                rows.append([name, source, 0.0, 0.5, 1 + take % 2, fold, target, label])
    write_csv(root / "metadata" / "UrbanSound8K.csv", rows)
    return {"root": root}


def audiocaps(root: Path) -> dict[str, Any]:
    """Twelve training clips, two of them missing, and four of five captions each to validate and to test, named in four ways."""
    row = 0
    for split, count, captions in (("train", 12, 1), ("val", 4, 5), ("test", 4, 5)):
        rows: list[list[object]] = [["audiocap_id", "youtube_id", "start_time", "caption"]]
        for clip in range(count):
            video, start, first = f"{split[:2]}-_{clip:07d}", 10 * clip, row
            for number in range(captions):
                rows.append([row, video, start, f"Sound {clip} of {split}, followed by caption {number}"])
                row += 1
            name = (f"Y{video}.wav", f"{video}_{start}.flac", f"{video}.wav", f"{first}.wav")[clip % 4]
            if split != "train" or clip < count - 2:
                tone(root / split / name, 200 + 50 * clip, seed=row)
        write_csv(root / f"{split}.csv", rows)
    return {"root": root}


def audioset(root: Path) -> dict[str, Any]:
    """Three classes and a common fourth; of 120 listed training clips the last is missing, of 9 for evaluation none."""
    classes = [("/m/09x0r", "Speech"), ("/m/0bt9lr", "Dog"), ("/m/06mb1", "Rain"), ("/t/dd00130", "Male speech, man speaking")]
    write_csv(root / "class_labels_indices.csv", [["index", "mid", "display_name"], *([i, *one] for i, one in enumerate(classes))])
    for name, count in (("balanced_train", 120), ("eval", 9)):
        lines = ["# Segments csv created some day", "# num_ytids=1", "# YTID, start_seconds, end_seconds, positive_labels"]
        for clip in range(count):
            video, start = f"-{name[:2]}_{clip:07d}", 30 * clip
            labels = ",".join(dict.fromkeys((classes[0][0], classes[1 + clip % 3][0])))
            lines.append(f'{video}, {start}.000, {start + 10}.000, "{labels}"')
            if name == "eval" or clip < count - 1:
                tone(root / "audio" / name / (f"Y{video}.wav", f"{video}_{start}.flac")[clip % 2], 200 + clip, seed=clip)
        (root / f"{name}_segments.csv").write_text("\n".join([*lines, ""]))
    return {"root": root}


def dcasefoley(root: Path) -> dict[str, Any]:
    """Seven classes, twelve clips of six recordings in the development set, two clips in the evaluation set."""
    classes = ("dog_bark", "footstep", "gunshot", "keyboard", "moving_motor_vehicle", "rain", "sneeze_cough")
    for part, takes in (("dev", 12), ("eval", 2)):
        rows: list[list[object]] = [["category", "current_file_path", "original_dataset", "original_file_name"]]
        for number, label in enumerate(classes):
            for take in range(takes):
                tone(root / part / label / f"{take:03d}.wav", 200 * (number + 1), seed=10 * number + take, sample_rate=22_050)
                rows.append(
                    [label.title().replace("_", ""), f"{part}/{label}/{take:03d}.wav", "FSD50k", f"{part} {label} {take // 2}"]
                )
        write_csv(root / f"{part.title()}Meta.csv", rows)
    return {"root": root}


def kenneyeffects(root: Path) -> dict[str, Any]:
    """With a root given, the data module reads any folder."""
    return folder(root)
