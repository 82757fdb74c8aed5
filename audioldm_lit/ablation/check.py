"""Tries a grid's settings on Lightning's own parser, before the first run instead of in the last one."""

from audioldm_lit.ablation.grid import PROGRAM, Grid
from audioldm_lit.ablation.resolved import resolve
from audioldm_lit.errors import InputError


def check_settings(grid: Grid) -> None:
    """Try every setting of a grid, one number for all numbers of a key; settings of another program are left to that program.

    Raises:
        InputError: Names a trial whose command line is refused, and why.
    """
    ours = {trial.id: trial for trial in grid.representatives() if trial.program == PROGRAM}
    for name, answer in resolve(ours).items():
        if isinstance(answer, InputError):
            raise InputError(name, f"is refused ({' '.join(str(answer).split())})", "correct the grid") from answer
