"""The training recordings, held in memory, and the windows of sound and caption drawn from them.

Most recordings are shorter than the 5.12 s window. Zero padding would fill most pictures with the log floor and teach silence,
so short sounds are repeated the way they occur: takes of the same session follow one another after short random gaps.
"""

import csv
import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audioldm_lit.audio.waveform import fit, read
from audioldm_lit.errors import InputError

from architecture import SAMPLE_RATE

# Sounds that short prompts and common small data sets ask for; drawn three times as often as their number would give.
EVERYDAY = {
    "rain", "dog", "ocean_waves", "fire", "footsteps", "door", "bird", "birds", "rooster", "sneeze", "baby_cry", "helicopter",
    "saw", "cymbal", "thunder", "wind", "cat", "cow", "bell", "car", "train", "water_drop", "insect", "frog", "gunshot",
}  # fmt: skip
SYNONYMS = {
    "rain": ("rain", "rain", "raining", "rainfall"),
    "dog": ("dog", "a dog barking", "dog bark", "a barking dog"),
    "ocean_waves": ("sea waves", "ocean waves", "waves", "the sea"),
    "fire": ("fire", "crackling fire", "fire crackling"),
    "baby_cry": ("crying baby", "a baby crying"),
    "sneeze": ("person sneezing", "sneezing"),
    "insect": ("insects", "crickets"),
    "saw": ("sawing", "hand saw"),
    "cat": ("cat", "a cat meowing"),
    "birds": ("birds", "birds singing", "chirping birds"),
    "cymbal": ("cymbal", "a cymbal"),
}
LOOPED = 2.5  # seconds: from this length on a recording is looped with a crossfade instead of repeated after gaps
HELD_OUT = 50  # families
COLUMNS = ("file", "caption", "label", "family", "group")  # of metadata.csv


@dataclass(frozen=True)
class Clip:
    """One recording; `family` joins the takes of one session, `group` near-duplicates."""

    waveform: Tensor
    caption: str
    label: str
    family: str
    group: str


def read_clips(folder: Path) -> tuple[list[Clip], list[Clip]]:
    """Read every recording of `folder/metadata.csv`.

    Returns:
        Training clips and held-out clips. Held out are whole families (a random split would leak), only of labels with six
        families or more, chosen by the hash of their name so that the split never depends on order or seed.

    Raises:
        InputError: If the table lacks something, or a recording is missing or cannot be read.
    """
    table = folder / "metadata.csv"
    if not table.is_file():
        raise InputError(table, "is missing", f"give a folder with a table of {', '.join(COLUMNS)}")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lacking = [column for column in COLUMNS if not rows or column not in rows[0]]
    if lacking:
        raise InputError(table, f"has no {' and no '.join(lacking)}", "add these columns, and a line for every recording")
    # One source gives no session names: "source:" alone is no family, there every near-duplicate group is one.
    family = [row["group"] if row["family"].endswith(":") else row["family"] for row in rows]
    sounds = [read(folder / row["file"], SAMPLE_RATE) for row in rows]
    clips = [Clip(w, r["caption"], r["label"], f, r["group"]) for w, r, f in zip(sounds, rows, family, strict=True)]
    families = defaultdict(set)
    for clip in clips:
        families[clip.label].add(clip.family)
    candidates = sorted({clip.family for clip in clips if len(families[clip.label]) >= 6}, key=_hash)
    out = set(candidates[:HELD_OUT])
    held_out = [clip for clip in clips if clip.family in out]
    leaked = {clip.group for clip in held_out}
    return [clip for clip in clips if clip.family not in out and clip.group not in leaked], held_out


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Mixer:
    """Draws clips by balanced label and makes windows and captions of them.

    Args:
        clips: Recordings to draw from.
        seed: Seed of every draw.
    """

    def __init__(self, clips: list[Clip], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.by_label: dict[str, dict[str, list[Clip]]] = defaultdict(lambda: defaultdict(list))
        for clip in clips:
            self.by_label[clip.label][clip.family].append(clip)
        counts = Counter(clip.label for clip in clips)
        self.labels = sorted(counts)
        # The root flattens 80 arrow impacts against 1 frog without memorising the frog as often as the arrows are heard.
        weights = np.array([counts[label] ** 0.5 * (3 if everyday(label) else 1) for label in self.labels])
        self.weights = weights / weights.sum()

    def clip(self, label: str | None = None) -> Clip:
        """Draw a label by weight (unless given), then one of its families and one of the family's takes uniformly."""
        label = label or self.rng.choice(self.labels, p=self.weights)
        families = self.by_label[label]
        takes = families[list(families)[self.rng.integers(len(families))]]
        return takes[self.rng.integers(len(takes))]

    def distinct_labels(self, number: int) -> list[str]:
        """Draw `number` different labels, by weight."""
        return list(self.rng.choice(self.labels, size=number, replace=False, p=self.weights))

    def window(self, clip: Clip, num_samples: int, padded: float = 0.0) -> Tensor:
        """Make a window (T,) with peak 0.5 of `clip` and, where it is short, of its sibling takes.

        Args:
            clip: Recording to start from.
            num_samples: Length T in samples.
            padded: Probability in [0, 1] that a short clip is played once and followed by digital silence.
        """
        rng, sound = self.rng, clip.waveform
        if len(sound) < num_samples and rng.random() < padded:
            return fit(sound, num_samples)
        if len(sound) >= LOOPED * SAMPLE_RATE:
            sound = loop(sound, num_samples)
            start = rng.integers(len(sound) - num_samples + 1)
            return fit(sound[start : start + num_samples], num_samples)
        siblings = [take for take in self.by_label[clip.label][clip.family] if take.caption == clip.caption]
        pace = rng.choice([0.05, 0.25, 0.8])  # seconds: a window keeps one pace, as steps and barks do
        pieces, length, take = [], 0, clip
        while length < 2 * num_samples:
            level = float(take.waveform.abs().max()) + 1e-8
            gap = torch.zeros(int(SAMPLE_RATE * pace * rng.uniform(0.5, 1.5)))
            pieces += [take.waveform * (10 ** (-rng.uniform(0, 6) / 20) / level), gap]
            length += len(take.waveform) + len(gap)
            take = siblings[rng.integers(len(siblings))]
        sequence = torch.cat(pieces)
        # Half of the windows begin with the sound, half anywhere in its rhythm.
        start = 0 if rng.random() < 0.5 else rng.integers(len(sequence) - num_samples)
        sequence = sequence[start : start + num_samples]
        # A recording has a noise floor: -100 to -70 dB below full scale keeps the gaps off the log floor.
        floor = torch.from_numpy(rng.standard_normal(num_samples, dtype=np.float32)) * 10 ** rng.uniform(-5, -3.5)
        return fit(sequence + floor, num_samples)

    def caption(self, clip: Clip) -> str:
        """One of the ways a user may ask for the clip: its caption, its label, a synonym, "the sound of ..." either."""
        rng, draw = self.rng, self.rng.random()
        text = clip.caption
        if draw < 0.3 and clip.label in SYNONYMS:
            text = SYNONYMS[clip.label][rng.integers(len(SYNONYMS[clip.label]))]
        elif draw < 0.5:
            words = clip.label.split("_")
            text = words[0] if words[0] in ("footsteps", "dog") and rng.random() < 0.7 else " ".join(words)
        if rng.random() < 0.2:
            text = ("the sound of ", "sound of ", "a sound of ")[rng.integers(3)] + text
        if rng.random() < 0.1:
            text = text.capitalize()
        return text + "." if rng.random() < 0.1 else text


def everyday(label: str) -> bool:
    """Whether the label, or its first word, is one that short prompts ask for."""
    return label in EVERYDAY or label.split("_")[0] == "footsteps"


def loop(sound: Tensor, num_samples: int, fade: int = SAMPLE_RATE // 10) -> Tensor:
    """Repeat `sound` (T,) with equal-power crossfades of `fade` samples until it is at least `num_samples` long."""
    if len(sound) >= num_samples:
        return sound
    ramp = torch.linspace(0, torch.pi / 2, fade)
    result = sound
    while len(result) < num_samples:
        joint = result[-fade:] * ramp.cos() + sound[:fade] * ramp.sin()
        result = torch.cat([result[:-fade], joint, sound[fade:]])
    return result
