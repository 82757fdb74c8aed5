"""Evaluations on disk, whole enough to be compared again at any later time: every clip's influence stands beside the values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from audioldm_lit.console.command import command
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import Evaluation
from audioldm_lit.evaluation.score import Floor, Score
from audioldm_lit.metrics.base import Rows
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.storage.plain_files import read_json

NAME = "evaluations.json"  # beside the clips that were scored
FOLDERS = ("evaluation", "scores")  # of a run: what `evaluate --run` scored last, else what `fit` scored at its end
SCALARS = ("value", "debiased", "log", "caution", "covers", "limits", "bounds", "details")  # of an estimate
READING = ("higher_is_better", "extractor", "interval", "caution")  # of a score


def write_evaluations(folder: Path, evaluations: Mapping[str, Evaluation]) -> None:
    """Write what systems were found to be worth, by name; scores of single classes are left out."""
    content = {
        name: {
            "scores": {metric: _plain(score) for metric, score in evaluation.scores.items()},
            "passport": dict(evaluation.passport),
            "not_computed": {metric: vars(error) for metric, error in evaluation.not_computed.items()},
        }
        for name, evaluation in evaluations.items()
    }
    write_json(folder / NAME, content)


def read_evaluations(folder: Path) -> dict[str, Evaluation]:
    """What `write_evaluations` wrote; equal in every value, comparison and passport, but without features.

    Raises:
        InputError: If there is no such file, or it is not whole.
    """
    path, again = folder / NAME, f"score the run again: {command('evaluate', '--run', folder.parent)}"
    try:
        content = read_json(path)
        return {name: _evaluation(one) for name, one in content.items()}
    except FileNotFoundError:
        raise InputError(path, "is not there", again) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(path, f"is not whole ({error!r})", again) from error


def scored_folder(run: Path) -> Path | None:
    """Where a run keeps what it was scored on, whole if possible; None where it was not scored."""
    there = [run / name for name in FOLDERS if (run / name).is_dir()]
    return next((folder for folder in there if (folder / NAME).is_file()), next(iter(there), None))


def _plain(score: Score) -> dict[str, Any]:
    """A score without features; JSON knows no infinity, but Python's own does."""
    sides = zip(score.side_names, score.sides, strict=True)
    return {
        "estimate": {name: getattr(score.estimate, name) for name in SCALARS},
        "influence": [side.tolist() for side in score.estimate.influence],
        "sides": [{"name": name, "ids": side.ids.tolist(), "rows": len(side.values)} for name, side in sides],
        "floor": vars(score.floor),
        **{name: getattr(score, name) for name in READING},
    }


def _evaluation(content: Mapping[str, Any]) -> Evaluation:
    scores = {metric: _score(one) for metric, one in content["scores"].items()}
    reasons = {name: InputError(why["where"], why["problem"], why["mend"]) for name, why in content["not_computed"].items()}
    return Evaluation(scores, content["passport"], reasons)


def _score(content: Mapping[str, Any]) -> Score:
    scalars = {name: _tuple(value) for name, value in content["estimate"].items()}
    influence = [torch.tensor(side, dtype=torch.float64) for side in content["influence"]]
    sides = [_rows(side["ids"], side["rows"]) for side in content["sides"]]
    names = tuple(side["name"] for side in content["sides"])
    reading = {name: _tuple(content[name]) for name in READING}
    return Score(Estimate(influence=influence, **scalars), sides, names, floor=Floor(**content["floor"]), **reading)


def _rows(ids: Sequence[int], count: int) -> Rows:
    """Rows of these clips, without features."""
    return Rows(torch.empty(count, 0), torch.zeros(count, dtype=torch.int64), torch.tensor(ids, dtype=torch.int64))


def _tuple(value: Any) -> Any:
    """A pair, which JSON makes a list of; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value
