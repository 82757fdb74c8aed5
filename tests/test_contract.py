"""The promise of the README: a new trick is one file anywhere and one YAML, and no edit elsewhere."""

import json
import re
import runpy
import shlex
from pathlib import Path

import pandas as pd
import pytest

import layouts
from runs import REPOSITORY, SHORT, run_folder

SHORTER = """
trainer:
  {{accelerator: cpu, precision: 32-true, max_steps: 2, val_check_interval: 1, log_every_n_steps: 1, enable_progress_bar: false}}
audition: {{count: 0}}
dials: {{count: 0}}
data: {{init_args: {{root: {root}, duration: {duration}}}}}
model: {{backbone: {model}, sampler: {{num_inference_steps: 2}}}}
"""

QUICK = {
    "trainer.max_steps": 2, "trainer.val_check_interval": 2, "trainer.log_every_n_steps": 1, "trainer.accelerator": "cpu",
    "trainer.precision": "32-true", "trainer.enable_progress_bar": "false", "model.sampler.num_inference_steps": 2,
    "model.val_timesteps": 1, "audition.count": 0, "dials.count": 0,
}  # fmt: skip


def recipes() -> tuple[dict[str, str], list[str]]:
    """The files of the README's recipes by name, and the command that trains with them."""
    section = (REPOSITORY / "README.md").read_text().split("## Add your own")[1].split("\n## ")[0]
    files = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", section, re.DOTALL))
    (command,) = re.findall(r"```bash\n(.*?)\n```", section, re.DOTALL)
    return files, shlex.split(command)


@pytest.fixture
def copied(workdir, tiny_folder) -> list[str]:
    """The recipes in an empty folder; returns the command."""
    files, command = recipes()
    assert {Path(name).suffix for name in files} == {".py", ".yaml"}
    assert command[:4] == ["python", "-m", "audioldm_lit", "fit"]
    for name, text in files.items():
        (workdir / name).write_text(text)
    root = layouts.esc50(workdir / "recordings", takes=1)["root"]
    (workdir / "shorter.yaml").write_text(SHORTER.format(root=root, model=tiny_folder, duration=SHORT))
    return command


@pytest.mark.slow
def test_the_recipes_of_the_readme_train_as_they_stand(workdir, copied, cli, monkeypatch):
    monkeypatch.syspath_prepend(workdir)  # as `python -m` does with the current folder
    options = [*copied[4:], "--config", "shorter.yaml"]
    status, _, err = cli("fit", *options)
    assert status == 0, err
    folder = run_folder(workdir)
    result = json.loads((folder / "result.json").read_text())
    assert result["held_out_loss_after"] != result["held_out_loss_before"]
    _, out, _ = cli("test", *options, "--ckpt_path", folder / "checkpoints" / "last.ckpt")
    assert "test/level" in out


@pytest.mark.nightly
def test_the_recipes_of_the_docs_run_as_they_stand(workdir, tiny_folder, cli, monkeypatch, capfd):
    """One run of a grid: a program with a model class, a cluster, an objective, an extractor and a metric of one's own."""
    text = (REPOSITORY / "docs" / "own.md").read_text()
    for name, content in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", text, re.DOTALL):
        (workdir / name).write_text(content)
    (command,) = re.findall(r"```bash\n(.*?)\n```", text, re.DOTALL)
    root = layouts.folder(workdir / "recordings")["root"]
    monkeypatch.syspath_prepend(workdir)
    runpy.run_path("ownscore.py")
    assert float(capfd.readouterr().out) == pytest.approx(20, abs=1)
    settings = {"data.init_args.root": root, "data.init_args.duration": SHORT, "model.backbone": tiny_folder, **QUICK}
    changes = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    status, _, err = cli(*shlex.split(command)[3:], *changes, "--allow_dirty", "--out", "out")
    assert status == 0, err
    table = pd.read_csv("out/results.csv")
    assert set(table["metric"]) == {"loss", "bands"}
    assert (table["state"] == "done").all()
    logged = [pd.read_csv(path) for path in Path("out").rglob("metrics.csv")]  # of fit, and of test
    assert any("train/size" in table and table["train/size"].notna().any() for table in logged)
