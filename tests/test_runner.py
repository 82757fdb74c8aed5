"""Running grids: exactly once, whatever dies, with failures named and contained."""

import json
import multiprocessing
import os
import platform
import random
import signal
import sys
import time
from collections import Counter

import pandas as pd
import psutil
import pytest

from audioldm_lit.ablation.grid_file import load_grid
from audioldm_lit.ablation.results import collect, write_csv
from audioldm_lit.ablation.sheets import sheets
from audioldm_lit.ablation.trial_folder import State, TrialFolder, newest
from audioldm_lit.cli import main

from grids import ledger, results, run, runner, seeds, start, starts, write_grid


def test_every_trial_is_fitted_tested_and_kept_with_its_origin(tmp_path):
    path = write_grid(tmp_path, seeds(3))
    run(path, tmp_path / "out")
    grid = load_grid(path)
    assert results(grid, tmp_path / "out").keys() == grid.trials.keys()
    for name, text in results(grid, tmp_path / "out").items():
        result = json.loads(text)
        assert result["settings"]["seed_everything"] == int(grid.trials[name].levels["seed"])
        assert result["versions"]["python"] == platform.python_version()
        assert result["cost"]["seconds"] > 0
    assert Counter(ledger(tmp_path, "end")) == Counter(f"{verb} {name}" for name in grid.trials for verb in ("fit", "test"))


def test_the_same_command_repeats_nothing(tmp_path):
    path = write_grid(tmp_path, seeds(3))
    run(path, tmp_path / "out")
    before = results(load_grid(path), tmp_path / "out")
    run(path, tmp_path / "out")
    assert results(load_grid(path), tmp_path / "out") == before
    assert len(ledger(tmp_path, "start")) == 6


def test_why_a_metric_has_no_value_is_told_in_fields_or_as_a_sentence(tmp_path):
    path = write_grid(tmp_path, seeds(1))
    run(path, tmp_path / "out")
    grid = load_grid(path)
    file = next(TrialFolder(tmp_path / "out" / "runs" / name).result_file for name in grid.trials)
    result = json.loads(file.read_text())
    fields = {"where": "kad", "problem": "needs 3 clips", "mend": "add one"}
    result["test"]["not_computed"] = {"kad": fields, "fad": "kad: needs 3 clips; add one."}
    file.write_text(json.dumps(result))
    table = collect(grid, tmp_path / "out").set_index("metric")
    assert table.loc["kad", "caution"] == table.loc["fad", "caution"] == "kad: needs 3 clips; add one."
    assert table.loc[["kad", "fad"], "value"].isna().all()


def test_a_level_without_training_is_only_tested(tmp_path):
    path = write_grid(tmp_path, {"strategy": {"base": {"fit": False}, "lora": {"seconds": 0}}})
    run(path, tmp_path / "out")
    assert sorted(word.split()[0] for word in ledger(tmp_path, "end")) == ["fit", "test", "test"]


def test_a_failed_run_is_tried_again_once_then_shown_and_the_others_go_on(tmp_path):
    path = write_grid(tmp_path, {"kind": {name: {"behaviour": name} for name in ("fail", "fail_once", "well")}})
    done = run(path, tmp_path / "out")
    states = {name.split("-")[0]: state for name, state in done.states.items()}
    assert states == {"fail": State.FAILED, "fail_once": State.DONE, "well": State.DONE}
    assert [reason for reason in done.given_up.values()] == ["fit: the moon is full; wait."]
    assert sum("fit fail-" in word for word in ledger(tmp_path, "start")) == 2
    run(path, tmp_path / "out")
    assert sum("fit fail-" in word for word in ledger(tmp_path, "start")) == 2
    write_csv(collect(load_grid(path), tmp_path / "out"), tmp_path / "results.csv")
    table = pd.read_csv(tmp_path / "results.csv").set_index("kind")
    assert table["state"].to_dict() == {"fail": "failed", "fail_once": "done", "well": "done"}
    assert table.loc["fail", "error"] == "fit: the moon is full; wait."
    told = sheets(collect(load_grid(path), tmp_path / "out"), "loss", narrow=True)[0].notes
    assert told[:2] == ["2 of 3 runs are done, 1 failed", f"{table.loc['fail', 'run']} failed: fit: the moon is full; wait."]


def test_a_killed_verb_is_named_with_its_signal(tmp_path):
    done = run(write_grid(tmp_path, {"kind": {"killed": {"behaviour": "killed"}}}), tmp_path / "out")
    (reason,) = done.given_up.values()
    assert "signal 9, as when memory runs out" in reason


@pytest.mark.parametrize(("behaviour", "state"), [("worker_vanishes", State.WAITING), ("worker_vanishes_once", State.DONE)])
def test_a_vanished_worker_is_replaced_once(tmp_path, behaviour, state):
    done = run(write_grid(tmp_path, {"kind": {"one": {"behaviour": behaviour}}}), tmp_path / "out")
    assert list(done.states.values()) == [state]
    assert all("killed or out of time" in reason for reason in done.given_up.values())
    assert len(done.given_up) == (state == State.WAITING)


def test_a_run_that_failed_in_its_test_is_not_trained_again(tmp_path):
    done = run(write_grid(tmp_path, {"kind": {"one": {"behaviour": "test_fails_once"}}}), tmp_path / "out")
    assert list(done.states.values()) == [State.DONE]
    assert [word.split()[0] for word in ledger(tmp_path, "start")] == ["fit", "test", "test"]
    (result,) = [json.loads(text) for text in results(load_grid(tmp_path / "grid.yaml"), tmp_path / "out").values()]
    costs = [json.loads(file.read_text())["seconds"] for file in (tmp_path / "out").rglob("*.cost.json")]
    assert len(costs) == 3
    assert result["cost"]["seconds"] == pytest.approx(sum(costs), abs=0.01)  # of both attempts


def test_a_job_that_never_gets_to_run_is_given_up(tmp_path):
    one = runner(load_grid(write_grid(tmp_path, seeds(1))), tmp_path / "out")
    one.cluster.executor.python = "false"
    for _ in one.run():
        pass
    assert "ended without result or error" in next(iter(one.given_up.values()))


def test_an_attempt_goes_on_from_the_last_checkpoint(tmp_path):
    path = write_grid(tmp_path, {"kind": {"one": {"behaviour": "well"}}})
    (name,) = load_grid(path).trials
    earlier = tmp_path / "out" / "runs" / name / "attempt-1" / "version_0"
    earlier.mkdir(parents=True)
    (earlier / "last.ckpt").write_text("weights")
    program = tmp_path / "program.py"
    program.write_text(program.read_text() + "\nnote(options.get('ckpt_path', 'none'))\n")
    run(path, tmp_path / "out")
    assert f"{earlier / 'last.ckpt'} fit {name}" in (tmp_path / "ledger").read_text()


def test_two_runners_on_one_folder_run_nothing_twice(tmp_path):
    path = write_grid(tmp_path, seeds(5), {"seconds": 0.2})
    both = [start(path, tmp_path / "out") for _ in range(2)]
    assert [one.wait(timeout=120) for one in both] == [0, 0]
    assert len(results(load_grid(path), tmp_path / "out")) == 5
    assert max(Counter(ledger(tmp_path, "start")).values()) == 1
    assert not ledger(tmp_path, "overlap")


@pytest.mark.slow
@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.nightly)])
def test_kills_lose_no_result_and_repeat_none(tmp_path, kills):
    path, out, rng = write_grid(tmp_path, seeds(2 * kills), {"seconds": 0.3}), tmp_path / "out", random.Random(0)
    grid, known = load_grid(path), {}
    process = start(path, out)
    for kill in range(kills):
        time.sleep(rng.uniform(1.5, 3.5))
        _kill(process, whole=kill % 2 == 0, rng=rng)
        if process.poll() is not None:
            process = start(path, out)
        now = results(grid, out)
        assert now.items() >= known.items()  # none lost, none written again
        known = now
    assert process.wait(timeout=300) == 0
    assert results(grid, out).keys() == grid.trials.keys()
    assert results(grid, out).items() >= known.items()
    assert not ledger(tmp_path, "overlap")
    for _, name, began in starts(tmp_path):
        assert began < (out / "runs" / name / "result.json").stat().st_mtime  # nothing is begun of what is done


def _kill(process, whole, rng):
    """Kill the runner, or one of the processes that it started."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
        victim = psutil.Process(process.pid) if whole or not family else rng.choice(family)
        victim.send_signal(signal.SIGKILL)
        if whole:
            process.wait()
    except psutil.NoSuchProcess:
        pass


def test_while_a_verb_lives_nobody_else_takes_its_trial(tmp_path):
    path = write_grid(tmp_path, seeds(1), {"seconds": 2})
    (name,) = load_grid(path).trials
    process = start(path, tmp_path / "out")
    while not ledger(tmp_path, "start"):
        time.sleep(0.05)
    for one in psutil.Process(process.pid).children(recursive=True):
        if "program.py" not in " ".join(one.cmdline()):
            one.kill()
    process.kill()
    assert TrialFolder(tmp_path / "out" / "runs" / name).state == State.RUNNING
    run(path, tmp_path / "out")
    assert not ledger(tmp_path, "overlap")
    assert len(results(load_grid(path), tmp_path / "out")) == 1


def test_ctrl_c_stops_the_runs_and_the_same_command_goes_on(tmp_path):
    path = write_grid(tmp_path, seeds(2), {"seconds": 60})
    words = ["ablate", "--config", path, "--out", tmp_path / "out", "--allow_dirty", "--cluster.slots", 2]
    process = multiprocessing.get_context("fork").Process(target=_interruptible, args=(words, tmp_path / "said"))
    process.start()
    while len(ledger(tmp_path, "start")) < 2:
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGINT)
    process.join(30)
    assert process.exitcode == 130
    err = (tmp_path / "said").read_text()
    assert err.splitlines()[-1] == "stopped, its runs are stopped; the same command goes on."
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    one = runner(load_grid(path), tmp_path / "out")
    assert set(one.states.values()) == {State.WAITING}


def _interruptible(words, said):
    """The command line, in a fork, where Ctrl-C is heard even if the tests run in a shell's background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stderr = said.open("w")
    main(list(map(str, words)))


def test_a_finished_trial_does_not_leave_its_slot_taken(tmp_path):
    one = runner(load_grid(write_grid(tmp_path, seeds(4))), tmp_path / "out", slots=1)
    for _ in one.run():
        assert len(one.flights) <= 1
    assert one.free == [0]


def test_attempts_and_runs_go_by_their_numbers_whatever_the_clock_said(tmp_path):
    folder = TrialFolder(tmp_path)
    for attempt, version in ((2, 10), (2, 9), (10, 2), (10, 10), (10, 9)):  # each written at an earlier time than the one before
        path = tmp_path / f"attempt-{attempt}" / "runs" / f"version_{version}" / "last.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (2**33 - 99 * attempt - version,) * 2)
    for name in ("test.log", "fit.log"):
        (tmp_path / "attempt-10" / name).touch()
    assert newest(folder.attempts, "last.ckpt") == tmp_path / "attempt-10" / "runs" / "version_10" / "last.ckpt"
    assert newest(folder.attempts, "result.json") is None
    assert folder.stage == "test"
