"""Every YAML under configs/ is a case, found by glob."""

from pathlib import Path

import pytest
import yaml

import layouts
from runs import EMBEDDED, REPOSITORY, SHORT, arguments

CONFIGS = sorted((REPOSITORY / "configs").rglob("*.yaml"))
WHOLE = [path for path in CONFIGS if path.parent.name in ("configs", "experiment")]
BLOCKS = [path for path in CONFIGS if path.parent.name in ("adapter", "data", "objective", "protocol")]
FETCHED = {"audioldm-2023.yaml": "Cnn14_16k_mAP=0.438.pth", "retention.yaml": "laion/clap-htsat-unfused"}  # published weights


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY / "configs"))


def make_data(config: Path, root: Path) -> dict:
    block = yaml.safe_load(config.read_text())["data"]
    layout = block["class_path"].rpartition(".")[2].lower()
    return {**getattr(layouts, layout)(root), "shots": 2}


def test_every_file_is_a_case():
    assert set(CONFIGS) == set(WHOLE) | set(BLOCKS)


@pytest.mark.slow
@pytest.mark.parametrize("config", WHOLE, ids=name)
@pytest.mark.parametrize("verb", ["fit", "test", "predict"])
def test_experiment_runs(config, verb, workdir, tiny_folder, cli, aisfx_at_hand):
    options = [*arguments(tiny_folder, make_data(config, workdir / "data"), config=config), "--model.protocol", EMBEDDED]
    status, _, err = cli(verb, *options, "--trainer.fast_dev_run", "true")
    assert status == 0, err


@pytest.mark.parametrize("config", BLOCKS, ids=name)
def test_block_fits_into_an_experiment(config, workdir, tiny_folder, cli, aisfx_at_hand):
    options = arguments(tiny_folder, {**layouts.esc50(workdir / "data"), "shots": 2})
    if config.parent.name == "data":
        options = ["--config", str(WHOLE[-1]), "--data", str(config), "--data.init_args.duration", str(SHORT), "--print_config"]
    else:
        options += [f"--model.{config.parent.name}", str(config), "--trainer.fast_dev_run", "true"]
    status, _, err = cli("fit", *options)
    if config.name in FETCHED:
        assert status == 2
        assert FETCHED[config.name] in err.splitlines()[-1]
    else:
        assert status == 0, err
