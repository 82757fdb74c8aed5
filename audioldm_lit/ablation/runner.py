"""Works through a grid: keeps the slots filled, tries failed trials once more, and goes on where an earlier runner stopped."""

import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import submitit

from audioldm_lit.ablation.cluster import Cluster
from audioldm_lit.ablation.grid import Grid
from audioldm_lit.ablation.trial_folder import State, TrialFolder, newest
from audioldm_lit.ablation.worker import run_trial

if TYPE_CHECKING:
    from audioldm_lit.ablation.study import Study

GONE = "ended without result or error, as when it is killed or out of time or memory"
LEAST = 1_000_000  # bytes that a disk has free which is not full
PATIENCE = 2  # vanished attempts of a trial, neither result nor error, before this runner gives it up


@dataclass
class Flight:
    """A job of this runner."""

    job: submitit.Job
    slot: int
    attempts: int  # of the trial before it
    errors: int
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since it was submitted."""
        return time.monotonic() - self.began


class Runner:
    """Runs what is left of a grid.

    Attributes:
        flights: Jobs that wait or run.
        elsewhere: Trials that another runner, or a job that outlived its runner, is working on.
        vanished: How often a trial's job ended without a result or an error, and where its log may be.
        seconds: How long each trial that this runner finished took.
    """

    def __init__(self, grid: Grid, out: Path, cluster: Cluster, study: "Study | None" = None) -> None:
        self.grid, self.cluster, self.study, self.runs = grid, cluster, study, out / "runs"
        self.folders = {name: TrialFolder(self.runs / name) for name in grid.trials}
        self.states = {name: folder.state for name, folder in self.folders.items()}
        self.free = list(range(cluster.slots))
        self.flights: dict[str, Flight] = {}
        self.elsewhere: dict[str, float] = {}
        self.vanished: dict[str, list[str]] = {}
        self.seconds: list[float] = []

    @property
    def given_up(self) -> dict[str, str]:
        """Trials that are given up, with the reason: errors, or jobs that vanished."""
        errors = {name: folder.errors for name, folder in self.folders.items() if self.states[name] == State.FAILED}
        failed = {name: sentences[-1] for name, sentences in errors.items() if sentences}  # none where it was just forgiven
        gone = {name: places[-1] for name, places in self.vanished.items() if self._lost(name)}
        return failed | {name: f"{GONE}; {place}" for name, place in gone.items()}

    def _lost(self, name: str) -> bool:
        return len(self.vanished[name]) >= PATIENCE and self.folders[name].settled is None

    def run(self) -> Iterator[None]:
        """Run the trials; yields after every look at the jobs until nothing is left to do or to wait for."""
        waiting = deque(name for name, state in self.states.items() if state in (State.WAITING, State.RUNNING))
        self._draw(waiting)
        while waiting or self.flights or self.elsewhere:
            self._land(waiting)
            self._look_elsewhere(waiting)
            self._prune()
            self._draw(waiting)
            self._launch(waiting)
            yield
            if waiting or self.flights or self.elsewhere:
                time.sleep(self.cluster.pause)

    def _draw(self, waiting: deque[str]) -> None:
        """Let a study know what has ended, and draw a trial for every slot that would stay free."""
        if self.study is None:
            return
        self.study.tell(self.folders)
        while len(waiting) < len(self.free) and (trial := self.study.ask()):
            folder = self.folders[trial.id] = TrialFolder(self.runs / trial.id)
            self.grid.trials[trial.id] = trial
            self.states[trial.id] = folder.state
            if folder.settled is None:
                waiting.append(trial.id)
            self.study.tell(self.folders)

    def _prune(self) -> None:
        """Stop the runs that a study gives up."""
        for name, flight in self.flights.items() if self.study else ():
            folder = self.folders[name]
            if self.study and folder.settled is None and (reason := self.study.hopeless(name, folder)):
                folder.prune(reason)
                self.cluster.stop(flight.job)

    def _launch(self, waiting: deque[str]) -> None:
        """Fill the free slots."""
        if not self.free or not waiting:
            return
        queued, slots = self.cluster.queued(), dict[str, int]()
        while self.free and waiting:
            name = waiting.popleft()
            state = self.states[name] = self.folders[name].state
            if state == State.RUNNING or name in queued:
                self.elsewhere[name] = time.monotonic()
            elif state == State.WAITING:
                slots[name] = self.free.pop(0)
        for name, job in self._submit(slots).items():
            folder = self.folders[name]
            self.flights[name] = Flight(job, slots[name], len(folder.attempts), len(folder.errors))

    def _submit(self, slots: Mapping[str, int]) -> dict[str, submitit.Job]:
        args = {name: (self.grid.trials[name], self.folders[name].path) for name in slots}
        return self.cluster.submit_all(slots, run_trial, args) if slots else {}

    def submit(self) -> int:
        """Put everything that waits into the cluster's queue, whatever its slots, and leave it there; how many jobs that were."""
        queued = self.cluster.queued()
        return len(self._submit({name: 0 for name, state in self.states.items() if state == State.WAITING and name not in queued}))

    def _land(self, waiting: deque[str]) -> None:
        """Collect the jobs that ended."""
        for name in self.cluster.ended({name: flight.job for name, flight in self.flights.items()}):
            flight = self.flights.pop(name)
            state = self.states[name] = self.folders[name].state
            self.free = sorted([*self.free, flight.slot])
            if state == State.DONE:
                self.seconds.append(flight.seconds)
            elif state == State.RUNNING:  # another runner was faster, or the job's processes outlive it
                self.elsewhere[name] = time.monotonic()
            elif state == State.WAITING:
                self._again(name, flight, waiting)

    def _again(self, name: str, flight: Flight, waiting: deque[str]) -> None:
        """Try a trial again whose job left no result; one that reported an error gets its second attempt anyway."""
        folder = self.folders[name]
        silent = len(folder.errors) == flight.errors
        advanced = newest(folder.attempts[flight.attempts :], "last.ckpt")  # out of time, it goes on from there
        if silent and not advanced:
            full = shutil.disk_usage(flight.job.paths.folder).free < LEAST
            self.vanished.setdefault(name, []).append("the disk is full" if full else f"see {flight.job.paths.stdout}")
        if len(self.vanished.get(name, ())) < PATIENCE:
            waiting.appendleft(name)

    def _look_elsewhere(self, waiting: deque[str]) -> None:
        """Take over what another process let go of."""
        queued = self.cluster.queued() if self.elsewhere else set()
        for name in list(self.elsewhere):
            state = self.states[name] = self.folders[name].state
            if state == State.RUNNING or (state == State.WAITING and name in queued):
                continue
            del self.elsewhere[name]
            if state == State.WAITING:
                waiting.append(name)
