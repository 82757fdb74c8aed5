"""The verb `ablate` with real trainings of the tiny model."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

import layouts
from grids import seeds, write_grid
from runs import EMBEDDED, ESC50, REPOSITORY, arguments

ADAPTERS = REPOSITORY / "configs" / "adapter"


def settings(model: Path, data: dict, steps: int = 2) -> dict[str, object]:
    """Those of a run of seconds, by dotted key."""
    words = arguments(model, {**data, "shots": 2}, steps)
    pairs = {key.removeprefix("--"): value for key, value in zip(words[::2], words[1::2], strict=True)}
    return {key: yaml.safe_load(value) for key, value in pairs.items() if key != "config"}


@pytest.fixture
def grid(workdir, tiny_folder) -> dict:
    """Base on two seeds, and LoRA on one."""
    return {
        "base": str(ESC50),
        "set": settings(tiny_folder, layouts.esc50(workdir / "data")),
        "axes": {
            "strategy": {"base": {"fit": False}, "lora": {"model.adapter": str(ADAPTERS / "lora.yaml")}},
            "seed": {"model.seed": [1, 2]},
        },
        "exclude": [{"strategy": "lora", "seed": 2}],
    }


def write(content: dict) -> Path:
    Path("grid.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return Path("grid.yaml")


@pytest.mark.nightly
def test_a_grid_becomes_one_table(grid, cli, aisfx_at_hand):
    grid["set"]["model.protocol"] = EMBEDDED
    status, out, err = cli("ablate", "--config", write(grid), "--out", "out", "--cluster.slots", 2, "--allow_dirty")
    assert status == 0, err
    assert "lora against base" in out
    table = pd.read_csv("out/results.csv", dtype={"seed": str})
    assert set(table["metric"]) >= {"loss", "kad", "fad", "is"}
    assert table.groupby("metric")["run"].nunique().eq(3).all()
    assert table.groupby("metric")["passport"].nunique().eq(1).all()  # seeds are repetitions, not other protocols
    lora = table[table["strategy"] == "lora"]
    assert (lora["steps"] == 2).all()
    assert (lora["trained_weights"] > 0).all()
    assert (table["peak_memory_gb"] > 0.1).all()
    run = json.loads(next(Path("out/runs").glob("lora-1-*/attempt-1/run.json")).read_text())
    assert run["settings"]["model.seed"] == 1
    assert run["versions"]["torch"]
    assert len({path.parts[2] for path in Path("out/runs").glob("*/attempt-1/**/config.yaml")}) == 3
    before = {path: path.read_bytes() for path in Path("out/runs").glob("*/result.json")}
    status, markdown, _ = cli("ablate", "--config", "grid.yaml", "--out", "out", "--table", "markdown")
    assert status == 0
    assert markdown.startswith("**mean over seeds")
    assert {path: path.read_bytes() for path in Path("out/runs").glob("*/result.json")} == before


TWO_PROCESSES = """
import json
import sys
from pathlib import Path

verb, options = sys.argv[1], dict(word.removeprefix("--").split("=", 1) for word in sys.argv[2:])
folder = Path(options["trainer.logger.init_args.save_dir"])
if verb == "fit":
    import torch
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    ranks = fabric.all_reduce(torch.tensor(1.0 + fabric.global_rank), reduce_op="sum")
    result = {"checkpoint": str(folder / "last.ckpt"), "steps": int(ranks), "training_clips": 4, "trained_weights": 10}
    (folder / "result.json").write_text(json.dumps(result))
else:
    loss = {"value": 1.0, "interval": None, "n_clips": 9, "higher_is_better": False, "passport": "one"}
    (folder / "test.json").write_text(json.dumps({"loss": loss, "metrics": {}, "not_computed": {}, "passport": {}}))
"""


@pytest.mark.nightly
def test_two_runs_of_two_processes_each(workdir, cli):
    """As Lightning starts them, both runs at once."""
    path = write_grid(workdir, seeds(2))
    (workdir / "program.py").write_text(TWO_PROCESSES)
    status, _, err = cli("ablate", "--config", path, "--out", "out", "--cluster.slots", 2, "--allow_dirty")
    assert status == 0, err
    found = [json.loads(file.read_text()) for file in Path("out/runs").glob("*/attempt-1/result.json")]
    assert [result["steps"] for result in found] == [1 + 2, 1 + 2]


@pytest.mark.nightly
def test_dry_run_times_the_base_and_runs_nothing(grid, cli):
    status, out, err = cli("ablate", "--config", write(grid), "--out", "out", "--dry_run")
    assert status == 0, err
    assert out.count("waiting") == 3
    assert "to go on machines like this one" in out
    assert not Path("out").exists()


def test_an_unknown_setting_runs_nothing(grid, cli):
    grid["axes"]["strategy"]["lora"] = {"model.adaptr": str(ADAPTERS / "lora.yaml")}
    status, _, err = cli("ablate", "--config", write(grid), "--out", "out", "--allow_dirty")
    assert status == 2
    assert "model.adaptr" in err.splitlines()[-1]
    assert not Path("out").exists()


def test_a_tree_with_changes_is_refused_unless_told(workdir, cli):
    path = write_grid(workdir, seeds(1))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "add", "base.yaml", "program.py", "grid.yaml"], check=True)
    subprocess.run([*git, "commit", "-qm", "Begin"], check=True)
    path.write_text(path.read_text() + "# changed\n")
    status, _, err = cli("ablate", "--config", path, "--out", "out")
    assert status == 2
    assert "changes that are not committed" in err
    assert not Path("out").exists()
    assert cli("ablate", "--config", path, "--out", "out", "--allow_dirty")[0] == 0


def test_files_that_change_between_runs_are_refused(workdir, cli):
    path = write_grid(workdir, seeds(1))
    assert cli("ablate", "--config", path, "--out", "out", "--allow_dirty")[0] == 0
    Path("base.yaml").write_text("trainer: {max_steps: 3}\n")
    status, _, err = cli("ablate", "--config", path, "--out", "out", "--allow_dirty")
    assert status == 2
    assert "base.yaml: has changed since the first runs of" in err


def test_set_may_be_given_several_times(workdir, cli):
    path = write_grid(workdir, seeds(1))
    assert cli("ablate", "--config", path, "--out", "out", "--allow_dirty", "--set", "one=1", "--set", "two=2")[0] == 0
    (run,) = [json.loads(file.read_text()) for file in Path("out").glob("runs/*/attempt-1/run.json")]
    assert (run["settings"]["one"], run["settings"]["two"]) == (1, 2)


def test_failed_runs_are_tried_again_when_told(workdir, cli):
    path = write_grid(workdir, {"kind": {"one": {"behaviour": "fail"}}})
    status, _, err = cli("ablate", "--config", path, "--out", "out", "--allow_dirty")
    assert status == 2
    assert "1 of 1 runs failed, see above; mend it and give --retry" in err
    program = workdir / "program.py"
    program.write_text(program.read_text().replace("the moon is full", "it rains"))
    Path("out/files.json").unlink()
    _, _, err = cli("ablate", "--config", path, "--out", "out", "--allow_dirty")
    assert "the moon is full" in err
    _, _, err = cli("ablate", "--config", path, "--out", "out", "--allow_dirty", "--retry")
    assert "it rains" in err


def test_a_metric_that_no_run_has_is_named_after_the_runs(workdir, cli):
    path = write_grid(workdir, seeds(1))
    status, out, err = cli("ablate", "--config", path, "--out", "out", "--allow_dirty", "--metric", "kat")
    assert status == 2
    assert "loss" in out
    assert "--metric: is 'kat', but the runs have loss" in err
    assert list(Path("out").glob("runs/*/result.json"))


def test_a_table_of_nothing_says_so(workdir, cli):
    status, _, err = cli("ablate", "--config", write_grid(workdir, seeds(1)), "--out", "out", "--table", "markdown")
    assert status == 2
    assert "no run of grid is done" in err


def test_results_that_cannot_be_written_are_named(workdir, cli):
    path = write_grid(workdir, seeds(1))
    Path("out").mkdir()
    Path("out/results.csv").mkdir()
    status, _, err = cli("ablate", "--config", path, "--out", "out", "--allow_dirty")
    assert status == 2
    assert "results.csv: cannot be written" in err
    assert list(Path("out").glob("runs/*/result.json"))  # what ran is not lost
