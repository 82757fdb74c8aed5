"""Where trials run: this machine or Slurm, both through submitit, which writes a job's function to disk and its logs beside it."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError

from audioldm_lit.errors import InputError

JOBS = "jobs"  # folder of submitit's files
QUESTIONS, SILENCE = 10, 30  # how often squeue is asked, seconds apart, before Slurm is taken for gone


class Cluster(ABC):
    """Starts jobs and knows which of them are still there.

    Attributes:
        slots: Jobs that run or wait at once.
        pause: Seconds between two looks at the jobs.
    """

    slots: int
    pause: float

    @abstractmethod
    def open(self, out: Path) -> None:
        """Get ready to run the trials of a results folder."""

    def environment(self, slot: int) -> dict[str, str]:
        """Variables for the processes of a slot's jobs."""
        return {}

    @abstractmethod
    def submit(self, name: str, slot: int, function: Callable[..., Any], *args: Any) -> submitit.Job:
        """Start `function(*args, environment)` as a job; `slot` is its place among those that run at once."""

    @abstractmethod
    def ended(self, jobs: Mapping[str, submitit.Job]) -> list[str]:
        """Names of those jobs that neither wait nor run any more."""

    def queued(self) -> set[str]:
        """Names of this results folder's jobs that wait or run, whoever submitted them, where that can be known."""
        return set()

    @abstractmethod
    def interrupt(self, jobs: Iterable[submitit.Job]) -> str:
        """Do with the jobs what Ctrl-C means here; returns what was done, in words."""


class Local(Cluster):
    """This machine: every slot has its share of the cores and, where there are GPUs, its own.

    Args:
        slots: Runs at once; by default as many as there are GPUs for them, or 1.
        devices: GPUs of each run; 0 trains on the CPU.
        hours: After which a run is stopped.
    """

    pause = 0.5

    def __init__(self, slots: int | None = None, devices: int | None = None, hours: float = 168.0) -> None:
        gpus = _gpus() if devices != 0 else 0
        self.devices = min(1, gpus) if devices is None else devices
        if self.devices > gpus:
            raise InputError("--cluster.devices", f"is {devices}, and this machine has {gpus} GPUs", "give at most that")
        fitting = gpus // self.devices if self.devices else None
        self.slots = slots if slots is not None else fitting or 1
        if self.slots < 1 or (fitting is not None and self.slots > fitting):
            raise InputError("--cluster.slots", f"is {slots}", f"give 1 to {fitting or 'as many as memory allows'}")
        self.hours = hours

    def open(self, out: Path) -> None:
        """Make the folder of the jobs' files."""
        self.executor = submitit.LocalExecutor(out / JOBS)
        self.executor.update_parameters(timeout_min=60 * self.hours, stderr_to_stdout=True)

    def environment(self, slot: int) -> dict[str, str]:
        """A share of the cores, since more threads than cores cost much more than they gain, and GPUs of its own."""
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.slots)))}
        if self.devices:
            own = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(_gpus())))
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(own.split(",")[slot * self.devices : (slot + 1) * self.devices])
        return environment

    def submit(self, name: str, slot: int, function: Callable[..., Any], *args: Any) -> submitit.Job:
        """Start it now."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner, which tells its jobs to stop
        try:
            return self.executor.submit(function, *args, self.environment(slot))
        finally:
            signal.signal(signal.SIGINT, before)

    def interrupt(self, jobs: Iterable[submitit.Job]) -> str:
        """Stop them."""
        for job in jobs:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(int(job.job_id), signal.SIGTERM)
        return "its runs are stopped"

    def ended(self, jobs: Mapping[str, submitit.Job]) -> list[str]:
        """Those without a process."""
        return [name for name, job in jobs.items() if job.get_info()["jobState"] != "RUNNING"]


class Slurm(Cluster):
    """Slurm: each trial is one job of one task, in which Lightning starts a process a GPU.

    The results folder must be on a file system that all nodes share, and whose locks they share: NFS from version 4, GPFS, Lustre
    mounted with `flock`.

    Args:
        slots: Jobs in the queue at once.
        devices: GPUs of a job; 0 trains on the CPU.
        hours: After which Slurm stops a job.
        partition: Where to queue; by default the cluster's own choice.
        cpus: Cores of a job.
        memory_gb: Main memory of a job; by default the cluster's own choice, which may be all that a node has.
    """

    pause = 10.0  # a controller serves everybody

    def __init__(
        self,
        slots: int = 50,
        devices: int = 1,
        hours: float = 24.0,
        partition: str | None = None,
        cpus: int = 4,
        memory_gb: float | None = None,
    ) -> None:
        missing = next((program for program in ("sbatch", "squeue") if shutil.which(program) is None), None)
        if missing:
            raise InputError(
                "--cluster", f"is Slurm, and there is no {missing} on this machine", "run it on a login node, or use Local"
            )
        if slots < 1:
            raise InputError("--cluster.slots", f"is {slots}", "give 1 or more")
        self.slots = slots
        asked = {"partition": partition, "mem": memory_gb and f"{round(1024 * memory_gb)}M", "gpus_per_node": devices or None}
        self.asked: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        self.asked |= {"time": round(60 * hours), "nodes": 1, "ntasks_per_node": 1, "cpus_per_task": cpus, "stderr_to_stdout": True}
        self.asked["srun_args"] = [f"--cpus-per-task={cpus}"]  # from 22.05 on srun does not take sbatch's number

    def open(self, out: Path) -> None:
        """Make the folder of the jobs' files."""
        self.executor = submitit.SlurmExecutor(out / JOBS, max_num_timeout=0)
        # Jobs are known by name: a runner finds those of an earlier one, and of this folder alone.
        self.prefix = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:6] + "-"

    def submit(self, name: str, slot: int, function: Callable[..., Any], *args: Any) -> submitit.Job:
        """Queue it."""
        self.executor.update_parameters(**self.asked, job_name=f"{self.prefix}{name}")
        try:
            return self.executor.submit(function, *args, self.environment(slot))
        except FailedJobError as error:
            raise InputError(
                "--cluster", f"sbatch refuses the job ({' '.join(str(error).split())})", "correct the settings"
            ) from error

    def ended(self, jobs: Mapping[str, submitit.Job]) -> list[str]:
        """Those that left the queue, according to squeue: not every cluster keeps accounts."""
        known = _squeue("%A") if jobs else set()
        return [name for name, job in jobs.items() if job.job_id not in known]

    def interrupt(self, jobs: Iterable[submitit.Job]) -> str:
        """Leave them to Slurm."""
        return "its jobs stay with Slurm, scancel ends them"

    def queued(self) -> set[str]:
        """Names in the queue."""
        return {name.removeprefix(self.prefix) for name in _squeue("%j") if name.startswith(self.prefix)}


def _gpus() -> int:
    import torch  # slow to import, and Slurm's side has no need of it

    return torch.cuda.device_count()


def _squeue(column: str) -> set[str]:
    """A column of the user's jobs that wait or run; a busy controller is asked again."""
    command = ["squeue", "--me", "--noheader", "--states=PENDING,CONFIGURING,RUNNING,SUSPENDED,COMPLETING", f"--format={column}"]
    for _ in range(QUESTIONS):
        listed = subprocess.run(command, capture_output=True, text=True)
        if listed.returncode == 0:
            return {line.strip() for line in listed.stdout.splitlines()}
        time.sleep(SILENCE)
    raise InputError("squeue", f"does not answer ({' '.join(listed.stderr.split())})", "give the same command again once it does")
