"""The verb `ablate`."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
from jsonargparse import lazy_instance
from rich.console import Console
from rich.live import Live

from audioldm_lit.ablation.board import board
from audioldm_lit.ablation.check import check_settings
from audioldm_lit.ablation.cluster import Cluster, Local
from audioldm_lit.ablation.grid import Grid
from audioldm_lit.ablation.grid_file import load_grid
from audioldm_lit.ablation.kinship import link_kin
from audioldm_lit.ablation.provenance import check_committed
from audioldm_lit.ablation.published import sheet as published_sheet
from audioldm_lit.ablation.results import collect as collected
from audioldm_lit.ablation.results import write_csv
from audioldm_lit.ablation.runner import Runner
from audioldm_lit.ablation.sheets import latex, markdown, sheets, terminal
from audioldm_lit.ablation.timing import show_plan, time_base
from audioldm_lit.ablation.trial_folder import STUDY, State, TrialFolder
from audioldm_lit.ablation.unchanged import check_unchanged
from audioldm_lit.console.markup import escape
from audioldm_lit.console.stages import Stage, say
from audioldm_lit.errors import InputError

if TYPE_CHECKING:
    from audioldm_lit.ablation.study import Study

SETTLED = (State.DONE, State.FAILED, State.PRUNED)


def ablate(
    config: Path,
    out: Path | None = None,
    set: Sequence[str] = (),
    cluster: Cluster = lazy_instance(Local),  # noqa: B008
    dry_run: bool = False,
    submit_only: bool = False,
    collect: bool = False,
    retry: bool = False,
    allow_dirty: bool = False,
    table: Literal["terminal", "markdown", "latex"] | None = None,
    metric: str = "loss",
    published: str | None = None,
) -> None:
    """Run a grid or a search of trainings, here or on Slurm, and put the results in one table with intervals.

    Kill it at any time: the same command goes on. A run that is done is never repeated, one that fails is tried again once, and
    several of these commands may work on one folder at once.

    Args:
        config: Grid, see the files in configs/ablation/.
        out: Results folder; `runs/ablation/` and the grid's name by default.
        set: A `key=value` setting of every run on top of the grid's, such as `data.init_args.root=DIR`; may be given several times.
        cluster: `Local` (the default) or `Slurm`, with settings such as `--cluster.slots 2`; any subclass of
            `audioldm_lit.ablation.cluster.Cluster` by its class path.
        dry_run: Print the runs and, after timing the first of them for a few steps, the hours they will take.
        submit_only: Put all runs that are left into the queue of a cluster that has one, and end.
        collect: Show and write what has been done since, and what still waits or runs, and start nothing.
        retry: Try failed runs again, once the cause is fixed; they go on from their last checkpoint.
        allow_dirty: Run although tracked files have uncommitted changes.
        table: Print the table of what is done so far in this form, and run nothing.
        metric: Metric in the terminal's table, in the comparisons and in the importance of axes.
        published: Data set, such as `AudioCaps`, whose published values of other systems are shown in a table of their own.
    """
    grid = load_grid(config, set)
    folder, console = (out or Path("runs/ablation") / grid.name).resolve(), Console(emoji=False)
    if published is not None:
        published_sheet(published)  # refused now if it is wrong
    if table is not None or collect:
        _print_done(grid, folder, table or "terminal", metric, published, console)
        return
    if submit_only and not cluster.queues:
        problem = f"needs a cluster with a queue, and {type(cluster).__name__} has none"
        raise InputError("--submit_only", problem, "give --cluster Slurm, or leave it out")
    if submit_only and grid.search and grid.search.sampler:
        raise InputError("--submit_only", "cannot be: the sampler draws each point in the light of those before", "leave it out")
    if not (allow_dirty or dry_run):
        check_committed()
    check_settings(grid)
    if dry_run:
        show_plan(grid, folder, time_base(grid, cluster.environment(0)), cluster.slots, console)
        return
    cluster.open(folder)
    check_unchanged(grid, folder)
    study = _study(grid, folder)
    grid = replace(grid, trials=study.trials) if study else grid
    _link_kin(grid, folder)
    for name in grid.trials if retry else ():
        TrialFolder(folder / "runs" / name).forgive()
    runner = Runner(grid, folder, cluster, study)
    if submit_only:
        say(f"{runner.submit()} jobs are in the queue; ablate --collect with the same options shows what is done")
        return
    _run(runner, folder, metric, published, console)


def _study(grid: Grid, folder: Path) -> "Study | None":
    """The study of a search with a sampler."""
    if grid.search is None or grid.search.sampler is None:
        return None
    try:
        from audioldm_lit.ablation.study import Study  # Optuna is an extra
    except ModuleNotFoundError as error:
        raise InputError("search.sampler", f"needs {error.name}, which is not installed", "pip install optuna") from error
    return Study(grid, folder)


def _link_kin(grid: Grid, folder: Path) -> None:
    """Find runs of other words, and say what was found."""
    linked, strangers = link_kin(grid, folder)
    if linked:
        say(f"{linked} runs of {folder} have the settings of trials of other names, and are theirs now")
    if strangers:
        say(f"{strangers} runs of {folder} belong to no trial of this grid; they stay there, and no table shows them")


def _print_done(grid: Grid, folder: Path, form: str, metric: str, published: str | None, console: Console) -> None:
    """Print the tables of what is done so far."""
    if grid.search and grid.search.sampler:
        study = _study(grid, folder) if (folder / STUDY).is_file() else None
        grid = replace(grid, trials=study.trials if study else {})
    results = collected(grid, folder)
    if not _computed(results):
        raise InputError(folder, f"no run of {grid.name} is done with these settings", "give the --set that it ran with")
    _check_metric(metric, results)
    write_csv(results, folder / "results.csv")
    _show(results, form, metric, published, grid, console)


def _run(runner: Runner, folder: Path, metric: str, published: str | None, console: Console) -> None:
    """Run what is left and print the tables; whatever ends it, the table of results is written."""
    try:
        _work(runner, folder, Console(emoji=False, stderr=True))
    except KeyboardInterrupt:
        left = runner.cluster.interrupt(flight.job for flight in runner.flights.values())
        sys.stderr.write(f"stopped, {left}; the same command goes on.\n")
        raise SystemExit(130) from None
    finally:
        results = collected(runner.grid, folder)
        write_csv(results, folder / "results.csv")
    if _computed(results):
        _show(results, "terminal", metric if metric in _computed(results) else "loss", published, runner.grid, console)
    if runner.given_up:
        count = f"{len(runner.given_up)} of {len(runner.grid.trials)}"
        raise InputError(folder, f"{count} runs failed, see above", "mend it and give --retry")
    if _computed(results):
        _check_metric(metric, results)


def _check_metric(metric: str, results: pd.DataFrame) -> None:
    """Refuse a metric that no run has."""
    if metric not in _computed(results):
        raise InputError("--metric", f"is '{metric}', but the runs have {', '.join(_computed(results))}", "give one of these")


def _computed(results: pd.DataFrame) -> list[str]:
    return list(results.dropna(subset=["value"])["metric"].unique())


def _work(runner: Runner, folder: Path, console: Console) -> None:
    """Run with a live board on a terminal, a line a run elsewhere; the table of results grows with every run."""
    settled = {name for name, state in runner.states.items() if state in SETTLED}
    lines = nullcontext() if console.is_terminal else Stage("runs", len(runner.states), len(settled))
    with Live(console=console, refresh_per_second=2, transient=True) as live, lines as stage:
        for _ in runner.run():
            live.update(board(runner))
            for name, state in runner.states.items():
                if state in SETTLED and name not in settled:
                    settled.add(name)
                    write_csv(collected(runner.grid, folder), folder / "results.csv")
                    if stage is not None:
                        stage.advance()
                        say(f"{name}: {state}")
    for name, reason in runner.given_up.items():
        console.print(f"[red]{escape(name)}[/]: {escape(reason)}", soft_wrap=True, highlight=False)


def _show(results: pd.DataFrame, form: str, metric: str, published: str | None, grid: Grid, console: Console) -> None:
    """Print the tables of what is done."""
    searched = grid.search.ranges if grid.search else ()
    pages = sheets(results, metric, narrow=form == "terminal", untrained=grid.untrained, searched=searched)
    for page in [*pages, published_sheet(published)] if published else pages:
        if form == "terminal":
            terminal(page, console)
        else:
            text = {"markdown": markdown, "latex": latex}[form](page)
            console.print(f"{text}\n", soft_wrap=True, markup=False, highlight=False)
    others = [name for name in _computed(results) if name != metric]
    if form == "terminal" and others:
        console.print(f"--table terminal --metric NAME shows another: {escape(', '.join(others))}", soft_wrap=True, highlight=False)
