"""Tries a grid's settings on Lightning's own parser, before the first run instead of in the last one."""

from pathlib import Path

from audioldm_lit.ablation.grid import PROGRAM, Grid
from audioldm_lit.console.stages import track
from audioldm_lit.errors import InputError
from audioldm_lit.lightning_cli import AudioLDMCLI, run


class _UnderstoodError(Exception):
    """The command line is right."""


class _Reader(AudioLDMCLI):
    """Reads a command line and stops before making any object of it."""

    def set_seed(self) -> None:
        """Leave the random state alone."""

    def before_instantiate_classes(self) -> None:
        """Stop."""
        raise _UnderstoodError


def check_settings(grid: Grid) -> None:
    """Try every setting of a grid, one number for all numbers of a key; settings of another program are left to that program.

    Raises:
        InputError: Names a trial whose command line is refused, and why.
    """
    own = [trial for trial in grid.representatives() if trial.program == PROGRAM]
    for trial in track(own, "checking settings", len(own)):
        try:
            run(["fit" if trial.fit else "test", *trial.arguments(Path("runs"))], cli_class=_Reader)
        except _UnderstoodError:
            continue
        except InputError as error:
            raise InputError(trial.id, f"is refused ({' '.join(str(error).split())})", "correct the grid") from error
