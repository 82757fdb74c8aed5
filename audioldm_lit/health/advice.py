"""What to do after a check-up: which clips --fix leaves out, captions to fill in, and the command that comes next."""

import csv
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from audioldm_lit.console.command import command
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.folder import Folder
from audioldm_lit.health.checkup import Checkup
from audioldm_lit.health.findings import Examined
from audioldm_lit.storage.atomic_write import atomic_write
from audioldm_lit.storage.csv_cell import to_cell
from audioldm_lit.storage.spec import class_path

NAMED = 20  # clips on the terminal; the page has all
COLUMNS = ("file", "caption", "problem", "suggestion", "id", "label", "source", "split", "start", "end")
Verb = Literal["prepare", "fit"]
CAPTION = "caption: "  # how the kinds of findings about captions begin


def reasons(checkup: Checkup) -> dict[str, str]:
    """Clips that `--fix` leaves out, by id, each with the first reason."""
    found: dict[str, str] = {}
    for finding in checkup.findings:
        for name in finding.drop:
            found.setdefault(name, finding.kind)
    return found


def left_out(checkup: Checkup) -> str:
    """The same in one line; empty where nothing is left out."""
    found = reasons(checkup)
    if not found:
        return ""
    named = [f"{name} ({kind})" for name, kind in list(found.items())[:NAMED]]
    more = [f"{len(found) - NAMED:,} more, all on the page"] if len(found) > NAMED else []
    return f"--fix leaves out {len(found):,} of {len(checkup.items):,} clips: {', '.join(named + more)}"


def write_captions(path: Path, checkup: Checkup, root: Path, suggestions: Mapping[str, Sequence[str]]) -> None:
    """Write a table of all clips to correct their captions in, those with a problem first.

    `Folder` takes it back as its table, or as the `captions.csv` of the folder. It is UTF-8 with the mark that spreadsheets look
    for.

    Args:
        path: The file.
        checkup: The data set.
        root: Its folder; files are named from there.
        suggestions: Words for a clip's caption, by its id, the best first.

    Raises:
        InputError: If it cannot be written.
    """
    problems: dict[str, list[str]] = {}
    for finding in checkup.findings:
        if finding.kind.startswith(CAPTION):
            for name in finding.clips:
                problems.setdefault(name, []).append(finding.kind.removeprefix(CAPTION))
    with atomic_write(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for item in sorted(checkup.items, key=lambda item: item.clip.id not in problems):
            table.writerows(_rows(item, root, problems.get(item.clip.id, ()), suggestions.get(item.clip.id, ())))


def _rows(item: Examined, root: Path, problems: Sequence[str], suggestions: Sequence[str]) -> Iterator[list[object]]:
    """A row for each caption of a clip."""
    clip = item.clip
    shared = [", ".join(problems), "; ".join(suggestions), clip.id, clip.label, clip.source, item.split, *(clip.span or ("", ""))]
    for caption in (clip.caption, *clip.others):
        row = [clip.path.relative_to(root).as_posix(), " ".join(caption.split()), *shared]
        yield [to_cell(value) if isinstance(value, str) else value for value in row]


def following(verb: Verb, data: AudioDataModule, table: Path | None = None, others: Mapping[str, object] | None = None) -> str:
    """The command that goes on with what was examined, at the length that was examined.

    Args:
        verb: `prepare` or `fit`.
        data: The data set.
        table: A cleaned list of its clips, that stands for it.
        others: Further options by key; None is left out.
    """
    if table is not None or type(data) is Folder:
        words = [verb, *(["--folder"] if verb == "fit" else []), str(data.root)]
    else:
        words = [verb, "--data", class_path(data), "--data.init_args.root", str(data.root)]
    own = _settings(data, AudioDataModule if table is not None and type(data) is not Folder else type(data))
    own = {**own, "duration": data.duration, **({"table": table} if table is not None else {})}
    given = {f"data.init_args.{name}": "null" if value is None else value for name, value in own.items()}
    for key, value in {**given, **(others or {})}.items():
        if value is not None:
            words += [f"--{key}", json.dumps(value) if isinstance(value, bool | int | float | list | tuple) else str(value)]
    return command(*words)


def _settings(data: AudioDataModule, kind: type) -> dict[str, Any]:
    """Settings of a data set that are not the defaults of its class and of those above it; FILE for what a file says."""
    found = {}
    for above in kind.__mro__[: kind.__mro__.index(AudioDataModule) + 1]:
        for name, parameter in inspect.signature(above).parameters.items():
            value = getattr(data, name, parameter.default)
            if name != "root" and value != parameter.default and hasattr(data, name):
                plain = value is None or isinstance(value, bool | int | float | str | Path | list | tuple)
                found[name] = value if plain else "FILE"
    return found
