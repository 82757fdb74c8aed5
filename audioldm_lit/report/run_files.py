"""What a run has left in its folder, as far as it is there; what is missing is said in one sentence and the rest is shown."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from audioldm_lit.console.command import command
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import Evaluation
from audioldm_lit.evaluation.kept import read_evaluations, scored_folder
from audioldm_lit.storage.plain_files import read_record, read_yaml

Read = TypeVar("Read")


@dataclass(frozen=True, eq=False)
class RunFiles:
    """A run as its files tell it.

    Attributes:
        folder: Where it lies.
        settings: Of `config.yaml`.
        result: Of `result.json`; empty for a run that has not ended.
        clips: Of `clips.json`: training and validation clips.
        checks: Held-out figures by optimizer step, of `metrics.csv`.
        scored: Folder of what was scored; None where nothing was.
        evaluations: Of the base, the adapted model, reconstructed and real recordings.
        gaps: One sentence for all that is missing.
    """

    folder: Path
    settings: Mapping[str, Any]
    result: Mapping[str, Any]
    clips: Mapping[str, Any]
    checks: Mapping[int, Mapping[str, float]]
    scored: Path | None
    evaluations: Mapping[str, Evaluation]
    gaps: Sequence[InputError]

    @classmethod
    def read(cls, folder: Path) -> "RunFiles":
        """Read a run's folder, `runs/NAME/version_N`.

        Raises:
            InputError: If it is none: it has no `config.yaml`.
        """
        if not (folder / "config.yaml").is_file():
            raise InputError(folder, "has no config.yaml, so no run of `fit` began there", "give its runs/NAME/version_N")
        gaps: list[InputError] = []
        found = partial(_found, gaps)
        scored = scored_folder(folder)
        unscored = InputError(folder, "was not scored", f"score it: {command('evaluate', '--run', folder)}")
        nothing: dict[str, Evaluation] = {}
        evaluations = found(partial(read_evaluations, scored), nothing) if scored else nothing
        return cls(
            folder=folder,
            settings=found(partial(_yaml, folder / "config.yaml"), {}),
            result=found(
                partial(_json, folder / "result.json", "the run has not ended; continue it with fit --ckpt_path last"), {}
            ),
            clips=found(partial(_json, folder / "clips.json", "the run kept no list of its clips"), {}),
            checks=found(partial(_checks, folder / "metrics.csv"), {}),
            scored=scored,
            evaluations=evaluations,
            gaps=gaps if scored else [*gaps, unscored],
        )

    @property
    def name(self) -> str:
        """`NAME/version_N`, or of a grid's trial its name."""
        folder = self.folder.resolve()
        return "/".join(folder.parts[-2:])

    def setting(self, key: str, default: Any = None) -> Any:
        """A setting by its dotted key."""
        value: Any = self.settings
        for part in key.split("."):
            if not isinstance(value, Mapping) or value.get(part) is None:
                return default
            value = value[part]
        return value


def _found(gaps: list[InputError], read: Callable[[], Read], otherwise: Read) -> Read:
    """What can be read; otherwise a gap is noted."""
    try:
        return read()
    except InputError as error:
        gaps.append(error)
        return otherwise


def _json(path: Path, missing: str) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(path, "is not there", missing)
    return read_record(path, "let the run write it again")


def _yaml(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read as YAML ({error})", "restore it") from error
    if not isinstance(content, dict):
        raise InputError(path, "holds no settings", "restore it")
    return content


def _checks(path: Path) -> dict[int, dict[str, float]]:
    """Figures of every check; the file counts steps from 0, people count how many were done."""
    if not path.is_file():
        raise InputError(path, "is not there, so there are no curves", "train with a CSVLogger to have them")
    checks: dict[int, dict[str, float]] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            figures = {name: value for name, value in row.items() if name and name.startswith("val/") and value}
            try:
                checks.setdefault(int(row["step"]) + 1, {}).update({name: float(value) for name, value in figures.items()})
            except (ValueError, LookupError, TypeError) as error:
                raise InputError(path, f"has a row that is no row of figures ({error!r})", "restore it") from error
    return {step: figures for step, figures in sorted(checks.items()) if figures}
