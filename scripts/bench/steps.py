"""Steps and seconds to plain LoRA's best held-out loss: `python scripts/bench/steps.py --grid runs/ablation/steps_esc10`.

Reads a grid with an axis `recipe`, whose runs check the held-out loss often. In every seed the goal is the least loss of the recipe
`--plain`; another reaches it where the line between two of its checks crosses it. Printed are the ratio of its steps to those that
plain took, a geometric mean over seeds with its 95 % interval (Student's t of the logarithms), the seconds of these steps and their
checks on the machine that ran the grid, and the difference of the least losses. A recipe that misses the goal in some seed has no
ratio: the seeds that reached it would flatter it.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from audioldm_lit.ablation.statistics import interval
from audioldm_lit.ablation.trial_folder import TrialFolder
from audioldm_lit.console.markup import escape
from audioldm_lit.errors import InputError

LOSS = "val/loss"


def curves(grid: Path) -> pd.DataFrame:
    """A row for every check of every run that is done: `recipe`, `seed`, `step`, counted from 1, `loss` and `seconds` so far.

    Raises:
        InputError: If the folder has no finished run with an axis `recipe`.
    """
    parts = []
    for trial in map(TrialFolder, sorted((grid / "runs").glob("*"))):
        run = trial.result if trial.result_file.is_file() else {"levels": {}, "result": {}}
        if "recipe" not in run["levels"] or not run["result"].get("steps"):
            continue
        checks = pd.concat(pd.read_csv(file) for attempt in trial.attempts for file in attempt.rglob("metrics.csv") if has(file))
        checks = checks.dropna(subset=[LOSS]).drop_duplicates("step", keep="last").sort_values("step")
        steps = checks["step"] + 1
        seconds = run["cost"]["fit_seconds"] * steps / run["result"]["steps"]
        levels = {name: run["levels"][name] for name in ("recipe", "seed")}
        parts.append(pd.DataFrame({**levels, "step": steps, "loss": checks[LOSS], "seconds": seconds}))
    if not parts:
        raise InputError(grid, "holds no finished run with an axis `recipe`", "give the folder that `ablate` wrote steps_esc10 to")
    return pd.concat(parts, ignore_index=True)


def has(file: Path) -> bool:
    """Whether a log of figures knows the held-out loss: that of a test does not."""
    return LOSS in pd.read_csv(file, nrows=0).columns


def reached(curve: pd.DataFrame, goal: float) -> float:
    """Step at which the loss first is at most `goal`, on the line between two checks; infinite if at none."""
    below = np.flatnonzero(curve["loss"].to_numpy() <= goal)
    if not len(below):
        return float("inf")
    last = below[0]
    steps, losses = curve["step"].to_numpy(), curve["loss"].to_numpy()
    if last == 0:
        return float(steps[0])
    return float(np.interp(goal, losses[[last, last - 1]], steps[[last, last - 1]]))


def against(recipe: pd.DataFrame, plain: pd.DataFrame) -> pd.DataFrame:
    """A row a seed: `step` of the goal, its `ratio` to plain's, `seconds` and the `change` of the least loss."""
    rows = []
    for seed, theirs in plain.groupby("seed"):
        ours = recipe[recipe["seed"] == seed]
        if ours.empty:
            continue
        best = theirs.loc[theirs["loss"].idxmin()]
        step = reached(ours, best["loss"])
        seconds = step * (ours["seconds"] / ours["step"]).mean()
        change = ours["loss"].min() - best["loss"]
        rows.append({"step": step, "ratio": step / best["step"], "seconds": seconds, "change": change})
    return pd.DataFrame(rows)


def row(name: str, seeds: pd.DataFrame) -> list[str]:
    """Cells of a recipe."""
    there = int(np.isfinite(seeds["step"]).sum())
    cells = [escape(name), f"{there} of {len(seeds)}", "", "", ""]
    if there == len(seeds):
        logarithms = np.log(seeds["ratio"])
        cells[2:5] = [f"{seeds['step'].mean():.0f}", "", f"{seeds['seconds'].mean():.0f}"]
        cells[3] = spread(np.exp(logarithms.mean()), *np.exp(interval(logarithms)), ".2f")
    return [*cells, spread(seeds["change"].mean(), *interval(seeds["change"]), ".5f")]


def spread(mean: float, low: float, high: float, form: str) -> str:
    """A mean with its interval."""
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def main() -> None:
    """Read, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", type=Path, required=True, help="folder that `ablate` wrote to")
    parser.add_argument("--plain", default="lora", help="recipe whose best loss is the goal")
    options = parser.parse_args()
    try:
        found = curves(options.grid)
    except InputError as error:
        parser.error(str(error))
    plain = found[found["recipe"] == options.plain]
    if plain.empty:
        parser.error(f"--plain: no run of {options.plain} is done; choose from {', '.join(sorted(set(found['recipe'])))}")
    table = Table("recipe", "seeds there", "steps", "ratio to plain", "seconds", "change of the least loss")
    for name in found["recipe"].unique():
        table.add_row(*row(name, against(found[found["recipe"] == name], plain)))
    Console().print(table)


if __name__ == "__main__":
    main()
