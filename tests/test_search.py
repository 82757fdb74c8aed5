"""Searches, and runs that are known again under other words."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from audioldm_lit.ablation.grid_file import load_grid
from audioldm_lit.ablation.kinship import link_kin
from audioldm_lit.ablation.resolved import resolve
from audioldm_lit.ablation.results import collect
from audioldm_lit.ablation.runner import Runner
from audioldm_lit.ablation.search_space import Search, Span
from audioldm_lit.ablation.sheets import sheets
from audioldm_lit.ablation.study import Study
from audioldm_lit.ablation.trial_folder import State
from audioldm_lit.ablation.worker import run_trial
from audioldm_lit.errors import InputError

from grids import ledger, run, runner, seeds, write_grid
from runs import ESC50, REPOSITORY

LORA = REPOSITORY / "configs" / "adapter" / "lora.yaml"
RATES = {"lr": {"lr": {"log_uniform": [1e-5, 0.1]}}}


def run_here(path: Path, out: Path) -> None:
    """Run a grid in this process, as its jobs would."""
    ending = signal.getsignal(signal.SIGTERM)
    try:
        for name, trial in load_grid(path).trials.items():
            assert run_trial(trial, out / "runs" / name, {}) == State.DONE
    finally:
        signal.signal(signal.SIGTERM, ending)


def test_a_new_axis_reruns_none_of_twelve(tmp_path):
    first = {"lr": {"lr": [0.1, 0.01, 0.001, 0.0001]}, **seeds(3)}
    run_here(write_grid(tmp_path, first), tmp_path / "out")
    before = sorted(ledger(tmp_path, "start"))
    assert len(before) == 2 * 12
    # A new axis whose first level is the default, the others in another order, and a default written out.
    path = write_grid(tmp_path, {**seeds(3), "lr": first["lr"], "pace": {"seconds": [0, 0.01]}}, {"behaviour": "well"})
    grid = load_grid(path)
    assert link_kin(grid, tmp_path / "out") == (12, 0)
    done = {name for name, state in runner(grid, tmp_path / "out").states.items() if state == State.DONE}
    assert done == {name for name, trial in grid.trials.items() if trial.levels["pace"] == "0"}
    assert link_kin(grid, tmp_path / "out") == (0, 0)
    table = collect(grid, tmp_path / "out")
    assert table["value"].count() == 12
    assert set(table[table["state"] == "done"]["pace"]) == {"0"}
    narrower = load_grid(write_grid(tmp_path, {"lr": {"lr": [0.1, 0.5]}, **seeds(1)}))
    assert link_kin(narrower, tmp_path / "out")[1] == 11  # what no table shows any more is counted
    assert sorted(ledger(tmp_path, "start")) == before


def test_what_a_run_is_its_resolved_settings_say(tmp_path):
    plain = {"model.adapter": str(LORA), "model.seed": 1}
    content = {"base": str(ESC50), "set": plain, "axes": {"x": {"data.init_args.shots": [8]}}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(content))
    (trial,) = load_grid(tmp_path / "grid.yaml").trials.values()
    others = {
        "another order": dict(reversed(trial.settings.items())),
        "a default written out": {**trial.settings, "model.warmup_steps": 20, "trainer.max_steps": 400},
        "the base's value": {"model.seed": 1},
        "another value": {**trial.settings, "model.warmup_steps": 3},
        "no such setting": {**trial.settings, "model.warm": 3},
    }
    found = resolve({"it": trial, **{name: replace(trial, settings=settings) for name, settings in others.items()}})
    same = {name for name, answer in found.items() if answer == found["it"]}
    assert same == {"it", "another order", "a default written out", "the base's value"}
    assert isinstance(found["no such setting"], InputError)


def test_a_length_that_is_left_out_is_the_model_s(tmp_path, tiny_folder):
    """The command line says so, not the parser, whose default is another."""
    content = {"base": str(ESC50), "set": {"model.backbone": str(tiny_folder)}}
    earlier = tmp_path / "out" / "runs" / "earlier" / "attempt-1"
    earlier.mkdir(parents=True)
    (earlier / "run.json").write_text(json.dumps({"levels": {}, "settings": content["set"], "fit": True}))
    axes = {"length": {"data.init_args.duration": [5.12, 0.64]}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump({**content, "axes": axes}))
    assert link_kin(load_grid(tmp_path / "grid.yaml"), tmp_path / "out") == (1, 0)
    (link,) = [path for path in (tmp_path / "out" / "runs").iterdir() if path.is_symlink()]
    assert link.name.startswith("0.64-")


@given(low=st.floats(1e-8, 1e3), factor=st.floats(1.1, 1e6), log=st.booleans(), seed=st.integers(0, 99))
def test_points_lie_in_their_range_differ_and_more_of_them_keep_the_first(low, factor, log, seed):
    search = Search(5, seed, {"x": Span("x", low, low * factor, log)})
    drawn = [point["x"] for point in search.at_random()]
    assert all(low <= value <= low * factor for value in drawn)
    assert len(set(drawn)) == 5
    assert [point["x"] for point in replace(search, runs=9).at_random()][:5] == drawn


def test_a_factor_is_as_likely_as_any_other():
    drawn = [point["x"] for point in Search(3000, 0, {"x": Span("x", 1e-6, 1.0, log=True)}).at_random()]
    assert sum(value < 1e-3 for value in drawn) / 3000 == pytest.approx(0.5, abs=0.03)  # three standard deviations
    whole = [point["x"] for point in Search(4, 0, {"x": Span("x", 1, 4)}).at_random()]
    assert sorted(whole) == [1, 2, 3, 4]


def test_points_at_random_run_at_every_level_and_the_best_comes_first(tmp_path):
    ranges = {**RATES, "kind": {"kind": {"choice": ["a", "b"]}}}
    path = write_grid(tmp_path, seeds(2), search={"runs": 3, "ranges": ranges})
    done = run(path, tmp_path / "out")
    table = collect(done.grid, tmp_path / "out")
    assert table.groupby(["lr", "kind"])["seed"].nunique().tolist() == [2, 2, 2]
    (page,) = sheets(table, "loss", narrow=True, searched=done.grid.search.ranges)
    assert page.columns[:2] == ["lr", "kind"]
    means = [float(row[2].split()[0]) for row in page.rows]
    assert means == sorted(means)
    best = table.loc[table["held_out_loss"].idxmin()]
    assert f"has lr {best['lr']}, kind {best['kind']}" in page.notes[0]


SAMPLED = {
    "runs": 4,
    "seed": 3,
    "ranges": RATES,
    "sampler": "optuna.samplers.RandomSampler",
    "pruner": {"class_path": "optuna.pruners.ThresholdPruner", "init_args": {"upper": 8.0}},
}


def searched(path: Path, out: Path) -> Runner:
    grid = load_grid(path)
    study = Study(grid, out)
    one = runner(replace(grid, trials=study.trials), out)
    one.study = study
    for _ in one.run():
        pass
    return one


def test_a_study_draws_prunes_remembers_and_goes_on(tmp_path):
    pruner = {"class_path": "optuna.pruners.ThresholdPruner", "init_args": {"upper": 1.0, "n_warmup_steps": 1}}
    search = {**SAMPLED, "sampler": "optuna.samplers.TPESampler", "pruner": pruner}
    path = write_grid(tmp_path, {}, {"seconds": 2}, search=search)
    done = searched(path, tmp_path / "out")
    assert len(done.states) == 4
    for name, trial in done.grid.trials.items():
        hopeless = not 1e-4 <= trial.settings["lr"] <= 1e-2  # the stand-in's loss is above 1 there
        assert done.states[name] == (State.PRUNED if hopeless else State.DONE)
    assert set(done.states.values()) == {State.PRUNED, State.DONE}
    table = collect(done.grid, tmp_path / "out")
    assert set(table["state"]) == {"pruned", "done"}
    assert table[table["state"] == "pruned"]["error"].str.contains("pruned at step 1, val/loss").all()
    before = ledger(tmp_path, "start")
    again = searched(path, tmp_path / "out")
    assert again.states == done.states
    assert ledger(tmp_path, "start") == before
    assert {one.state for one in again.study.study.trials} == {optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.COMPLETE}
    more = searched(write_grid(tmp_path, {}, {"seconds": 2}, search={**search, "runs": 5}), tmp_path / "out")
    assert more.states.items() > done.states.items()
    assert len({trial.settings["lr"] for trial in more.grid.trials.values()}) == 5
    other = write_grid(tmp_path, {}, {"seconds": 2}, search={**search, "ranges": {"lr": {"lr": {"uniform": [0.1, 0.2]}}}})
    with pytest.raises(InputError, match=r"study\.log: is of another search"):
        Study(load_grid(other), tmp_path / "out")


def test_a_killed_study_goes_on_with_what_it_had_drawn(tmp_path):
    grid = load_grid(write_grid(tmp_path, {}, search=SAMPLED))
    drawn = [Study(grid, tmp_path / "out").ask().id for _ in range(2)]  # a process each, which then ends
    done = searched(tmp_path / "grid.yaml", tmp_path / "out")
    assert list(done.states)[:2] == drawn
    assert set(done.states.values()) == {State.DONE}
    assert [one.value for one in done.study.study.trials] == [
        json.loads(folder.result_file.read_text())["result"]["held_out_loss_after"] for folder in done.folders.values()
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ranges": {}}, "search: has no ranges"),
        ({"ranges": {"lr": {"lr": [1, 2]}}}, "ranges.lr: is no range"),
        ({"ranges": {"lr": {"lr": {"normal": [1, 2]}}}}, "ranges.lr: is no range"),
        ({"ranges": {"lr": {"lr": {"uniform": [2, 1]}}}}, "is uniform [2, 1]; give a lower and a higher number"),
        ({"ranges": {"lr": {"lr": {"log_uniform": [0, 1.0]}}}}, "both above 0"),
        ({"ranges": {"lr": {"lr": {"uniform": ["a", "b"]}}}}, "is uniform"),
        ({"ranges": {"lr": {"lr": {"choice": [1]}}}}, "fewer than two values"),
        ({"ranges": {"lr": {"lr": {"choice": [1, 1]}}}}, "has '1' twice"),
        ({"ranges": {"lr": {"lr": {"choice": [1, 2]}}}}, "has 2 points for 4 runs"),
        ({"ranges": {**RATES, "rate": {"lr": {"uniform": [0, 1.0]}}}}, "'lr' and 'rate' both change lr"),
        ({"ranges": {"seed": {"lr": {"uniform": [0, 1.0]}}}, "axes": seeds(2)}, "'seed' is an axis and a range"),
        ({"ranges": {"loss": {"lr": {"uniform": [0, 1.0]}}, "value": {"x": {"uniform": [0, 1.0]}}}}, "cannot be called 'value'"),
        ({"runs": 0}, "search.runs: is 0"),
        ({"runs": True}, "search.runs: is True"),
        ({"tries": 3}, "unknown key 'tries'"),
        ({"pruner": "optuna.pruners.MedianPruner"}, "has a pruner and no sampler"),
        ({"sampler": "optuna.samplers.TPESampler", "axes": seeds(2)}, "has a sampler, and the axis 'seed'"),
        ({"axes": {"arm": {"base": {"fit": False}, "lora": {}}}}, "the level 'base' does not train"),
        ({"sampler": "optuna.samplers.Nothing"}, "sampler"),
        ({"sampler": "optuna.pruners.MedianPruner"}, "sampler"),
        ({"sampler": {"class_path": "optuna.samplers.TPESampler", "init_args": {"speed": 3}}}, "speed"),
    ],
)
def test_a_wrong_search_is_named_before_anything_runs(tmp_path, changes, reason):
    axes = changes.pop("axes", {})
    path = write_grid(tmp_path, axes, search={"runs": 4, "ranges": RATES, **changes})
    with pytest.raises(InputError) as caught:
        Study(load_grid(path), tmp_path / "out")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
