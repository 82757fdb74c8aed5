"""What a grid consists of: trials, each a point of it, and the files they are made from."""

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIT = "fit"  # not a setting: whether a level is trained at all
REPETITION = "seed"  # the axis whose levels repeat a run instead of changing it
PROGRAM = ("-m", "audioldm_lit")  # what Python runs a verb with


@dataclass(frozen=True)
class Trial:
    """One run of a grid.

    Attributes:
        levels: The level of every axis, by the axis' name.
        settings: What differs from the base configs, by dotted key, in the order in which the command line gets it.
        base: Base configs, the later on top.
        fit: Whether it trains; one that does not is tested as it is.
        program: What Python runs a verb with.
    """

    levels: Mapping[str, str]
    settings: Mapping[str, Any]
    base: Sequence[Path] = ()
    fit: bool = True
    program: Sequence[str] = PROGRAM

    @property
    def id(self) -> str:
        """Its levels and the hash of its settings; the name of its folder."""
        delta = json.dumps({**self.settings, FIT: self.fit}, sort_keys=True, default=str)
        words = [re.sub(r"[^\w.+-]+", "_", level) for level in self.levels.values()]
        return "-".join([*words, hashlib.sha256(delta.encode()).hexdigest()[:8]])

    def command(self, verb: str, folder: Path) -> list[str]:
        """Command line of one of Lightning's verbs, whose files go into a folder."""
        return [sys.executable, *self.program, verb, *self.arguments(folder)]

    def arguments(self, folder: Path) -> list[str]:
        """What follows the verb."""
        words = [f"--config={path}" for path in self.base]
        for key, value in self.settings.items():
            words.append(f"--{key}={value if isinstance(value, str) else json.dumps(value)}")
        return [*words, f"--trainer.logger.init_args.save_dir={folder}", f"--trainer.logger.init_args.name={self.id}"]


@dataclass(frozen=True)
class Grid:
    """Trials by id, and every file they are made from, whose change would change the results."""

    name: str
    trials: Mapping[str, Trial]
    files: Sequence[Path]

    @property
    def axes(self) -> list[str]:
        """Their names."""
        return list(next(iter(self.trials.values())).levels)

    def representatives(self) -> list[Trial]:
        """As few trials as show every setting, numbers of one kind standing for each other: enough to have all of them parsed."""
        shown = {name: _settings_shown(trial) for name, trial in self.trials.items()}
        chosen, unseen = [], set().union(*shown.values())
        while unseen:
            best = max(shown, key=lambda name: len(unseen & shown[name]))
            chosen.append(self.trials[best])
            unseen -= shown[best]
        return chosen


def _settings_shown(trial: Trial) -> set[tuple[str, str]]:
    kinds = {key: type(value).__name__ if isinstance(value, int | float) else repr(value) for key, value in trial.settings.items()}
    return {*kinds.items(), (FIT, str(trial.fit))}
