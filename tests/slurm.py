"""A Slurm of one node on this machine: real daemons on free ports, all of whose files are in one folder."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from getpass import getuser
from pathlib import Path

PARTITION = "work"
DEVICES = ("/dev/null", "/dev/zero")  # what jobs get as GPUs: Slurm insists on device files
PATIENCE = 60  # seconds for a daemon to start, or for the jobs to end
DAEMONS = ("munged", "slurmctld", "slurmd")
SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])  # where root alone looks


def missing() -> str | None:
    """What to install, or None."""
    programs = [name for name in (*DAEMONS, "srun", "sbatch", "squeue") if shutil.which(name, path=SEARCHED) is None]
    return f"no {programs[0]}; apt-get install slurm-wlm munge" if programs else None


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[Mapping[str, str]]:
    """Start Slurm, and leave no process of it behind, whatever happens.

    Works as root and as an ordinary user, whose jobs are the only ones it then runs.

    Args:
        folder: Configuration, state and logs; a short path, as that of a socket has at most 107 bytes.

    Yields:
        Environment variables with which `srun`, `sbatch` and the like find it.
    """
    found = {"SLURM_CONF": str(_configure(folder))}
    environment = {**os.environ, **found, "PATH": SEARCHED}

    def answers(*command: str) -> str | None:
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        return process.stdout.strip() if process.returncode == 0 else None

    with ExitStack() as stack:
        stack.callback(_sweep, found["SLURM_CONF"])
        munge = _start(
            folder, environment, "munged", "--foreground", "--force", f"--socket={folder}/munge", f"--key-file={folder}/key",
            f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/seed", "--num-threads=2", "--origin=127.0.0.1",
        )  # fmt: skip
        stack.enter_context(munge)
        _wait("munged", lambda: (folder / "munge").is_socket(), folder)
        stack.enter_context(_start(folder, environment, "slurmctld", "-D"))
        stack.enter_context(_start(folder, environment, "slurmd", "-D"))
        _wait("slurmd", lambda: answers("sinfo", "--noheader", "--format=%T") == "idle", folder)
        try:
            yield found
        finally:
            answers("scancel", "--partition", PARTITION)
            _wait("scancel", lambda: answers("squeue", "--noheader") in ("", None), folder)


def _configure(folder: Path) -> Path:
    """Write the configuration and the key; gives the file that Slurm's programs ask for."""
    (folder / "state").mkdir()
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o600)
    host, user = socket.gethostname().split(".")[0], getuser()
    cores, memory = os.cpu_count(), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in DEVICES))
    file = folder / "slurm.conf"
    control, node = _free_ports()
    file.write_text(f"""\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU={memory // cores}
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=2
MinJobAge=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 Port={node} CPUs={cores} RealMemory={memory} Gres=gpu:{len(DEVICES)}
PartitionName={PARTITION} Nodes={host} Default=YES MaxTime=INFINITE
""")
    return file


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@contextmanager
def _start(folder: Path, environment: Mapping[str, str], *command: str) -> Iterator[None]:
    """A daemon, its words in a log; ended as an administrator ends it."""
    with (folder / f"{command[0]}.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(name: str, ready: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            logs = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in sorted(folder.glob("*.log")))
            raise TimeoutError(f"{name} is not done after {PATIENCE} s\n{logs}")
        time.sleep(0.1)


def _sweep(configuration: str) -> None:
    """Kill what still has this Slurm in its environment: the keepers of jobs outlive slurmd, so that it can be restarted."""
    mark = f"SLURM_CONF={configuration}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile, or somebody else's
