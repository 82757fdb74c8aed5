"""A check-up for people and for programs: a table in the terminal, a page with pictures, a manifest."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from rich.console import Console
from rich.table import Table

from audioldm_lit.console.markup import escape
from audioldm_lit.console.stages import Stage
from audioldm_lit.data.clips import Part
from audioldm_lit.errors import InputError
from audioldm_lit.health.advice import reasons
from audioldm_lit.health.checkup import SPLITS, Checkup
from audioldm_lit.health.excerpts import LINKED, excerpts, worth_hearing
from audioldm_lit.health.findings import Examined, Finding
from audioldm_lit.places import packaged
from audioldm_lit.storage.atomic_write import atomic_write

SHOWN = 200  # findings of one kind on the page; the rest stand in the JSON
WIDTH, HEIGHT, MARGIN = 720, 420, 0.03  # of the map in pixels, and the share of it that stays free on each side
CLASSES = ("#3f7fc1", "#d9731b", "#3a9d5d", "#c62f3b", "#8457b5", "#8a6246", "#d26bb0", "#6e7781")
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def write_manifest(path: Path, items: Sequence[Examined], root: Path) -> None:
    """Write clips as JSON lines, one for each caption, which `audioldm_lit.data.folder.Folder` reads as its table.

    Raises:
        InputError: If a clip lies outside the root, or the file cannot be written.
    """
    with atomic_write(path) as unfinished, unfinished.open("w", encoding="utf-8") as lines:
        for item in items:
            clip = item.clip
            if not clip.path.is_relative_to(root):
                raise InputError(clip.path, f"lies outside {root}, so no manifest can name it", "move it there")
            name = clip.path.relative_to(root).as_posix()
            if name != name.strip():
                raise InputError(clip.path, "its name begins or ends with a space, which no table can say", "rename it")
            measured = asdict(item.measurement) if item.measurement else {"error": str(item.error)}
            for caption in (clip.caption, *clip.others):
                row: dict[str, Any] = {"id": clip.id, "file": name, "caption": " ".join(caption.split())}
                row |= {"label": clip.label, "source": clip.source, "split": item.split}
                row |= {"start": clip.span[0], "end": clip.span[1]} if clip.span else {}
                lines.write(json.dumps(row | _plain(measured), ensure_ascii=False) + "\n")


def as_dict(checkup: Checkup) -> dict[str, Any]:
    """Everything except the single clips, as plain values."""
    return {
        "clips": checkup.counts,
        "coverage": {split: str(coverage) for split, coverage in checkup.coverage.items()},
        "classes": classes(checkup),
        "hours": sum(item.measurement.duration for item in checkup.items if item.measurement) / 3600,
        "near_copy_threshold": checkup.threshold,
        "findings": [asdict(finding) for finding in checkup.findings],
        "kept": len(checkup.kept),
    }


def classes(checkup: Checkup) -> dict[str, dict[str, int]]:
    """Clips of each class in each split."""
    counts = Counter((item.clip.label, item.split) for item in checkup.items)
    return {label: {split: counts[label, split] for split in SPLITS} for label in sorted({label for label, _ in counts})}


def show(checkup: Checkup, console: Console) -> None:
    """Print one line a kind of finding."""
    table = Table(title="Health", title_justify="left")
    table.add_column("")
    table.add_column("clips", justify="right")
    table.add_column("for example", overflow="fold")
    table.add_column("what to do")
    for kind, findings in by_kind(checkup).items():
        first = findings[0]
        clips = len({name for finding in findings for name in finding.clips}) or ""
        example = f"{Path(first.where).name if first.clips else first.where}: {first.said}"
        table.add_row(f"[{COLOURS[first.severity]}]{escape(kind)}[/]", str(clips), escape(example), escape(first.mend))
    if not checkup.findings:
        table.add_row("[green]nothing[/]", "", "no clip and no split has anything wrong with it", "train")
    console.print(table)


def by_kind(checkup: Checkup) -> dict[str, list[Finding]]:
    """Findings of each kind, the worst first."""
    kinds: dict[str, list[Finding]] = {}
    for finding in checkup.findings:
        kinds.setdefault(finding.kind, []).append(finding)
    return kinds


def write_page(path: Path, checkup: Checkup, name: str, threads: int = 1) -> None:
    """Write the check-up as one self-contained page, which loads nothing and runs no script but its own.

    Args:
        path: The file.
        checkup: What was found.
        name: Of the data set.
        threads: Number of recordings read at a time for what can be heard.

    Raises:
        InputError: If it cannot be written.
    """
    read = [item.measurement for item in checkup.items if item.measurement]
    pictures = {
        "Duration in seconds": histogram([measured.duration for measured in read]),
        "Level of what sounds, dB of full scale": histogram([measured.level_db for measured in read]),
        "Bandwidth in kHz": histogram([measured.bandwidth / 1000 for measured in read]),
        "Silent share in %": histogram([100 * measured.silent_share for measured in read]),
    }
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        packaged("health/page.html").read_text(encoding="utf-8")
    )
    script = packaged("health/page.js").read_text(encoding="utf-8")
    told = {"report": as_dict(checkup), "kinds": by_kind(checkup), "reasons": reasons(checkup), "shown": SHOWN}
    page = template.render(
        name=name,
        pictures=pictures,
        splits=SPLITS,
        script=Markup(script),
        script_hash=_hash(script),
        **told,
        **_heard(checkup, threads),
    )
    with atomic_write(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _hash(script: str) -> str:
    """How a browser is told the one script that may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _heard(checkup: Checkup, threads: int) -> dict[str, Any]:
    """Excerpts, their numbers by clip, and the map with its points."""
    parts = worth_hearing(checkup.items, checkup.findings, checkup.places)
    with Stage(f"excerpts of {len(parts)} recordings"):
        sounds = excerpts(parts, threads)
    numbers = {part: number for number, part in enumerate(sounds)}
    clips = {item.clip.part: item.clip for item in checkup.items}
    labels = sorted({clip.label for clip in clips.values()})
    colours = {label: CLASSES[place % len(CLASSES)] for place, label in enumerate(labels)}
    ringed = {name for finding in checkup.findings if finding.severity != "note" for name in finding.clips}
    heard = {
        clip.id: (clip.path.name, numbers[clip.part]) for clip in (item.clip for item in checkup.items) if clip.part in numbers
    }
    points = [
        {
            "x": x, "y": y, "name": _title(part),
            "number": numbers.get(part), "colour": colours[clips[part].label], "ringed": clips[part].id in ringed,
        }
        for part, x, y in _spread(checkup.places)
    ]  # fmt: skip
    return {
        "sounds": {_title(part): sound for part, sound in sounds.items()},
        "heard": heard,
        "points": points, "linked": LINKED, "colours": colours, "map": {"width": WIDTH, "height": HEIGHT, "share": checkup.shown},
    }  # fmt: skip


def _spread(places: Mapping[Part, tuple[float, float]]) -> Iterator[tuple[Part, float, float]]:
    """Places in pixels: both directions fill the map, so that one clip far out does not press all others together twice."""
    at = np.array(list(places.values())).reshape(-1, 2)
    low, size = at.min(axis=0, initial=1), np.maximum(np.ptp(at, axis=0), 1e-9) if len(at) else 1
    for part, (x, y) in zip(places, (at - low) / size, strict=True):
        yield part, WIDTH * (MARGIN + (1 - 2 * MARGIN) * x), HEIGHT * (1 - MARGIN - (1 - 2 * MARGIN) * y)


def _title(part: Part) -> str:
    """A clip as its file, and the seconds of it."""
    path, span = part
    return f"{path}, {span[0]:.1f} to {span[1]:.1f} s" if span else str(path)


def histogram(values: Sequence[float], bins: int = 30) -> dict[str, Any]:
    """Bars of a histogram: `bars` of (height in [0, 1], count, from, to), and the ends of the axis."""
    finite = np.array([value for value in values if np.isfinite(value)])
    if not len(finite):
        return {"bars": [], "low": 0.0, "high": 0.0}
    low, high = finite.min(), finite.max()
    if high - low < 1e-6 * max(1.0, abs(low), abs(high)):  # numpy refuses bars as narrow as the rounding of their values
        margin = max(0.5, abs(high) / 1000)
        low, high = low - margin, high + margin
    counts, edges = np.histogram(finite, bins, (low, high))
    bars = [(count / counts.max(), int(count), *ends) for count, ends in zip(counts, pairwise(edges), strict=True)]
    return {"bars": bars, "low": float(edges[0]), "high": float(edges[-1])}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers to four digits; those that are not finite, which JSON cannot hold, are null."""
    rounded = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in values.items()}
    return {name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in rounded.items()}
