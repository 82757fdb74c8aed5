"""The verb `ablate` and what it stands on, against a real Slurm."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import submitit

from audioldm_lit.ablation.cluster import Slurm
from audioldm_lit.ablation.grid_file import load_grid
from audioldm_lit.cli import main
from audioldm_lit.errors import InputError

from grids import ledger, results, seeds, write_grid
from slurm import DEVICES, PARTITION, missing, slurm_cluster

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Mapping[str, str]]:
    """A Slurm that this process and its children find."""
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture
def jobs(cluster, tmp_path) -> Iterator[Slurm]:
    """Where trials run; nothing is left in the queue."""
    slurm = Slurm(devices=0, partition=PARTITION, cpus=1, memory_gb=1)
    slurm.open(tmp_path)
    yield slurm
    said("scancel", "--partition", PARTITION)
    until(lambda: not said("squeue", "--noheader"))


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def state(job: submitit.Job) -> str:
    return said("squeue", "--noheader", "--format=%T", f"--jobs={job.job_id}")


def test_srun_runs_a_command(cluster):
    assert said("srun", "--ntasks=1", "--mem=100M", "printenv", "SLURM_JOB_PARTITION") == PARTITION


def test_a_job_sees_as_many_gpus_as_it_asks_for(cluster):
    devices = said("srun", "--ntasks=1", "--mem=100M", f"--gpus-per-node={len(DEVICES)}", "printenv", "CUDA_VISIBLE_DEVICES")
    assert devices == ",".join(map(str, range(len(DEVICES))))


def test_submitit_returns_the_result_of_a_function(cluster, tmp_path):
    executor = submitit.AutoExecutor(tmp_path, cluster="slurm", slurm_max_num_timeout=0)
    executor.update_parameters(slurm_partition=PARTITION, timeout_min=5, mem_gb=0.5, cpus_per_task=1)
    job = executor.submit(lambda base: (base**2, sys.executable, os.environ["SLURM_JOB_ID"]), 12)
    assert job.result() == (144, sys.executable, job.job_id)


def test_jobs_are_in_the_queue_until_they_end(jobs):
    job = jobs.submit("short", 0, lambda environment: dict(environment))
    until(lambda: jobs.ended({"short": job}) == ["short"])
    assert jobs.queued() == set()
    assert job.paths.result_pickle.is_file()
    assert job.exception() is None


def test_waiting_jobs_are_in_the_queue(jobs):
    names = [f"nap{number}" for number in range((os.cpu_count() or 1) + 1)]  # one more than there are cores
    flying = {name: jobs.submit(name, 0, lambda environment: time.sleep(300)) for name in names}
    until(lambda: sorted(map(state, flying.values())) == ["PENDING", *["RUNNING"] * (len(names) - 1)])
    assert jobs.queued() == set(names)
    assert jobs.ended(flying) == []


def test_a_cancelled_job_leaves_the_queue(jobs):
    job = jobs.submit("nap", 0, lambda environment: time.sleep(300))
    until(lambda: state(job) == "RUNNING")
    said("scancel", job.job_id)
    until(lambda: jobs.ended({"nap": job}) == ["nap"])
    assert jobs.queued() == set()


def test_a_killed_job_leaves_the_queue_without_a_result(jobs):
    job = jobs.submit("killed", 0, lambda environment: os.kill(os.getpid(), signal.SIGKILL))
    until(lambda: jobs.ended({"killed": job}) == ["killed"])
    assert not job.paths.result_pickle.exists()
    assert "Killed" in job.paths.stdout.read_text()


def test_a_requeued_job_stays_in_the_queue(jobs):
    """As after preemption or the loss of a node: Slurm itself starts it again."""
    job = jobs.submit("nap", 0, lambda environment: time.sleep(300))
    until(lambda: state(job) == "RUNNING")
    said("scontrol", "requeue", job.job_id)
    for _ in range(50):
        assert jobs.ended({"nap": job}) == []
        if state(job) == "PENDING":
            break
        time.sleep(0.2)
    assert state(job) == "PENDING"
    assert jobs.queued() == {"nap"}


def test_no_slots_are_refused(cluster):
    with pytest.raises(InputError, match="slots: is 0; give 1 or more"):
        Slurm(slots=0)


def test_memory_may_be_a_fraction(jobs, tmp_path):
    small = Slurm(devices=0, partition=PARTITION, cpus=1, memory_gb=0.5)
    small.open(tmp_path)
    job = small.submit("nap", 0, lambda environment: time.sleep(300))
    assert said("squeue", "--noheader", "--format=%m", f"--jobs={job.job_id}") == "512M"


def test_runners_of_other_folders_keep_to_their_own_jobs(jobs, tmp_path):
    other = Slurm(devices=0, partition=PARTITION, cpus=1, memory_gb=1)
    other.open(tmp_path / "other")
    jobs.submit("nap", 0, lambda environment: time.sleep(300))
    assert jobs.queued() == {"nap"}
    assert other.queued() == set()


def test_no_process_outlives_the_cluster(tmp_path):
    folder = tmp_path / "slurm"
    folder.mkdir()
    started = folder / "started"
    with pytest.raises(RuntimeError, match="a test fails"), slurm_cluster(folder) as environment:  # noqa: PT012
        command = ["sbatch", "--mem=100M", "--output=/dev/null", f"--wrap=touch {started}; tail -f {started}"]
        subprocess.run(command, check=True, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
        until(started.exists)
        raise RuntimeError("a test fails")
    assert [command for command in commands() if str(folder) in command] == []


def commands() -> list[str]:
    """Command lines of all processes."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return lines


def test_a_grid_of_six_survives_a_cancelled_job_a_killed_process_and_the_runner_s_end(cluster, tmp_path):
    path, out = write_grid(tmp_path, seeds(6), {"seconds": 4}), tmp_path / "out"
    grid = load_grid(path)
    words = ["ablate", "--config", str(path), "--out", str(out), "--allow_dirty"]
    words += ["--cluster", "Slurm", "--cluster.partition", PARTITION, "--cluster.devices", "0", "--cluster.cpus", "1"]
    words += ["--cluster.memory_gb", "1", "--cluster.slots", "2"]
    first = multiprocessing.get_context("fork").Process(target=main, args=(words,))
    first.start()
    try:
        until(lambda: len(fits(tmp_path)) == 2, 120)
        said("scancel", said("squeue", "--noheader", "--format=%A", "--states=RUNNING").splitlines()[0])
        until(lambda: len(fits(tmp_path)) == 1)
        fits(tmp_path)[0].kill()
        until(lambda: results(grid, out))
    finally:
        first.kill()
        first.join()
    before = results(grid, out)
    main(words)
    assert results(grid, out).keys() == grid.trials.keys()
    assert results(grid, out).items() >= before.items()
    assert not ledger(tmp_path, "overlap")
    assert jobs_left() == ""


def fits(folder: Path) -> list[psutil.Process]:
    """Processes that train."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[1:3] == [str(folder / "program.py"), "fit"]:
                found.append(process)
        except psutil.Error:  # it ended meanwhile
            continue
    return found


def jobs_left() -> str:
    until(lambda: not said("squeue", "--noheader"), 30)
    return said("squeue", "--noheader")


def test_an_array_is_throttled_and_its_jobs_are_known_by_name(cluster, tmp_path):
    options = {"array_parallelism": 1, "setup": ["export SAID=before"], "comment": "a grid"}
    slurm = Slurm(devices=0, partition=PARTITION, cpus=1, memory_gb=0.5, options=options)
    slurm.open(tmp_path)
    said_before = lambda go, environment: ([time.sleep(0.1) for _ in iter(go.exists, True)], os.environ["SAID"])[1]  # noqa: E731
    flying = slurm.submit_all({"one": 0, "two": 0}, said_before, {"one": (tmp_path / "go",), "two": (tmp_path / "go",)})
    until(lambda: sorted(map(state, flying.values())) == ["PENDING", "RUNNING"])
    assert slurm.queued() == {"one", "two"}
    assert slurm.ended(flying) == []
    (tmp_path / "go").touch()
    until(lambda: sorted(slurm.ended(flying)) == ["one", "two"])
    assert [job.result() for job in flying.values()] == ["before", "before"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"colour": "red"}, "options: are refused .*colour"), ({"partition": "x"}, "options.partition: is set by")],
)
def test_an_option_that_there_is_none_of_is_refused_before_anything_is_queued(cluster, tmp_path, options, reason):
    with pytest.raises(InputError, match=reason):
        Slurm(devices=0, partition=PARTITION, options=options).open(tmp_path)


def test_the_runner_may_leave_and_collect_later(cluster, tmp_path, capfd):
    path = write_grid(tmp_path, seeds(2))
    options = ["--config", str(path), "--out", str(tmp_path / "out"), "--allow_dirty", "--cluster", "Slurm"]
    options += ["--cluster.devices", "0", "--cluster.cpus", "1", "--cluster.memory_gb", "1", "--cluster.slots", "1"]
    options += ["--cluster.partition", PARTITION]
    main(["ablate", *options, "--submit_only"])
    assert "2 jobs are in the queue" in capfd.readouterr().err
    main(["ablate", *options, "--submit_only"])
    assert "0 jobs are in the queue" in capfd.readouterr().err
    until(lambda: len(results(load_grid(path), tmp_path / "out")) == 2)
    main(["ablate", *options, "--collect"])
    assert "loss" in capfd.readouterr().out
    assert (tmp_path / "out" / "results.csv").is_file()
