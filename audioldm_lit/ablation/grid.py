"""A grid: its trials, each one combination of levels, and the files they are made from."""

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audioldm_lit.ablation.search_space import Search

FIT = "fit"  # not a setting: whether a level is trained at all
REPETITION = "seed"  # the axis whose levels repeat a run instead of changing it
PROGRAM = ("-m", "audioldm_lit")  # what Python runs a verb with


@dataclass(frozen=True)
class Trial:
    """One run of a grid.

    Attributes:
        levels: The level of every axis, by the axis' name.
        settings: What differs from the base configs, by dotted key, in the order in which the command line gets it.
        folder: Folder of the grid; base configs and settings that end in .yaml are files relative to it.
        base: Base configs; later ones win.
        fit: Whether it trains; otherwise the model is tested as it is.
        program: The arguments with which Python runs a verb.
        grid: Name of the grid.
    """

    levels: Mapping[str, str]
    settings: Mapping[str, Any]
    folder: Path = Path()
    base: Sequence[str] = ()
    fit: bool = True
    program: Sequence[str] = PROGRAM
    grid: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        """Its levels and the hash of its settings, the same wherever the grid lies; also the name of its folder."""
        delta = json.dumps({**self.settings, FIT: self.fit}, sort_keys=True, default=str)
        words = [re.sub(r"[^\w.+-]+", "_", level) for level in self.levels.values()]
        return "-".join([*words, hashlib.sha256(delta.encode()).hexdigest()[:8]])

    def command(self, verb: str, folder: Path) -> list[str]:
        """Command line of one of Lightning's verbs, whose files go into a folder."""
        return [sys.executable, *self.program, verb, *self.arguments(folder)]

    def arguments(self, folder: Path) -> list[str]:
        """What follows the verb."""
        words = [f"--config={self.file(name)}" for name in self.base]
        for key, value in self.settings.items():
            text = str(self.file(value)) if is_file(value) else value if isinstance(value, str) else json.dumps(value)
            words.append(f"--{key}={text}")
        return [*words, f"--trainer.logger.init_args.save_dir={folder}", f"--trainer.logger.init_args.name={self.id}"]

    def file(self, name: str) -> Path:
        """Where a file of the grid is."""
        return (self.folder / name).resolve()


@dataclass(frozen=True)
class Grid:
    """What one file asks for.

    Attributes:
        name: Name of the results folder.
        folder: Folder of the file.
        trials: Trials by id; a search with a sampler adds to them.
        files: Every file, relative to `folder`, whose change would change the results.
        axes: Names of the axes and ranges.
        plain: What all trials share.
        search: How points are drawn; None where there are axes alone.
    """

    name: str
    folder: Path
    trials: dict[str, Trial]
    files: Sequence[str]
    axes: Sequence[str]
    plain: Trial
    search: "Search | None" = None

    @property
    def untrained(self) -> list[Mapping[str, str]]:
        """Levels of the trials that do not train."""
        return [trial.levels for trial in self.trials.values() if not trial.fit]

    def representatives(self) -> list[Trial]:
        """As few trials as contain every setting, one number for all numbers of a key: enough to have all settings parsed."""
        shown = {name: _settings_shown(trial) for name, trial in self.trials.items()}
        chosen, unseen = [], set().union(*shown.values())
        while unseen:
            best = max(shown, key=lambda name: len(unseen & shown[name]))
            chosen.append(self.trials[best])
            unseen -= shown[best]
        return chosen


def is_file(value: Any) -> bool:
    """Whether a setting names a file."""
    return isinstance(value, str) and value.endswith(".yaml")


def _settings_shown(trial: Trial) -> set[tuple[str, str]]:
    kinds = {key: type(value).__name__ if isinstance(value, int | float) else repr(value) for key, value in trial.settings.items()}
    return {*kinds.items(), (FIT, str(trial.fit))}
