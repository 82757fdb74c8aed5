"""Grids of the stand-in program, and a runner in a process of its own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from audioldm_lit.ablation.cluster import Local
from audioldm_lit.ablation.grid import Grid
from audioldm_lit.ablation.grid_file import load_grid
from audioldm_lit.ablation.runner import Runner
from audioldm_lit.ablation.trial_folder import TrialFolder

HERE = Path(__file__).parent


def write_grid(folder: Path, axes: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any) -> Path:
    """A grid whose runs take milliseconds; the ledger is beside it."""
    (folder / "base.yaml").touch()
    (folder / "program.py").write_text((HERE / "stand_in.py").read_text())
    shared = {"ledger": str(folder / "ledger"), **(settings or {})}
    content = {"base": "base.yaml", "program": "program.py", "set": shared, "axes": axes, **more}
    (folder / "grid.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "grid.yaml"


def runner(grid: Grid, out: Path, slots: int = 2) -> Runner:
    """A runner on this machine's cores."""
    cluster = Local(slots=slots, devices=0)
    cluster.open(out)
    return Runner(grid, out, cluster)


def run(path: Path, out: Path, slots: int = 2) -> Runner:
    """Run a grid to its end."""
    one = runner(load_grid(path), out, slots)
    for _ in one.run():
        pass
    return one


def start(path: Path, out: Path) -> subprocess.Popen:
    """Run a grid in a process of its own."""
    code = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import grids; grids.run(*map(pathlib.Path, sys.argv[2:]))"
    return subprocess.Popen([sys.executable, "-c", code, str(HERE), str(path), str(out)], start_new_session=True)


def ledger(folder: Path, event: str) -> list[str]:
    """`verb trial` of every event of a kind, in order."""
    lines = [line.split() for line in (folder / "ledger").read_text().splitlines()] if (folder / "ledger").is_file() else []
    return [f"{verb} {trial}" for kind, verb, trial, _ in lines if kind == event]


def starts(folder: Path) -> list[tuple[str, str, float]]:
    """Verb, trial and time of every start."""
    lines = [line.split() for line in (folder / "ledger").read_text().splitlines()]
    return [(verb, trial, float(when)) for kind, verb, trial, when in lines if kind == "start"]


def results(grid: Grid, out: Path) -> dict[str, str]:
    """Text of every result there is, by trial."""
    files = {name: TrialFolder(out / "runs" / name).result_file for name in grid.trials}
    return {name: file.read_text() for name, file in files.items() if file.is_file()}


def seeds(count: int) -> dict[str, Sequence[int]]:
    """An axis of as many repetitions."""
    return {"seed": {"seed_everything": list(range(count))}}
