"""What one of several processes says when it ends: what all have found is said once, and who is gone is not waited for."""

import os
import time

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # where a process finds its number among several; the first speaks for all
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")  # what gloo says when another process has ended
PATIENCE = 10.0  # seconds in which the first process says what all have found, and what started them ends them


def is_first() -> bool:
    """Whether this process speaks for all, as where it is alone."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


def must_speak(parent: int) -> bool:
    """Whether a process has to say itself what it has found: the first one at once, others if they are still there after a while.

    Where all find the same, the first says so and ends, and torchrun, or that process where it is what started the others, ends
    them meanwhile.

    Args:
        parent: What started this process.
    """
    deadline = time.monotonic() + PATIENCE
    while not is_first() and time.monotonic() < deadline:
        if os.getppid() != parent:
            return False
        time.sleep(0.2)
    return True


def is_lost(error: BaseException) -> bool:
    """Whether an error of a collective call says that another process has ended."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in LOST)
