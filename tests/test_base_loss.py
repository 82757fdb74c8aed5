"""The base's held-out loss is measured once for each setting, and never taken for another's."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
from lightning import Trainer

from audioldm_lit.adapters.full import FullFineTune, Scratch
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.callbacks.base_loss import BaseLoss
from audioldm_lit.cli import main
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.objectives.denoising import Velocity

import layouts
from runs import SHORT, arguments, run_folder

WRONG = 123.0  # a value that no measurement gives


def forge(file: Path) -> None:
    """Put the wrong value in, with its hash."""
    losses = [WRONG] * len(json.loads(file.read_text())["losses"])
    digest = hashlib.sha256(f"{file.stem} {json.dumps(losses)}".encode()).hexdigest()
    file.write_text(json.dumps({"losses": losses, "sha256": digest}))


Fit = Callable[..., tuple[float, set[Path]]]


class Mine(FullFineTune):
    """A class from outside."""


def runs_in(folder: Path, model: Path) -> Fit:
    """Starts runs of a step, and gives the base's loss that each goes by, and the files that remember losses."""

    def fit(adapter=None, limit_val_batches=1.0, data=(), **settings) -> tuple[float, set[Path]]:
        adapter = adapter or PeftAdapter(options={"r": 8}, targets=["conv_in"])
        module = LitAudioLDM(adapter, backbone=str(model), cache_dir=folder / "cache", **settings)
        trainer = Trainer(
            max_steps=1, num_sanity_val_steps=-1, limit_val_batches=limit_val_batches, accelerator="cpu", callbacks=[BaseLoss()],
            logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        init_args = {"root": folder / "esc50", "duration": SHORT, "shots": 2, "batch_size": 2, **dict(data)}
        trainer.fit(module, datamodule=ESC50(**init_args))
        return module.outcome.base_loss, set((folder / "cache" / "base-loss").glob("*.json"))

    return fit


@pytest.fixture(scope="module")
def measured(tmp_path_factory, tiny_folder) -> Path:
    """A data set, and the cache of a run on it, which remembers a wrong loss."""
    folder = tmp_path_factory.mktemp("measured")
    layouts.esc50(folder / "esc50", takes=1)
    _, (file,) = runs_in(folder, tiny_folder)()
    forge(file)
    return folder


@pytest.fixture
def fit(measured, tmp_path, tiny_folder) -> Fit:
    """A later run, on a copy of them."""
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    return runs_in(tmp_path, tiny_folder)


def test_a_second_run_takes_the_loss_of_the_first(workdir, tiny_folder, caplog):
    options = arguments(tiny_folder, {**layouts.esc50(workdir / "esc50", takes=1), "shots": 2}, steps=1)

    def before() -> float:
        return json.loads((run_folder(workdir) / "result.json").read_text())["held_out_loss_before"]

    main(["fit", *options])
    (file,) = workdir.glob("cache/audioldm_lit/base-loss/*.json")
    losses = json.loads(file.read_text())["losses"]
    assert fmean(losses) == before()
    forge(file)
    main(["fit", *options, "--trainer.max_steps", "2"])
    assert before() == WRONG
    assert "the base's held-out loss is 123.0000, as measured before" in caplog.text


@pytest.mark.parametrize("content", ["", f'{{"losses": [{WRONG}, {WRONG}, {WRONG}, {WRONG}]}}'])
def test_a_loss_without_its_hash_is_measured_again_and_said(fit, tmp_path, capsys, content):
    (file,) = (tmp_path / "cache" / "base-loss").iterdir()
    whole = file.read_text()
    file.write_text(content)
    before, _ = fit()
    assert before != WRONG
    assert f"{file}: is damaged, and measured again" in capsys.readouterr().err
    assert json.loads(file.read_text()).keys() == json.loads(whole).keys()


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"heads": "original"},
        {"val_timesteps": 2},
        {"objective": Velocity(), "adapter": Scratch()},
        {"adapter": PeftAdapter(options={"r": 4}, targets=["conv_in"])},
        {"data": {"fold": 2}},
        {"data": {"caption": "the sound of {label}"}},
        {"data": {"duration": 1.28}},
        {"data": {"batch_size": 4}},
        {"limit_val_batches": 1},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_whatever_the_loss_depends_on_is_measured_anew(fit, changes):
    before, files = fit(**changes)
    assert before != WRONG
    assert len(files) == 2


def test_changed_audio_is_measured_anew(fit, tmp_path):
    layouts.tone(next((tmp_path / "esc50" / "audio").glob("2-*")), 333)
    assert fit()[0] != WRONG


def test_the_training_clips_play_no_part(fit):
    assert fit(data={"shots": 3})[0] == WRONG


def test_a_class_from_outside_is_measured_every_time(fit):
    before, files = fit(adapter=Mine())
    assert before != WRONG
    assert len(files) == 1
