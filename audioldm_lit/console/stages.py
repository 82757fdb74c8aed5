"""What takes a while names itself: bars on a terminal, plain lines in a log.

On a terminal the open stages stand below each other and vanish when they end, so that what is printed between two of them has its
lines to itself. In a log a stage is a line when it begins and another every ten seconds: while something works, no log is silent.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Event, Thread
from typing import ClassVar, Self, TypeVar

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from audioldm_lit.console.markup import escape, legible
from audioldm_lit.console.together import is_first

EVERY = 10.0  # seconds between two lines of a log
Item = TypeVar("Item")


class Stage:
    """A piece of work, shown while it is open.

    Args:
        name: What is done, as it reads alone: "encoding 12 clips".
        total: Of how many parts it consists; None where they cannot be counted.
        done: Parts that are done already, as when a run is resumed.

    Attributes:
        note: What else there is to say, such as a loss.
    """

    opened: ClassVar[list["Stage"]] = []  # the innermost last
    display: ClassVar["_Bars | _Lines | None"] = None

    def __init__(self, name: str, total: int | None = None, done: int = 0) -> None:
        self.name = name
        self.total = total
        self.done = self.first = done
        self.note = ""
        self.began = time.monotonic()

    def open(self) -> Self:
        """Show it from now on, on the first of several processes."""
        self.opened.append(self)
        if not is_first():
            return self
        if Stage.display is None:
            console = Console(emoji=False, stderr=True)
            Stage.display = _Bars(console) if console.is_interactive else _Lines()
            Stage.display.start()
        Stage.display.begin(self)
        return self

    def close(self) -> None:
        """End it, with all that was opened inside."""
        if self not in self.opened:
            return
        del self.opened[self.opened.index(self) :]
        if Stage.display is not None and not self.opened:
            Stage.display.stop()
            Stage.display = None

    def advance(self, count: int = 1) -> None:
        """Count parts as done."""
        self.done += count

    def tell(self) -> None:
        """Say in a log how far it is, before its next line is due."""
        if isinstance(Stage.display, _Lines):
            say(str(self))

    def count(self, done: int, total: int) -> None:
        """Say how many parts are done, and of how many where that was not known before."""
        self.done, self.total = done, total

    def state(self, seconds: float) -> str:
        """How far it is after some seconds, and what is left at the mean pace so far."""
        if self.total is None:
            words = [duration(seconds)] if round(seconds) else []
        else:
            new = self.done - self.first
            left = [f"{duration(seconds / new * (self.total - self.done))} left"] if new and self.done < self.total else []
            words = [f"{self.done} of {self.total}", *left]
        return ", ".join([*words, self.note] if self.note else words)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    def __str__(self) -> str:
        """A line of a log."""
        state = self.state(self.seconds)
        return f"{self.name}: {state}" if state else self.name

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()


def track(items: Iterable[Item], name: str, total: int) -> Iterator[Item]:
    """Go through items as a stage; of none nothing is said."""
    if not total:
        yield from items
        return
    with Stage(name, total) as stage:
        for item in items:
            yield item
            stage.advance()


def say(text: str) -> None:
    """Print a line on standard error, above the bars where there are any."""
    if isinstance(Stage.display, _Bars):
        Stage.display.live.console.print(escape(text), soft_wrap=True, highlight=False)
    else:
        sys.stderr.write(f"{legible(text)}\n")
        sys.stderr.flush()


@cache
def say_once(text: str) -> None:
    """Say what a program comes upon several times once."""
    say(text)


@contextmanager
def stages_ended() -> Iterator[None]:
    """Whatever happens within, no stage is open after it: an error would share its line with a bar."""
    try:
        yield
    finally:
        for stage in Stage.opened[:1]:
            stage.close()


def duration(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class _Bars:
    """The open stages on a terminal."""

    def __init__(self, console: Console) -> None:
        # What goes to a file instead of the terminal must not be caught.
        self.live = Live(console=console, transient=True, redirect_stdout=sys.stdout.isatty(), get_renderable=self.table)

    def start(self) -> None:
        self.live.start()

    def stop(self) -> None:
        self.live.stop()

    def begin(self, stage: Stage) -> None:
        self.live.refresh()

    @staticmethod
    def table() -> Table:
        table = Table.grid(padding=(0, 1))
        for _ in range(3):
            table.add_column(no_wrap=True)
        for stage in list(Stage.opened):
            table.add_row(escape(stage.name), ProgressBar(stage.total, stage.done, width=20), escape(stage.state(stage.seconds)))
        return table


class _Lines(Thread):
    """The innermost stage in a log."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = Event()

    def stop(self) -> None:
        self.ended.set()
        self.join()

    def begin(self, stage: Stage) -> None:
        stage.tell()

    def run(self) -> None:
        while not self.ended.wait(EVERY):
            for stage in Stage.opened[-1:]:
                stage.tell()
