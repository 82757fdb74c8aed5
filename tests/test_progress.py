import io
import json
import re
import sys
import time
from pathlib import Path

import pytest
from lightning import Callback
from rich.console import Console
from rich.table import Table

from audioldm_lit.console import stages
from audioldm_lit.console.stages import Stage, say, stages_ended, track

import layouts
from runs import HEARD, arguments

CONTROL = r"\x1b\[[\d;?]*[A-Za-z]|\r"


class Terminal(io.StringIO):
    """A terminal that remembers all it was sent."""

    def isatty(self) -> bool:
        return True


def terminal(monkeypatch) -> Terminal:
    """Put one in the place of both outputs, within a test: pytest has its own in there until then."""
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


class Witness(Callback):
    """Notes which stages are open when other callbacks print tables."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def on_train_end(self, *_: object) -> None:
        self.seen.append([stage.name for stage in Stage.opened])

    on_fit_end = on_train_end

    def teardown(self, *_: object, **__: object) -> None:
        Path("seen.json").write_text(json.dumps(self.seen))


@pytest.mark.nightly
def test_a_log_of_a_run_names_each_stage_in_plain_lines(cli, workdir, tiny_folder):
    options = [*arguments(tiny_folder, layouts.esc50(workdir / "data")), *HEARD]
    metrics = {"lsd": {"class_path": "audioldm_lit.metrics.spectral.LogSpectralDistance"}}
    protocol = {"class_path": "audioldm_lit.evaluation.protocol.Protocol", "init_args": {"name": "light", "metrics": metrics}}
    (workdir / "light.yaml").write_text(json.dumps(protocol))  # JSON is YAML
    shown = ("--trainer.enable_progress_bar", "true", "--trainer.callbacks", "test_progress.Witness")
    full = ("--dials.count", 3, "--averages.profiles", "[0.1]", "--model.protocol", "light.yaml", "--scores.after_fit", "true")
    status, _, err = cli("fit", *options, *shown, *full)
    assert status == 0, err
    lines = iter(err.splitlines())
    for line in (
        "loading libraries", f"loading {tiny_folder}", "encoding 24 clips: 0 of 24", "encoding 9 clips: 0 of 9",
        "held-out loss of the base: 0 of 2", "auditions of the base", "dials of the base", "training: 0 of 2",
        "held-out loss, step 1: 0 of 2", "auditions", "dials",
        r"training: 1 of 2, \d:\d\d left, train/loss \S+, val/loss \S+, val/change \S+", "held-out loss, step 2: 0 of 2",
        "averages of the trained weights", "effect of the adapter",
        "clips of the base model, batches: 0 of 2", "scores of the base model", "clips of the adapted model, batches: 0 of 2",
        "scores of the adapted model", "scores of real recordings",
    ):  # fmt: skip
        assert any(re.fullmatch(line, found) for found in lines), line
    assert not re.search(r"\r|\x1b|Epoch|v_num|it/s", err)
    assert json.loads(Path("seen.json").read_text()) == [[], []]


@pytest.mark.parametrize(
    ("stage", "more", "seconds", "state"),
    [
        (Stage("a", 150), 0, 0, "0 of 150"),
        (Stage("a", 150), 60, 90, "60 of 150, 2:15 left"),
        (Stage("a", 150, done=100), 10, 20, "110 of 150, 1:20 left"),  # the pace is that of this run alone
        (Stage("a", 30_000), 2, 2, "2 of 30000, 8:19:58 left"),
        (Stage("a", 3), 3, 5, "3 of 3"),
        (Stage("a"), 0, 0.2, ""),
        (Stage("a"), 0, 75, "1:15"),
    ],
)
def test_what_is_left_follows_from_the_pace_so_far(stage, more, seconds, state):
    stage.advance(more)
    assert stage.state(seconds) == state


def test_a_log_is_not_silent_while_something_works(capfd, monkeypatch):
    monkeypatch.setattr(stages, "EVERY", 0.01)
    lines: list[str] = []
    with Stage("training", 5), Stage("auditions"):
        while len(lines) < 6:
            time.sleep(0.01)
            lines += capfd.readouterr().err.splitlines()
    assert lines[0] == "training: 0 of 5"
    assert set(lines[1:]) == {"auditions"}


def test_on_a_terminal_nothing_of_a_bar_is_left_where_a_table_stands(monkeypatch):
    screen = terminal(monkeypatch)
    with stages_ended():
        for _ in track(range(3), "training", 3):
            with Stage("auditions"):
                say("a word from Lightning")
            sys.stdout.write("a line of a library\n")
    console = Console()
    console.print(Table("result", title="Result"))
    *frames, rest = screen.getvalue().split("\x1b[2K")
    assert any("training" in frame and "auditions" in frame for frame in frames)
    assert re.sub(CONTROL, "", rest).split()[0] == "Result"
    pieces = [piece.strip() for piece in re.split(f"{CONTROL}|\n", screen.getvalue())]
    assert (pieces.count("a word from Lightning"), pieces.count("a line of a library")) == (3, 3)


def test_what_goes_to_a_file_is_not_caught_by_the_bars(monkeypatch):
    terminal(monkeypatch)
    monkeypatch.setattr(sys, "stdout", file := io.StringIO())
    with Stage("generating"):
        sys.stdout.write("a line\n")
    assert file.getvalue() == "a line\n"


def test_the_first_of_several_processes_speaks_for_all(capfd, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert list(track("ab", "encoding", 2)) == ["a", "b"]
    assert capfd.readouterr().err == ""


def test_an_error_ends_all_stages(capfd):
    def fails() -> None:
        for _ in track(range(3), "encoding", 3):
            raise ValueError

    with pytest.raises(ValueError), stages_ended():  # noqa: PT011
        fails()
    assert Stage.opened == []
    assert Stage.display is None
