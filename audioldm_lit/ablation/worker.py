"""What one job of a grid does: it runs a trial's verbs as a user would, and writes the result."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audioldm_lit.ablation.grid import Trial
from audioldm_lit.ablation.provenance import provenance
from audioldm_lit.ablation.trial_folder import State, TrialFolder, newest
from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import atomic_write, write_json
from audioldm_lit.storage.plain_files import read_record


class TrialError(Exception):
    """Why an attempt failed, in one sentence."""


@dataclass(frozen=True)
class Cost:
    """What a verb took: `seconds`, and `memory_gb`, the most that one of its processes held in main memory."""

    seconds: float
    memory_gb: float


def run_trial(trial: Trial, path: Path, environment: Mapping[str, str]) -> str:
    """Run a trial unless it is done or another process has it.

    Args:
        trial: What to run.
        path: Its folder.
        environment: Variables for its processes, such as the devices they see.

    Returns:
        State in which this process leaves the trial.
    """
    # Told to stop, by Slurm for instance, a run has not failed: it leaves no error and goes on another time.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    if os.environ.get("SLURM_PROCID", "0") != "0":
        return State.RUNNING  # of several nodes, the first starts the processes of all
    folder = TrialFolder(path)
    with folder.claimed() as lock:
        if lock is None:
            return State.RUNNING
        if folder.settled:
            return folder.settled
        earlier, attempt = folder.attempts, folder.next_attempt()
        about = {"id": trial.id, "levels": dict(trial.levels), "settings": dict(trial.settings), "fit": trial.fit}
        about |= {"base": list(trial.base), "program": list(trial.program), **provenance()}
        try:
            write_json(attempt / "run.json", about)
            result = _run(trial, attempt, earlier, lock, environment)
            write_json(folder.result_file, {**about, **result})
        except (TrialError, InputError, OSError) as error:
            with atomic_write(attempt / "error.txt") as unfinished:
                unfinished.write_text(f"{error}\n", encoding="utf-8")
            return State.FAILED
        return State.DONE


def _run(trial: Trial, attempt: Path, earlier: list[Path], lock: int, environment: Mapping[str, str]) -> dict[str, Any]:
    """Fit, unless an earlier attempt did, from its last checkpoint where there is one; then test the best check."""
    fitted, checkpoint = {}, []
    if trial.fit:
        finished = newest(earlier, "result.json")
        if finished is None:
            last = newest(earlier, "last.ckpt")
            _verb("fit", trial, [f"--ckpt_path={last}"] if last else [], attempt, lock, environment)
            finished = _found(attempt, "result.json")
        fitted = read_record(finished, "remove it")
        checkpoint = [f"--ckpt_path={fitted['checkpoint']}"]
    _verb("test", trial, checkpoint, attempt, lock, environment)
    costs = [read_record(file, "remove it") for folder in (*earlier, attempt) for file in folder.glob("*.cost.json")]
    return {
        "result": fitted,
        "test": read_record(_found(attempt, "test.json"), "remove it"),
        "cost": {
            "seconds": round(sum(cost["seconds"] for cost in costs), 2),  # of all attempts, but not what a kill cut off
            "fit_seconds": fitted.get("seconds", 0.0),
            "attempts": len(earlier) + 1,
            "peak_memory_gb": max(cost["memory_gb"] for cost in costs),
        },
    }


def _verb(verb: str, trial: Trial, words: list[str], attempt: Path, lock: int, environment: Mapping[str, str]) -> None:
    """Run a verb to its end; its output goes to a log file, what it took to another.

    It inherits the lock: if this process is killed, no other takes up the trial while the verb still runs. On one node it does not
    inherit the variables of Slurm, so that Lightning starts the processes of a run itself, on the devices of the job.
    """
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    command = [*trial.command(verb, attempt), *words]
    if nodes > 1:
        command = [*over_nodes(nodes, os.environ), *command, f"--trainer.num_nodes={nodes}"]
    kept = {name: value for name, value in os.environ.items() if nodes > 1 or not name.startswith("SLURM_")}
    variables = {"WANDB_RUN_GROUP": trial.grid, **kept, **environment}  # where runs are watched, a grid's are together
    log, began = attempt / f"{verb}.log", time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=variables, pass_fds=(lock,)
        )
        with ExitStack() as interrupted:
            interrupted.callback(process.terminate)
            _, status, usage = os.wait4(process.pid, 0)
            interrupted.pop_all()
        process.returncode = os.waitstatus_to_exitcode(status)  # or Popen would wait for it again
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    cost = Cost(round(time.monotonic() - began, 2), round(usage.ru_maxrss * unit / 1e9, 3))
    write_json(attempt / f"{verb}.cost.json", asdict(cost))
    if process.returncode in (-signal.SIGTERM, -signal.SIGINT):
        sys.exit("stopped")
    if process.returncode:
        raise TrialError(f"{verb}: {_reason(log, process.returncode)}")


def over_nodes(nodes: int, variables: Mapping[str, str]) -> list[str]:
    """The command that starts a process for every GPU of a job's nodes, or one a node; Lightning takes each for a rank."""
    each = variables.get("SLURM_GPUS_ON_NODE", "1")
    cpus = max(1, int(variables.get("SLURM_CPUS_PER_TASK", "1")) // int(each))
    return ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks-per-node={each}", f"--cpus-per-task={cpus}", "--kill-on-bad-exit"]


def _reason(log: Path, status: int) -> str:
    """The last line of the log, which is the error's sentence; the signal where one ended the process."""
    if status < 0:
        return f"ended by signal {-status}{', as when memory runs out' if status == -9 else ''}; see {log}"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return (lines[-1] if lines else f"exit status {status} and no word").removeprefix("error: ")


def _found(attempt: Path, name: str) -> Path:
    path = newest([attempt], name)
    if path is None:
        raise TrialError(f"{name} is missing below {attempt}; the verb ended without writing it")
    return path
