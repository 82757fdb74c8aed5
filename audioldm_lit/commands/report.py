"""The verb `report`."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from audioldm_lit.ablation.grid_page import is_grid, write_grid_report
from audioldm_lit.console.markup import linked
from audioldm_lit.errors import InputError
from audioldm_lit.report.page import write_report


def report(
    runs: Sequence[Path] = (),
    out: Path = Path("report.html"),
    language: str = "en",
    listeners: Path | None = None,
    metric: str = "loss",
) -> None:
    """Write a page that says whether it helped, lets you listen, and says what to do next.

    `report runs/NAME/version_N` is of one run; `report RUN RUN` puts runs side by side, each against the first; `report GRID` is of
    a grid's results folder. The page is one HTML file that loads nothing and can be sent to anybody; it holds generated sounds and
    recordings.

    Args:
        runs: Folders of runs, or one results folder of a grid; they may be given without `--runs`.
        out: The page.
        language: Of its texts: `en` or `ja`.
        listeners: What `listen merge` made of people's answers, to be shown beside the scores: its `opinion.json`.
        metric: Metric of a grid's tables and curves.
    """
    if not runs:
        raise InputError("report", "is given no run", "write report runs/NAME/version_N, several of them, or a grid's folder")
    for folder in runs:
        if not folder.is_dir():
            raise InputError(folder, "no such folder", "give the folder of a run, runs/NAME/version_N, or of a grid")
    if any(map(is_grid, runs)):
        if len(runs) > 1:
            raise InputError(str(next(filter(is_grid, runs))), "is a grid and stands beside other runs", "give a grid alone")
        if listeners is not None:
            raise InputError("--listeners", "is of the models of a run, and a grid has many", "report the run that people heard")
        write_grid_report(out, runs[0], metric, language)
    else:
        write_report(out, runs, language, listeners)
    Console(emoji=False).print(f"Report: {linked(out)}", soft_wrap=True, highlight=False)
