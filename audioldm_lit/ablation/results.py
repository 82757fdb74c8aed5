"""The results of a grid as one long table: a row for every run and metric, and one for every run that is not done."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from audioldm_lit.ablation.columns import COSTS, FIGURES, NAMES
from audioldm_lit.ablation.grid import Grid
from audioldm_lit.ablation.trial_folder import State, TrialFolder
from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import atomic_write
from audioldm_lit.storage.csv_cell import to_cell

TRAINED = ("training_clips", "steps", "best_step", "trained_weights")  # 0 where nothing was
# What a passport says of one run, not of how it was scored.
OF_A_SEED = ("seed", "sha256", "preds", "train", "reconstructed", "rules", "coverage")


def collect(grid: Grid, out: Path) -> pd.DataFrame:
    """Every metric of every trial that is done, and a row of every other, with the columns `run`, one an axis, and `NAMES`.

    `state` is that of the trial, `error` why its last attempt failed; a trial that is not done has no metric and no value.
    `passport` is the hash of what values must share to stand in one column: protocol, extractors, number of clips, reference. The
    seed is not in it: runs that differ in it are repetitions.
    """
    folders = {name: TrialFolder(out / "runs" / name) for name in grid.trials}
    rows = [{"run": name, **grid.trials[name].levels, **row} for name, folder in folders.items() for row in _rows_of(folder)]
    table = pd.DataFrame(rows, columns=["run", *grid.axes, *NAMES[1:]])
    return table.astype(dict.fromkeys(TRAINED, "Int64"))  # whole numbers also beside rows that have none


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write the table as a CSV file, whole or not at all."""
    with atomic_write(path) as unfinished:
        table.map(lambda value: to_cell(value) if isinstance(value, str) else value).to_csv(unfinished, index=False)


def _rows_of(folder: TrialFolder) -> Iterator[dict[str, Any]]:
    """Rows of one trial."""
    state = folder.state
    if state == State.DONE:
        yield from ({**row, "state": state.value} for row in _rows(folder.result))
    else:
        yield {"state": state.value, "error": folder.why}


def _rows(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Figures of every metric; one that could not be computed has none, and the reason as its caution."""
    fitted, test = result["result"], result["test"]
    known = {**fitted, **result["cost"]}
    costs = {name: known.get(name) for name in COSTS} | {name: fitted.get(name, 0) for name in TRAINED}
    costs["held_out_loss"] = fitted.get("held_out_loss_after")  # of the best check: what may choose among runs
    costs["held_out_loss_of"] = fitted.get("held_out_loss_of", "noise" if fitted else None)  # older runs had no other
    costs["commit"] = ", ".join(f"{tree['commit'][:9]}{'+' * tree['dirty']}" for tree in result["code"].values())
    yield {"metric": "loss", **_figures(test["loss"]), **costs}
    passport = {name: entry for name, entry in test["passport"].items() if name not in OF_A_SEED}
    decoder = {"decoder": passport.pop("decoder", None)}  # of the scores against reconstructions alone
    digest = _digest(passport)
    for name, score in test["metrics"].items():
        under = _digest(passport | decoder) if "reconstructed" in score.get("sides", ()) else digest
        yield {"metric": name, **_figures({**score, "passport": under}), **costs}
    for name, error in test["not_computed"].items():
        # A run of before the first release says the sentence itself.
        reason = error if isinstance(error, str) else str(InputError(error["where"], error["problem"], error["mend"]))
        yield {"metric": name, "caution": reason, "passport": digest, **costs}


def _digest(passport: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(passport, sort_keys=True).encode()).hexdigest()


def _figures(score: dict[str, Any]) -> dict[str, Any]:
    low, high = score["interval"] or (None, None)
    return {name: figure for name, figure in {**score, "low": low, "high": high}.items() if name in FIGURES}
