"""Two processes of one run on this machine, for tests of what a second one changes.

They are started once, as torchrun starts its own, and do one thing after the other: starting costs far more than what a test does.
"""

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import multiprocessing

from audioldm_lit.cli import main

PATIENCE = timedelta(seconds=120)
IMPORTED_ONCE = ["audioldm_lit.lightning_cli", "ranks"]


class Ranks:
    """Both processes; what each says is in a file of `folder`."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED_ONCE)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.logs = [folder / f"rank-{rank}.log" for rank in range(2)]
        self.pipes: list[Connection] = []
        self.processes = []
        for rank, log in enumerate(self.logs):
            here, there = context.Pipe()
            self.pipes.append(here)
            self.processes.append(context.Process(target=_serve, args=(rank, port, log, there), daemon=True))
            self.processes[-1].start()

    def __call__(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What `function(rank, *args)` gives in each."""
        for pipe in self.pipes:
            pipe.send((function, args))
        answers = []
        for pipe in self.pipes:
            assert pipe.poll(2 * PATIENCE.total_seconds()), "a process gives no answer"
            answers.append(pipe.recv())
        for _, error in answers:
            assert not error, error
        return [answer for answer, _ in answers]

    def command_line(self, folder: Path, words: Sequence[object]) -> list[tuple[int, str]]:
        """Exit status of the command line in a folder, and what it says, in each."""
        before = [log.stat().st_size if log.is_file() else 0 for log in self.logs]
        words = [*map(str, words), "--trainer.devices", "2", "--trainer.strategy", "ddp"]
        statuses = self(_command_line, folder, words)
        said = [log.read_bytes()[start:].decode() for log, start in zip(self.logs, before, strict=True)]
        return list(zip(statuses, said, strict=True))

    def last_command(self, folder: Path, words: Sequence[object]) -> list[tuple[int | None, str]]:
        """A command line with which each process ends: its exit status, None where it has not ended, and all it said."""
        words = [*map(str, words), "--trainer.devices", "2", "--trainer.strategy", "ddp"]
        for pipe in self.pipes:
            pipe.send((_last_command, (folder, words)))
        deadline = time.monotonic() + PATIENCE.total_seconds()
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        return [(process.exitcode, log.read_text()) for process, log in zip(self.processes, self.logs, strict=True)]

    def end(self) -> None:
        """End them."""
        for process in self.processes:
            process.kill()


def _serve(rank: int, port: int, log: Path, pipe: Connection) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    rank_zero_only.rank = rank
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", timeout=PATIENCE)
    while True:
        function, args = pipe.recv()
        try:
            pipe.send((function(rank, *args), ""))
        except Exception:
            pipe.send((None, traceback.format_exc()))


def _last_command(rank: int, folder: Path, words: list[str]) -> None:
    os._exit(_command_line(rank, folder, words))


def _command_line(rank: int, folder: Path, words: list[str]) -> int:
    os.chdir(folder)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    sys.path.insert(0, str(folder))
    try:
        main(words)
    except SystemExit as exit_:
        return exit_.code or 0
    finally:
        sys.path.remove(str(folder))
        sys.stdout.flush()
        sys.stderr.flush()
    return 0
