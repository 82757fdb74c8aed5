"""From a YAML to trials."""

import itertools
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from audioldm_lit.ablation.check import check_settings
from audioldm_lit.ablation.grid import PROGRAM, Trial
from audioldm_lit.ablation.grid_file import load_grid
from audioldm_lit.errors import InputError

from runs import ESC50, REPOSITORY

GRIDS = sorted((REPOSITORY / "configs" / "ablation").glob("*.yaml"))
LORA = REPOSITORY / "configs" / "adapter" / "lora.yaml"


@pytest.fixture
def grid(tmp_path):
    """Writes a grid and reads it."""

    def read(changes=(), **content):
        path = tmp_path / "grid.yaml"
        path.write_text(yaml.safe_dump({"base": str(ESC50), "axes": {"seed": {"model.seed": [1, 2]}}, **content}, sort_keys=False))
        return load_grid(path, changes)

    return read


def test_axes_multiply(grid):
    axes = {"seed": {"model.seed": [1, 2, 3]}, "lr": {"model.optimizer.init_args.lr": [1e-3, 1e-4]}}
    trials = grid(axes=axes).trials
    assert len(trials) == 6
    found = {(one.settings["model.seed"], one.settings["model.optimizer.init_args.lr"]) for one in trials.values()}
    assert found == set(itertools.product([1, 2, 3], [1e-3, 1e-4]))


def test_keys_of_one_axis_move_together(grid):
    trials = grid(axes={"seed": {"model.seed": [1, 2], "data.init_args.seed": [7, 8]}}).trials.values()
    assert [(one.settings["model.seed"], one.settings["data.init_args.seed"]) for one in trials] == [(1, 7), (2, 8)]


def test_excluded_combinations_are_left_out(grid):
    axes = {"strategy": {"base": {"fit": False}, "lora": {"model.adapter": str(LORA)}}, "seed": {"model.seed": [1, 2, 3]}}
    trials = grid(axes=axes, exclude=[{"strategy": "base", "seed": [2, 3]}]).trials.values()
    assert [tuple(one.levels.values()) for one in trials] == [("base", "1"), ("lora", "1"), ("lora", "2"), ("lora", "3")]
    assert [one.fit for one in trials] == [False, True, True, True]


def test_a_level_overrides_what_is_set_for_all_and_the_command_line_what_the_file_sets(grid):
    content = {"set": {"trainer.max_steps": 5, "model.warmup_steps": 1}, "axes": {"length": {"trainer.max_steps": [10]}}}
    (trial,) = grid(["model.warmup_steps=9"], **content).trials.values()
    assert trial.settings == {"trainer.max_steps": 10, "model.warmup_steps": 9}


def extending(folder: Path, **contents: dict) -> None:
    for name, content in contents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


FIRST = {
    "name": "first",
    "base": str(ESC50),
    "set": {"model.warmup_steps": 1, "trainer.max_steps": 5},
    "axes": {"seed": {"model.seed": [1, 2, 3]}},
    "exclude": {"seed": 3},
}


def test_a_grid_takes_what_it_lacks_from_the_one_it_extends(tmp_path):
    second = {"extends": "first.yaml", "set": {"trainer.max_steps": 9}}
    extending(tmp_path, first=FIRST, second=second, third={"extends": "second.yaml", "axes": {"seed": {"model.seed": [3, 4]}}})
    first, second, third = (load_grid(tmp_path / f"{name}.yaml") for name in ("first", "second", "third"))
    written_out = {**FIRST, "set": {"model.warmup_steps": 1, "trainer.max_steps": 9}}
    extending(tmp_path, whole=written_out)
    assert second.trials == load_grid(tmp_path / "whole.yaml").trials
    assert (first.name, second.name, third.name) == ("first", "second", "third")
    assert [trial.levels["seed"] for trial in third.trials.values()] == ["3", "4"]  # what was excluded belongs to other axes
    assert {trial.settings["trainer.max_steps"] for trial in third.trials.values()} == {9}
    assert third.files == first.files


@pytest.mark.parametrize("name", ["first.yaml", "../grids/second.yaml", "nowhere.yaml", 3])
def test_a_grid_extends_another_of_its_folder_and_not_itself(tmp_path, name):
    (tmp_path / "grids").mkdir()
    extending(tmp_path / "grids", first={**FIRST, "extends": "second.yaml"}, second={"extends": name})
    with pytest.raises(InputError, match=r"second\.yaml: extends: "):
        load_grid(tmp_path / "grids" / "second.yaml")


def test_an_environment_variable_gives_a_value(grid, monkeypatch):
    monkeypatch.setenv("RECORDINGS", "/sounds")
    trial = next(iter(grid(set={"data.init_args.root": "${oc.env:RECORDINGS}"}).trials.values()))
    assert trial.settings["data.init_args.root"] == "/sounds"


@given(
    st.dictionaries(st.text("abc.", min_size=1), st.integers() | st.floats(allow_nan=False) | st.text() | st.booleans(), max_size=4)
)
def test_the_id_depends_on_the_settings_alone(settings):
    one = Trial({"seed": "1"}, settings)
    assert one.id == Trial({"seed": "1"}, dict(reversed(settings.items()))).id
    assert one.id != Trial({"seed": "1"}, {**settings, "another": 1}).id
    assert "/" not in Trial({"lr": "a/b c"}, settings).id


def test_few_representatives_show_every_setting(grid):
    axes = {
        "seed": {"model.seed": list(range(50))},
        "length": {"trainer.max_steps": list(range(1, 6))},
        "precision": {"trainer.precision": ["32-true", "bf16-mixed"]},
        "strategy": {"base": {"fit": False}, "lora": {"model.adapter": str(LORA)}},
    }
    shown = grid(axes=axes).representatives()
    assert {one.settings["trainer.precision"] for one in shown} == {"32-true", "bf16-mixed"}
    assert {one.fit for one in shown} == {True, False}
    assert any("model.adapter" in one.settings for one in shown)
    assert len(shown) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"axis": {}}, "unknown key 'axis'"),
        ({"axes": {}}, "has no `axes`"),
        ({"axes": {"seed": {}}}, "axes.seed: is empty"),
        ({"axes": {"seed": {"model.seed": []}}}, "a list is empty"),
        ({"axes": {"seed": {"model.seed": [1, 1]}}}, "the level '1' twice"),
        ({"axes": {"seed": {"model.seed": [1, 2], "data.init_args.seed": [1]}}}, "the lists differ in length, model.seed 2"),
        ({"axes": {"a": {"model.seed": [1]}, "b": {"model.seed": [2]}}}, "'a' and 'b' both change model.seed"),
        (
            {"axes": {"a": {"x": {"model.seed": 1}, "y": {"model.seed": 1}}, "b": {"z": {}}}, "exclude": [{"c": 1}]},
            "'c' is no axis",
        ),
        ({"exclude": [{"seed": 3}]}, "'3' is no level of seed"),
        ({"exclude": [{"seed": [1, 2]}]}, "leaves no run"),
        ({"axes": {"steps": {"trainer.max_steps": [1]}}}, "cannot be called 'steps'"),
        ({"axes": {"seeds": {"trainer.max_steps": [1]}}}, "cannot be called 'seeds'"),
        ({"name": 2024}, "name is 2024; give a word without a slash"),
        ({"name": "../elsewhere"}, "name is '../elsewhere'"),
        ({"axes": {"a": {"x" * 300: {"model.seed": 1}}}}, "longer than 255 bytes"),
        ({"axes": {"it's": {"trainer.max_steps": [1]}}}, "cannot be called 'it's'"),
        ({"axes": ["seed"]}, "has no `axes`"),
        ({"axes": {"a": {"x": {"fit": "no"}}}}, "fit is 'no'; give true or false"),
        (
            {"axes": {"r": {"m.options.r": [1, 2]}, "m": {"m.options": [{"r": 3}]}}},
            "m.options comes after m.options.r and would undo it",
        ),
        ({"exclude": [{"seed": []}]}, "without axes or levels"),
        ({"exclude": 3}, "without axes or levels"),
        ({"base": None}, "names no config"),
        ({"base": "nowhere.yaml"}, "'nowhere.yaml'"),
        ({"base": []}, "names no config"),
        ({"base": 5}, "base: names '5'"),
        ({"set": {"model.adapter": "nowhere.yaml"}}, "set: model.adapter: names 'nowhere.yaml'"),
        ({"set": {"data.init_args.root": "${oc.env:NOT_SET_ANYWHERE}"}}, "NOT_SET_ANYWHERE"),
    ],
)
def test_what_is_wrong_is_named(grid, content, reason):
    with pytest.raises(InputError, match=r"grid\.yaml") as caught:
        grid(**content)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_change_of_what_an_axis_changes_is_refused(grid):
    with pytest.raises(InputError, match=r"--set: model\.seed is changed by the axis 'seed'"):
        grid(["model.seed=7"])


@pytest.mark.parametrize("text", ["{a: [}", "!!int ''"])
def test_a_change_that_cannot_be_read_is_refused(grid, text):
    with pytest.raises(InputError, match=r"--set: the value of data\.x cannot be read"):
        grid([f"data.x={text}"])


def test_what_is_no_text_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no valid grid"):
        load_grid(tmp_path)
    (tmp_path / "grid.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no valid grid"):
        load_grid(tmp_path / "grid.yaml")


def test_a_grid_that_moves_with_its_files_has_the_same_trials(tmp_path, monkeypatch):
    found = []
    for name in ("here", "there"):
        folder = tmp_path / name
        (folder / "adapter").mkdir(parents=True)
        (folder / "adapter" / "a.yaml").write_text("class_path: A")
        (folder / "base.yaml").write_text("model: {adapter: adapter/a.yaml}")
        axes = {"adapter": {"model.adapter": ["adapter/a.yaml"]}, "seed": {"model.seed": [1]}}
        (folder / "grid.yaml").write_text(yaml.safe_dump({"base": "base.yaml", "axes": axes}))
        monkeypatch.chdir(folder)
        found.append(load_grid(folder / "grid.yaml", ["model.protocol=adapter/a.yaml"]))
    here, there = found
    assert here.trials.keys() == there.trials.keys()
    assert here.files == there.files
    (trial,) = there.trials.values()
    assert f"--model.adapter={tmp_path / 'there' / 'adapter' / 'a.yaml'}" in trial.arguments(tmp_path)


def test_files_that_a_base_names_belong_to_the_grid(grid):
    files = [Path(name).name for name in grid().files]
    assert files == ["esc50_lora_8shot.yaml", "lora.yaml"]


def test_a_number_is_the_same_in_the_file_and_on_the_command_line(grid):
    (one, _), (other, _) = grid(set={"model.lr": 1.0e-3}).trials, grid(["model.lr=1e-3"]).trials
    assert one == other


def test_a_change_without_a_value_is_refused(grid):
    with pytest.raises(InputError, match=r"'model\.seed' is no key=value"):
        grid(["model.seed"])


def test_an_unknown_setting_is_refused_before_anything_runs(grid):
    with pytest.raises(InputError, match=r"is refused .*model\.adaptr"):
        check_settings(grid(axes={"strategy": {"lora": {"model.adaptr": str(LORA)}}}))


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_shipped_grid_is_understood(path):
    grid = load_grid(path)
    assert path.read_text().startswith("# Claim: ")
    assert all(trial.program == PROGRAM for trial in grid.trials.values())
    check_settings(grid)


def test_a_thousand_runs_are_planned_one_by_one(grid):
    trials = grid(axes={"seed": {"model.seed": list(range(50))}, "length": {"trainer.max_steps": list(range(1, 21))}}).trials
    assert len(trials) == 1000
    assert all(name == trial.id for name, trial in trials.items())
