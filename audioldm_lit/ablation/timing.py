"""How long a grid will take: a few steps of its first run are timed, and the rest is arithmetic."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from audioldm_lit.ablation.board import in_slots
from audioldm_lit.ablation.grid import Grid, Trial
from audioldm_lit.ablation.trial_folder import State, TrialFolder
from audioldm_lit.console.markup import escape
from audioldm_lit.console.stages import Stage, duration
from audioldm_lit.errors import InputError
from audioldm_lit.storage.plain_files import read_json

STEPS, BATCHES = 6, 2  # timed; the first of each is left out
SHOWN = 40  # runs of a long list


@dataclass(frozen=True)
class Pace:
    """Seconds of the parts of a run: to start a verb, a training step, a check of the held-out clips, the whole test."""

    start: float
    step: float
    check: float
    test: float

    def seconds(self, trial: Trial) -> float:
        """How long a trial will take."""
        if not trial.fit:
            return self.start + self.test
        steps, interval = _length(trial)
        checks = steps // interval + 1  # one before training
        return 2 * self.start + steps * self.step + checks * self.check + self.test


def time_base(grid: Grid, environment: Mapping[str, str]) -> Pace:
    """Time the grid's first run that trains, or its first run, with the environment variables that runs will have."""
    trial = next((candidate for candidate in grid.trials.values() if candidate.fit), next(iter(grid.trials.values())))
    with tempfile.TemporaryDirectory() as folder, Stage(f"timing {trial.id}"):
        few = [f"--trainer.max_steps={STEPS}", f"--trainer.val_check_interval={STEPS // 2}"]
        fitted, fit_seconds = _timed("fit", trial, few, Path(folder), environment) if trial.fit else ({}, 0.0)
        tested, seconds = _timed("test", trial, [f"--trainer.limit_test_batches={BATCHES}"], Path(folder), environment)
    step, check, batch = fitted.get("step", 0.0), fitted.get("check", 0.0), tested.get("test_batch", 0.0)
    start = seconds - min(BATCHES, tested["test_batches"]) * batch
    if trial.fit:  # the first fit may have encoded the clips
        start = min(start, fit_seconds - STEPS * step - 3 * check)
    return Pace(max(0.0, start), step, check, tested["test_batches"] * batch)


def show_plan(grid: Grid, out: Path, pace: Pace, slots: int, console: Console) -> None:
    """Print the runs, what is known of each, and the hours that are left."""
    table, left, known = Table(box=None), [], {}
    for column in ("run", "state", "time"):
        table.add_column(column)
    for number, (name, trial) in enumerate(grid.trials.items()):
        state = TrialFolder(out / "runs" / name).state
        key = trial.fit, json.dumps([trial.settings.get(f"trainer.{name}") for name in ("max_steps", "val_check_interval")])
        if key not in known:
            known[key] = pace.seconds(trial)
        seconds = known[key]
        left += [seconds] if state == State.WAITING else []
        if number < SHOWN:
            table.add_row(escape(name), state, duration(seconds))
    console.print(table)
    if len(grid.trials) > SHOWN:
        console.print(f"... and {len(grid.trials) - SHOWN} more")
    console.print(
        f"{len(grid.trials)} runs; a step takes {pace.step:.3g} s, a check {pace.check:.3g} s, the test {duration(pace.test)}, "
        f"a start {pace.start:.3g} s. About {duration(in_slots(left, slots))} to go on machines like this one, {slots} at once"
        f"{', more if they slow each other down' if slots > 1 else ''}.",
        soft_wrap=True,
        highlight=False,
    )


def _length(trial: Trial) -> tuple[int, int]:
    """Steps of a run and of the interval between its checks, as the program that runs it says."""
    shown = yaml.safe_load(_output([*trial.command("fit", Path("runs")), "--print_config"], trial, {}))
    return shown["trainer"]["max_steps"], shown["trainer"]["val_check_interval"]


def _timed(
    verb: str, trial: Trial, more: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> tuple[dict[str, Any], float]:
    """A verb's times and the seconds it took in all."""
    file, began = folder / f"{verb}.json", time.monotonic()
    watch = json.dumps({"class_path": "audioldm_lit.callbacks.stopwatch.Stopwatch", "init_args": {"file": str(file)}})
    _output([*trial.command(verb, folder), *more, f"--trainer.callbacks+={watch}"], trial, environment)
    return read_json(file), time.monotonic() - began


def _output(command: Sequence[str], trial: Trial, environment: Mapping[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        problem = f"cannot be timed ({lines[-1].removeprefix('error: ').rstrip('.')})"
        raise InputError(trial.id, problem, "correct the grid, or what it names")
    return done.stdout
