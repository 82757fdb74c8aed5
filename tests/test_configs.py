"""Every YAML under configs/ is a case, found by glob."""

from pathlib import Path
from typing import get_args

import pytest
import yaml

from audioldm_lit.data.pairs import write_pairs
from audioldm_lit.evaluation.protocol import ProtocolName

import layouts
from runs import EMBEDDED, REPOSITORY, arguments

FILES = sorted((REPOSITORY / "configs").rglob("*.yaml"))
CONFIGS = [path for path in FILES if path.parent.name != "ablation"]  # grids are cases of test_grid.py
WHOLE = [path for path in CONFIGS if path.parent.name in ("configs", "experiment")]
DATA = [path for path in CONFIGS if path.parent.name == "data"]
FOLDERS = ("adapter", "augmentation", "conditioning", "logger", "lr_scheduler", "objective", "phrasing", "sampler")
OF = {"augmentation": "data.init_args", "logger": "trainer", "phrasing": "data.init_args"}  # whose part it is, else the model's
BLOCKS = [path for path in CONFIGS if path.parent.name in FOLDERS]
TRICKS = (REPOSITORY / "configs" / "ablation" / "tricks_esc10.yaml").read_text()
SCRATCH = ["--model.adapter", REPOSITORY / "configs" / "adapter" / "scratch.yaml"]
INVERSION = ["--data.init_args.phrasing", REPOSITORY / "configs" / "phrasing" / "inversion.yaml"]
NEEDED = {
    "adapter/decoder.yaml": ["--model.objective", REPOSITORY / "configs" / "objective" / "decoder.yaml"],
    "adapter/pivotal.yaml": INVERSION,
    "adapter/textual_inversion.yaml": INVERSION,
    "objective/clean.yaml": SCRATCH,
    "objective/decoder.yaml": ["--model.adapter", REPOSITORY / "configs" / "adapter" / "decoder.yaml"],
    "objective/flow_matching.yaml": SCRATCH,
    "objective/preference.yaml": ["--model.objective.init_args.pairs", "pairs.csv"],
    "objective/prior_preservation.yaml": ["--model.objective.init_args.clips", "2"],
    "objective/replay.yaml": ["--model.objective.init_args.clips", "2"],
    "objective/velocity.yaml": SCRATCH,
}
THERE = {"objective/decoder.yaml", "objective/velocity.yaml"}  # whose runs are that of the decoder's adapter and an experiment's
BESIDE = {*NEEDED, "augmentation/time_mask.yaml"} - THERE
WEIGHTS = {"audioldm-2023": "Cnn14_16k_mAP=0.438.pth", "retention": "laion/clap-htsat-unfused"}  # published ones, that are not here


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY / "configs"))


def make_data(config: Path, root: Path) -> dict:
    block = yaml.safe_load(config.read_text())["data"]
    layout = block["class_path"].rpartition(".")[2].lower()
    return getattr(layouts, layout)(root)


def test_every_file_is_a_case():
    assert set(CONFIGS) == set(WHOLE) | set(DATA) | set(BLOCKS)


@pytest.mark.slow
@pytest.mark.parametrize("config", WHOLE, ids=name)
@pytest.mark.parametrize("verb", ["fit", *(pytest.param(verb, marks=pytest.mark.nightly) for verb in ("test", "predict"))])
def test_experiment_runs(config, verb, workdir, tiny_folder, cli, aisfx_at_hand):
    options = [*arguments(tiny_folder, {**make_data(config, workdir / "data"), "shots": 2}, config=config)]
    options += ["--model.protocol", EMBEDDED] * (verb == "fit")  # what it needs is loaded before training
    status, _, err = cli(verb, *options, "--trainer.fast_dev_run", "true")
    assert status == 0, err


@pytest.mark.parametrize("config", DATA, ids=name)
def test_every_data_set_trains_by_its_own_file(config, workdir, tiny_folder, cli):
    options = arguments(tiny_folder, make_data(config, workdir / "data"), config=config)
    status, _, err = cli("fit", *options, "--trainer.fast_dev_run", "true")
    assert status == 0, err


@pytest.mark.parametrize("config", DATA, ids=name)
def test_a_data_set_takes_the_place_of_an_experiment_s(config, workdir, cli):
    status, out, err = cli("fit", "--config", WHOLE[-1], "--config", config, "--print_config")
    assert status == 0, err
    assert yaml.safe_load(config.read_text())["data"]["class_path"] in out


def block(config: Path) -> list[object]:
    """Options that put it into an experiment."""
    key = f"{OF.get(config.parent.name, 'model')}.{config.parent.name}"
    return ["--model.time_mask" if config.stem == "time_mask" else f"--{key}", config, *NEEDED.get(name(config), [])]


@pytest.mark.parametrize("config", [path for path in BLOCKS if f"../{name(path)}" not in TRICKS], ids=name)
def test_block_fits_into_an_experiment(config, cli):
    """Whether it trains is asked of all of its kind by the tests of that kind; those of a grid fit into it in test_grid.py."""
    status, out, err = cli("fit", "--config", WHOLE[-1], *block(config), "--print_config")
    assert status == 0, err
    assert yaml.safe_load(config.read_text())["class_path"] in out


@pytest.mark.parametrize("config", [path for path in BLOCKS if name(path) in BESIDE], ids=name)
def test_block_that_needs_another_trains_beside_it(config, workdir, tiny_folder, cli):
    options = arguments(tiny_folder, {**layouts.esc50(workdir / "data", takes=1), "shots": 2})
    write_pairs(Path("pairs.csv"), [("tone", layouts.tone(Path("low.wav"), 200), layouts.tone(Path("high.wav"), 2000))])
    status, _, err = cli("fit", *options, *block(config), "--trainer.fast_dev_run", "true")
    assert status == 0, err


@pytest.mark.parametrize("protocol", get_args(ProtocolName))
def test_a_protocol_fits_into_an_experiment_by_name(protocol, workdir, tiny_folder, cli, aisfx_at_hand):
    options = arguments(tiny_folder, {**layouts.esc50(workdir / "data"), "shots": 2})
    status, _, err = cli("fit", *options, "--model.protocol", protocol, "--trainer.fast_dev_run", "true")
    if protocol in WEIGHTS:
        assert status == 2
        assert WEIGHTS[protocol] in err.splitlines()[-1]
    else:
        assert status == 0, err
