"""Tries a grid's settings on Lightning's own parser, before the first run instead of in the last one."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from audioldm_lit.ablation.grid import PROGRAM, Grid, Trial
from audioldm_lit.console.stages import track
from audioldm_lit.errors import InputError
from audioldm_lit.lightning_cli import AudioLDMCLI, run


class _UnderstoodError(Exception):
    """All command lines are right."""


class _Reader(AudioLDMCLI):
    """Reads the command lines of trials with one parser, and makes no object of them."""

    def __init__(self, verb: str, trials: Sequence[Trial], **kwargs: Any) -> None:
        self.trials = trials
        super().__init__(verb, **kwargs)

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Read all, and stop."""
        for trial in track(self.trials, "checking settings", len(self.trials)):
            try:
                super().parse_arguments(parser, [self.verb, *trial.arguments(Path("runs"))])
            except InputError as error:
                raise InputError(trial.id, f"is refused ({' '.join(str(error).split())})", "correct the grid") from error
        raise _UnderstoodError


def check_settings(grid: Grid) -> None:
    """Try every setting of a grid, one number for all numbers of a key; settings of another program are left to that program.

    Raises:
        InputError: Names a trial whose command line is refused, and why.
    """
    for verb, fit in (("fit", True), ("test", False)):
        trials = [trial for trial in grid.representatives() if trial.program == PROGRAM and trial.fit == fit]
        try:
            if trials:
                run([verb], cli_class=partial(_Reader, trials=trials))
        except _UnderstoodError:
            continue
