"""How long each hook of a run takes, by Lightning's own profiler."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lightning.pytorch.profilers import Profiler

STEP = "run_training_batch"  # what Lightning calls a step, in which many hooks lie


@dataclass
class Took:
    """Seconds of a call without those of the hooks within it, and how many of them went into sampling."""

    seconds: float = 0.0
    sampling: float = 0.0


class Clock(Profiler):
    """Keeps what every call of every hook took, in order; those within a step count as part of it.

    Args:
        now: Clock in seconds.

    Attributes:
        calls: What the calls of each hook took, under Lightning's name of it, such as `[Callback]Dials.on_fit_start`.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.now = now
        self.calls: dict[str, list[Took]] = defaultdict(list)
        self._open: list[tuple[str, Took, float]] = []  # the innermost last; each with when it began

    def start(self, action_name: str) -> None:
        """Open a hook."""
        self._open.append((action_name, Took(), self.now()))

    def stop(self, action_name: str) -> None:
        """Close it."""
        _, took, began = self._open.pop()
        if any(name == STEP for name, *_ in self._open):
            return
        whole = self.now() - began
        took.seconds += whole
        for _, outer, _ in self._open[-1:]:
            outer.seconds -= whole
        self.calls[action_name].append(took)

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """What happens within is sampling."""
        began = self.now()
        yield
        for _, innermost, _ in self._open[-1:]:
            innermost.sampling += self.now() - began
