"""Where trials run: this machine or Slurm, both through submitit, which writes a job's function to disk and its logs beside it."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError

from audioldm_lit.errors import InputError

Jobs = dict[str, submitit.Job]  # by name

JOBS = "jobs"  # folder of submitit's files
ARRAY, TRIAL = "array", ".trial"  # name of an array, and end of the file that says whose a job of it is
QUESTIONS, SILENCE = 10, 30  # how often squeue is asked, seconds apart, before Slurm is taken for gone


class Cluster(ABC):
    """Starts jobs and knows which of them are still there.

    Attributes:
        slots: Jobs that run or wait at once.
        pause: Seconds between two looks at the jobs.
    """

    slots: int
    pause: float
    queues = False  # whether jobs wait in a queue of its own, so that the runner may leave

    @abstractmethod
    def open(self, out: Path) -> None:
        """Get ready to run the trials of a results folder."""

    def environment(self, slot: int) -> dict[str, str]:
        """Variables for the processes of a slot's jobs."""
        return {}

    @abstractmethod
    def submit(self, name: str, slot: int, function: Callable[..., Any], *args: Any) -> submitit.Job:
        """Start `function(*args, environment)` as a job; `slot` is its place among those that run at once."""

    def submit_all(
        self, slots: Mapping[str, int], function: Callable[..., Any], args: Mapping[str, Any]
    ) -> dict[str, submitit.Job]:
        """Start a job for each name; `args` are those of its function, `slots` its place."""
        return {name: self.submit(name, slot, function, *args[name]) for name, slot in slots.items()}

    @abstractmethod
    def ended(self, jobs: Mapping[str, submitit.Job]) -> list[str]:
        """Names of those jobs that neither wait nor run any more."""

    def queued(self) -> set[str]:
        """Names of this results folder's jobs that wait or run, whoever submitted them, where that can be known."""
        return set()

    @abstractmethod
    def stop(self, job: submitit.Job) -> None:
        """End a job that waits or runs; it goes on another time."""

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

    def stop(self, job: submitit.Job) -> None:
        """Tell its process."""
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(int(job.job_id), signal.SIGTERM)

    def interrupt(self, jobs: Iterable[submitit.Job]) -> str:
        """Stop them."""
        for job in jobs:
            self.stop(job)
        return "its runs are stopped"

    def ended(self, jobs: Mapping[str, submitit.Job]) -> list[str]:
        """Those without a process."""
        return [name for name, job in jobs.items() if job.get_info()["jobState"] != "RUNNING"]


class Slurm(Cluster):
    """Slurm: each trial is one job, in which Lightning starts a process a GPU.

    Over several nodes, `options: {nodes: 2}`, srun starts them, and Lightning's `trainer.num_nodes` is set.

    The results folder must be on a file system that all nodes share, and whose locks they share: NFS from version 4, GPFS, Lustre
    mounted with `flock`.

    Args:
        slots: Jobs in the queue at once.
        devices: GPUs of a job; 0 trains on the CPU.
        hours: After which Slurm stops a job.
        partition: Where to queue; by default the cluster's own choice.
        cpus: Cores of a job.
        memory_gb: Main memory of a job; by default the cluster's own choice, which may be all that a node has.
        options: What else submitit's SlurmExecutor knows, by its names: account, qos, constraint, gres, exclude, nodes, setup
            (lines before the job, such as `module load cuda`), additional_parameters (any other of sbatch's, such as
            `requeue: true`); with array_parallelism the jobs are one array, of which at most so many run at once.
    """

    pause = 10.0  # a controller serves everybody
    queues = True

    def __init__(
        self,
        slots: int = 50,
        devices: int = 1,
        hours: float = 24.0,
        partition: str | None = None,
        cpus: int = 4,
        memory_gb: float | None = None,
        options: dict[str, Any] | None = None,
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
        self.options = options or {}

    def open(self, out: Path) -> None:
        """Make the folder of the jobs' files, and refuse options that there are none of."""
        twice = next((name for name in self.options if name in (set(self.asked) - {"nodes"}) | {"job_name"}), None)
        if twice is not None:
            raise InputError(f"--cluster.options.{twice}", "is set by another setting of the cluster", "use that, or leave it out")
        self.executor = submitit.SlurmExecutor(out / JOBS, max_num_timeout=0)
        try:
            self.executor.update_parameters(**self.asked | self.options)
        except (ValueError, TypeError) as error:
            raise InputError("--cluster.options", f"are refused ({' '.join(str(error).split())})", "correct them") from error
        # Jobs are known by name: a runner finds those of an earlier one, and of this folder alone.
        self.prefix = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:6] + "-"

    def submit(self, name: str, slot: int, function: Callable[..., Any], *args: Any) -> submitit.Job:
        """Queue it."""
        self.executor.update_parameters(job_name=f"{self.prefix}{name}")
        with _refusals():
            return self.executor.submit(function, *args, self.environment(slot))

    def submit_all(
        self, slots: Mapping[str, int], function: Callable[..., Any], args: Mapping[str, Any]
    ) -> dict[str, submitit.Job]:
        """Queue them, in one array where `options` limit how many of it run."""
        if "array_parallelism" not in self.options:
            return super().submit_all(slots, function, args)
        self.executor.update_parameters(job_name=f"{self.prefix}{ARRAY}")
        with _refusals(), self.executor.batch():
            jobs = {name: self.executor.submit(function, *args[name], self.environment(slot)) for name, slot in slots.items()}
        for name, job in jobs.items():  # all jobs of an array have its name
            (self.executor.folder / f"{job.job_id}{TRIAL}").write_text(name, encoding="utf-8")
        return jobs

    def ended(self, jobs: Mapping[str, submitit.Job]) -> list[str]:
        """Those that left the queue, according to squeue: not every cluster keeps accounts."""
        known = {number for number, _ in _squeue()} if jobs else set()
        return [name for name, job in jobs.items() if job.job_id not in known]

    def stop(self, job: submitit.Job) -> None:
        """Cancel it."""
        job.cancel(check=False)

    def interrupt(self, jobs: Iterable[submitit.Job]) -> str:
        """Leave them to Slurm."""
        return "its jobs stay with Slurm, scancel ends them"

    def queued(self) -> set[str]:
        """Names in the queue."""
        own = {(number, name.removeprefix(self.prefix)) for number, name in _squeue() if name.startswith(self.prefix)}
        return {self._in_array(number) if name == ARRAY else name for number, name in own}

    def _in_array(self, number: str) -> str:
        file = self.executor.folder / f"{number}{TRIAL}"
        return file.read_text(encoding="utf-8") if file.is_file() else ""


def _gpus() -> int:
    import torch  # slow to import, and Slurm's side has no need of it

    return torch.cuda.device_count()


@contextmanager
def _refusals() -> Iterator[None]:
    """Say in a sentence what sbatch refuses."""
    try:
        yield
    except FailedJobError as error:
        raise InputError("--cluster", f"sbatch refuses the job ({' '.join(str(error).split())})", "correct the settings") from error


def _squeue() -> set[tuple[str, str]]:
    """Number and name of the user's jobs that wait or run, each of an array by itself; a busy controller is asked again."""
    states = "--states=PENDING,CONFIGURING,RUNNING,SUSPENDED,COMPLETING"
    command = ["squeue", "--me", "--noheader", "--array", states, "--format=%i %j"]
    for _ in range(QUESTIONS):
        listed = subprocess.run(command, capture_output=True, text=True)
        if listed.returncode == 0:
            rows = (line.strip().partition(" ") for line in listed.stdout.splitlines())
            return {(number, name.strip()) for number, _, name in rows}
        time.sleep(SILENCE)
    raise InputError("squeue", f"does not answer ({' '.join(listed.stderr.split())})", "give the same command again once it does")
