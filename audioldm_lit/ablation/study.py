"""A search whose next point depends on the results so far, drawn and remembered by Optuna, in a file of the results folder."""

import csv
import inspect
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from jsonargparse import ArgumentParser
from optuna.storages.journal import JournalFileBackend

from audioldm_lit.ablation.grid import Grid, Trial
from audioldm_lit.ablation.search_space import Choice, Point, Range, Search
from audioldm_lit.ablation.trial_folder import STUDY, State, TrialFolder, newest
from audioldm_lit.console.parser import OneSentence
from audioldm_lit.errors import InputError

NAME = "study"
WATCHED = "val/loss"  # what checks log, and what is searched for is the lowest of


class Study:
    """Draws trials, takes note of how they end, and gives up hopeless ones. The held-out loss of the best check is what counts.

    Attributes:
        trials: What has been drawn so far, by id, by this process or an earlier one.
    """

    def __init__(self, grid: Grid, out: Path) -> None:
        """Open the study of a results folder, or begin one.

        Raises:
            InputError: If the sampler or the pruner is refused, or the folder holds another search.
        """
        assert grid.search is not None
        optuna.logging.set_verbosity(logging.WARNING)
        self.search, self.plain = grid.search, grid.plain
        pruner = _made("pruner", optuna.pruners.BasePruner, self.search.pruner or "optuna.pruners.NopPruner")
        sampler = self._sampler(0)
        out.mkdir(parents=True, exist_ok=True)
        file = out / STUDY
        self.storage = optuna.storages.JournalStorage(JournalFileBackend(str(file)))
        self.study = optuna.create_study(
            storage=self.storage, sampler=sampler, pruner=pruner, study_name=NAME, direction="minimize", load_if_exists=True
        )
        asked = json.dumps([{name: repr(one) for name, one in self.search.ranges.items()}, self.plain.id], sort_keys=True)
        if self.study.user_attrs.get("search", asked) != asked:
            raise InputError(file, "is of another search, its ranges or settings differ", "give another --out")
        self.study.set_user_attr("search", asked)
        self.numbers = {self._trial(one.params).id: one.number for one in reversed(self.study.get_trials())}
        self.trials = {trial.id: trial for one in self.study.get_trials() for trial in [self._trial(one.params)]}

    def ask(self) -> Trial | None:
        """Draw the next trial; None when all have been drawn."""
        while (number := len(self.study.get_trials(deepcopy=False))) < self.search.runs:
            # Of its own for every trial: with one seed, a study that goes on would draw its first points again.
            self.study.sampler = self._sampler(number)
            drawn = self.study.ask({name: _distribution(one) for name, one in self.search.ranges.items()})
            trial = self._trial(drawn.params)
            if trial.id not in self.numbers:
                self.numbers[trial.id] = drawn.number
                self.trials[trial.id] = trial
                return trial
            earlier = self.study.get_trials(deepcopy=False)[self.numbers[trial.id]]
            if earlier.state == optuna.trial.TrialState.COMPLETE:  # the same once more: nothing is run again
                self.study.tell(drawn.number, earlier.value)
            else:
                self.study.tell(drawn.number, state=optuna.trial.TrialState.FAIL)
        return None

    def tell(self, folders: Mapping[str, TrialFolder]) -> None:
        """Take note of the trials that have ended."""
        for one in self.study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
            folder = folders.get(self._trial(one.params).id)
            ended = folder.settled if folder else None
            if ended == State.DONE and folder is not None:
                found = folder.result["result"]
                self._check_kind(found.get("held_out_loss_of", "noise"))  # runs of before had no other
                self.study.tell(one.number, found["held_out_loss_after"], skip_if_finished=True)
            elif ended is not None:
                states = optuna.trial.TrialState
                self.study.tell(one.number, state=states.PRUNED if ended == State.PRUNED else states.FAIL, skip_if_finished=True)

    def _check_kind(self, judged: str) -> None:
        """Refuse to compare held-out losses that are errors of different things."""
        before = self.study.user_attrs.get("held_out_loss_of", judged)
        if before != judged:
            problem = f"differs among the trials, whose held-out losses are errors of {before} and of {judged}"
            raise InputError("model.objective", problem, "search with one kind of objective")
        self.study.set_user_attr("held_out_loss_of", judged)

    def hopeless(self, name: str, folder: TrialFolder) -> str | None:
        """Why the pruner gives up a run that is training, judged by its checks so far; None where it may go on."""
        known = self.storage.get_study_id_from_name(NAME)
        identity = self.storage.get_trial_id_from_study_id_trial_number(known, self.numbers[name])
        frozen = self.storage.get_trial(identity)
        if frozen.state.is_finished():
            return None
        for step, loss in _checks(folder):
            if step not in frozen.intermediate_values:
                self.storage.set_trial_intermediate_value(identity, step, loss)
        frozen = self.storage.get_trial(identity)
        if frozen.last_step is None or not self.study.pruner.prune(self.study, frozen):
            return None
        return f"pruned at step {frozen.last_step}, {WATCHED} {frozen.intermediate_values[frozen.last_step]:.4g}"

    def _trial(self, params: Mapping[str, Any]) -> Trial:
        return self.search.trial(self.plain, _point(self.search, params))

    def _sampler(self, number: int) -> Any:
        return _made("sampler", optuna.samplers.BaseSampler, self.search.sampler, self.search.seed + number)


def _point(search: Search, params: Mapping[str, Any]) -> Point:
    """What Optuna drew, as runs get it."""
    return {name: one.shown(params[name]) if not isinstance(one, Choice) else params[name] for name, one in search.ranges.items()}


def _distribution(one: Range) -> Any:
    """A range in Optuna's words."""
    if isinstance(one, Choice):
        return optuna.distributions.CategoricalDistribution(list(one.values))
    if one.whole:
        return optuna.distributions.IntDistribution(int(one.low), int(one.high), log=one.log)
    return optuna.distributions.FloatDistribution(one.low, one.high, log=one.log)


def _checks(folder: TrialFolder) -> list[tuple[int, float]]:
    """Step and held-out loss of every check of the newest attempt."""
    file = newest(folder.attempts[-1:], "metrics.csv")
    if file is None:
        return []
    with file.open(encoding="utf-8", newline="") as rows:
        return [(int(row["step"]), float(row[WATCHED])) for row in csv.DictReader(rows) if row.get(WATCHED)]


class _Parser(OneSentence, ArgumentParser):
    """Makes an object of a class path."""


def _made(key: str, base: type, content: Any, seed: int | None = None) -> Any:
    """An object of Optuna's from a class path, or a mapping with `class_path` and `init_args`; seeded where it can be."""
    parser = _Parser(exit_on_error=True)
    parser.add_subclass_arguments(base, key)
    spec: dict[str, Any] = {"class_path": content} if isinstance(content, str) else dict(content)
    read = parser.parse_object({key: spec})
    made = parser.instantiate(read)[key]
    if seed is None or "seed" not in inspect.signature(type(made)).parameters:
        return made
    spec["init_args"] = {**spec.get("init_args", {}), "seed": seed}
    return parser.instantiate(parser.parse_object({key: spec}))[key]
