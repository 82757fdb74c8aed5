"""What the settings of trials come to once the parser has put every default and every file in its place."""

import json
import os
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from audioldm_lit.ablation.grid import PROGRAM, Trial
from audioldm_lit.console.stages import track
from audioldm_lit.errors import InputError
from audioldm_lit.lightning_cli import AudioLDMCLI, run

NAMELESS = "--trainer.logger.init_args.name=run"  # instead of the trial's id, which is no setting of its own


class _AllReadError(Exception):
    """All command lines have been read."""


class _Reader(AudioLDMCLI):
    """Reads the command lines of trials with the one parser of their verb, and makes no object of them."""

    def __init__(self, verb: str, trials: Mapping[str, Trial], found: dict[str, str | InputError], **kwargs: Any) -> None:
        self.trials, self.found = trials, found
        super().__init__(verb, **kwargs)

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Read all, and stop."""
        for name, trial in track(self.trials.items(), "checking settings", len(self.trials)):
            try:
                settings = self.verb_parser.parse_args([*trial.arguments(Path("runs")), NAMELESS])
                self.found[name] = _sorted({self.verb: yaml.safe_load(self.verb_parser.dump(settings, skip_unset=False))})
            except InputError as error:
                self.found[name] = error
        raise _AllReadError


def resolve(trials: Mapping[str, Trial]) -> dict[str, str | InputError]:
    """Resolved settings of trials as text that is equal for equal ones, or why the parser refuses them, by the same names.

    A program of the grid's own is asked by `--print_config`, one process a trial.
    """
    found: dict[str, str | InputError] = {}
    for verb, fit in (("fit", True), ("test", False)):
        ours = {name: trial for name, trial in trials.items() if trial.fit == fit and trial.program == PROGRAM}
        try:
            if ours:
                run([verb], cli_class=partial(_Reader, trials=ours, found=found))
        except _AllReadError:
            pass
        others = {name: trial for name, trial in trials.items() if trial.fit == fit and trial.program != PROGRAM}
        for name, trial in track(others.items(), "reading settings", len(others)) if others else ():
            found[name] = _printed(verb, trial)
    return found


def _printed(verb: str, trial: Trial) -> str | InputError:
    """What another program says its settings are."""
    command = [*trial.command(verb, Path("runs")), NAMELESS, "--print_config"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    if done.returncode:
        return InputError(trial.id, "is refused by its program", "correct the grid")
    return _sorted({verb: yaml.safe_load(done.stdout)})


def _sorted(settings: Mapping[str, Any]) -> str:
    """Settings in the order of their names."""
    return json.dumps(settings, sort_keys=True, default=str)
