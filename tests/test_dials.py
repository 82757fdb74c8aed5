"""The three dials, and the policy that chooses the best check by them."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback

from audioldm_lit.callbacks.best_check import BestCheck
from audioldm_lit.callbacks.dials import Dials
from audioldm_lit.cli import main
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.copies import Memorisation
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.metrics.extractors.fingerprint import Fingerprint

import layouts
from runs import arguments, run_folder

NAMES = ("learned", "copied", "general", "forgot")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict:
    return {**layouts.esc50(tmp_path_factory.mktemp("esc50")), "shots": 2}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_folder, data) -> Path:
    """Folder of a run of two steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place := tmp_path_factory.mktemp("fitted"))
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        main(["fit", *arguments(tiny_folder, data), "--dials.count", "4", "--trainer.val_check_interval", "1"])
    return run_folder(place)


@pytest.fixture
def fit(workdir, tiny_folder, data):
    def run(*options: object, steps: int = 2) -> Path:
        main(["fit", *arguments(tiny_folder, data, steps), "--dials.count", "4", *map(str, options)])
        return run_folder(workdir)

    return run


def readings_of(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{name: float(row[f"val/{name}"]) for name in NAMES} for row in csv.DictReader(file) if row["val/loss"]]


def result_of(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_every_check_reads_the_dials_and_the_result_has_them_beside_the_base_s(fitted):
    readings, result = readings_of(fitted), result_of(fitted)
    assert len(readings) == 2
    assert all(0 <= one["copied"] <= 1 and -2 <= one["forgot"] <= 2 for one in readings)
    assert set(result["dials"]) == {"base", "best"}
    assert result["dials"]["base"]["forgot"] == 0
    assert any(one == pytest.approx(result["dials"]["best"], rel=1e-7, abs=1e-6) for one in readings)
    for one in readings:  # what is lost is lost of the base's own score
        assert one["forgot"] == pytest.approx(result["dials"]["base"]["general"] - one["general"], abs=1e-6)


def test_a_model_that_does_not_move_reads_as_the_base(fit):
    run = fit("--model.optimizer", "torch.optim.SGD", "--model.optimizer.init_args.lr", "0.0")
    base = result_of(run)["dials"]["base"]
    assert all(one == pytest.approx(base, rel=1e-7, abs=1e-6) for one in readings_of(run))  # loggers are given float32


def test_the_dials_do_not_change_the_training(fit, fitted):
    other = weights_of(fit("--dials.count", "0"))
    assert all(torch.equal(weight, other[name]) for name, weight in weights_of(fitted).items())


@pytest.mark.nightly
def test_a_resumed_run_compares_with_the_same_base(fit, fitted):
    whole = readings_of(fit(steps=3))
    resumed = readings_of(fit("--ckpt_path", fitted / "checkpoints" / "last.ckpt", steps=3))
    assert resumed[-1] == pytest.approx(whole[-1], abs=1e-6)


def test_a_training_clip_given_back_is_a_copy():
    clips = torch.randn(12, 16000, generator=torch.Generator().manual_seed(0))
    train = AudioBatch([f"t{i}" for i in range(4)], clips[:4], 16000)
    target = AudioBatch([f"v{i}" for i in range(4)], clips[4:8], 16000)
    preds = AudioBatch(["a", "b"], torch.stack([0.3 * clips[1], clips[9]]), 16000)
    metric = Memorisation(Fingerprint())
    metric.update(preds=preds, target=target, train=train)
    assert metric.compute() == 0.5


@pytest.mark.parametrize(
    ("bounds", "copied", "forgot", "chosen"),
    [
        ({}, 0.25, 0.15, True),
        ({}, 0.26, 0.0, False),
        ({}, 0.0, 0.16, False),
        ({"max_copied": 0, "max_forgot": 0}, 0.0, 0.0, True),
        ({"max_copied": 1, "max_forgot": 2}, 1.0, 2.0, True),
    ],
)
def test_a_check_that_copies_or_forgets_too_much_is_not_the_best(bounds, copied, forgot, chosen):
    policy = BestCheck(monitor="val/loss", **bounds)
    values = {"val/loss": torch.tensor(1.0), "val/copied": torch.tensor(copied), "val/forgot": torch.tensor(forgot)}
    assert policy.check_monitor_top_k(SimpleNamespace(callback_metrics=values), values["val/loss"]) == chosen
    assert policy.check_monitor_top_k(SimpleNamespace(callback_metrics={}), values["val/loss"])


class Copying(Callback):
    """A model whose every clip is a copy."""

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/copied", 1.0)


def test_no_check_within_the_bounds_is_said_and_nothing_exported(workdir, tiny_folder, data, cli):
    status, _, err = cli("fit", *arguments(tiny_folder, data), "--trainer.callbacks+", "test_dials.Copying")
    assert status == 2
    assert "no check stayed within checkpoint.max_copied=0.25" in err.splitlines()[-1]
    assert not list(run_folder(workdir).glob("adapter*"))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Dials(count=2), "dials.count: is 2"),
        (lambda: Dials(prompts=Path("nowhere.txt")), "nowhere.txt"),
        (lambda: BestCheck(max_copied=1.01), "max_copied: is 1.01"),
        (lambda: BestCheck(max_forgot=2.01), "max_forgot: is 2.01"),
        (lambda: BestCheck(max_forgot=-0.01), "max_forgot: is -0.01"),
    ],
)
def test_wrong_settings_are_named(make, named):
    with pytest.raises(InputError, match=named):
        make()


def test_a_wrong_setting_on_the_command_line_is_one_sentence(tiny_folder, data, cli):
    status, _, err = cli("fit", *arguments(tiny_folder, data), "--dials.count", "2")
    assert status == 2
    assert "dials.count: is 2" in err.splitlines()[-1]
