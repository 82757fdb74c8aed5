"""Finds a grid's runs among those that its results folder holds under other names.

A trial's id is made of the grid's words, so that it stays where the checkout moves; what a run is, its resolved settings say. A new
axis, a reordered one or a default written out changes the words alone: such a run is linked to its new name and not repeated.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from audioldm_lit.ablation.grid import PROGRAM, Grid, Trial
from audioldm_lit.ablation.resolved import resolve
from audioldm_lit.ablation.trial_folder import TrialFolder
from audioldm_lit.errors import InputError
from audioldm_lit.first_look import first_look
from audioldm_lit.short_way import DURATION, length_of_model
from audioldm_lit.storage.plain_files import read_record


def link_kin(grid: Grid, out: Path) -> tuple[int, int]:
    """Link the trials that have no folder yet to runs of equal resolved settings.

    Returns:
        How many were linked, and how many runs of the folder belong to no trial of this grid.
    """
    runs = out / "runs"
    missing = {name: trial for name, trial in grid.trials.items() if not (runs / name).exists()}
    others = {path.name: path for path in sorted(runs.glob("*")) if path.name not in grid.trials and not path.is_symlink()}
    linked = {(runs / name).resolve().name for name in grid.trials if (runs / name).is_symlink()}
    strangers = {name: trial for name, path in others.items() if name not in linked and (trial := _remembered(path, grid))}
    if not missing or not strangers:
        return 0, len(strangers)
    settings = resolve({name: _as_run(trial) for name, trial in {**missing, **strangers}.items()})
    known = {(trial.fit, settings[name]): name for name, trial in strangers.items() if isinstance(settings[name], str)}
    kin = {name: known[key] for name, trial in missing.items() if (key := (trial.fit, settings[name])) in known}
    for name, other in kin.items():
        with suppress(FileExistsError):  # another runner was faster
            (runs / name).symlink_to(other)
    return len(kin), len(strangers.keys() - set(kin.values()))


def _as_run(trial: Trial) -> Trial:
    """A trial with the length of clips that the command line would choose: the parser knows another default."""
    if trial.program != PROGRAM:
        return trial
    try:
        given = first_look("fit" if trial.fit else "test", [*trial.arguments(Path("runs")), "--print_config"])  # reads no data
        seconds = length_of_model({key: value for key, value in given.items() if key != "print_config"})
    except InputError:  # the parser says so too, or the run itself
        return trial
    return replace(trial, settings={**trial.settings, DURATION: float(f"{seconds:g}")}) if seconds else trial


def _remembered(folder: Path, grid: Grid) -> Trial | None:
    """The trial that a folder's first attempt was of; None where it never began."""
    files = [attempt / "run.json" for attempt in TrialFolder(folder).attempts]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return None
    about = read_record(file, f"remove {folder}")
    # Base configs and program are those of all the folder's runs, see `unchanged`; where they lie, the present grid says.
    return replace(grid.plain, levels=about["levels"], settings=about["settings"], fit=about["fit"])
