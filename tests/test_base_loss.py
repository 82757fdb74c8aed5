"""The base's held-out loss is measured once for each setting, and never taken for another's."""

import json
from pathlib import Path
from statistics import fmean

import pytest

from audioldm_lit.cli import main

import layouts
from runs import arguments, run_folder

DENOISING = "audioldm_lit.objectives.denoising"
TRICK = """
from audioldm_lit.adapters.full import FullFineTune


class Mine(FullFineTune):
    pass
"""


@pytest.fixture
def fit(workdir, tiny_folder):
    """Run `fit` and give the base's loss that its result states, and the files that remember losses."""
    data = {**layouts.esc50(workdir / "esc50"), "shots": 2}

    def run(*options: object, **changes: object) -> tuple[float, set[Path]]:
        main(["fit", *arguments(tiny_folder, {**data, **changes}, steps=1), *map(str, options)])
        before = json.loads((run_folder(workdir) / "result.json").read_text())["held_out_loss_before"]
        return before, set(workdir.glob("cache/audioldm_lit/base-loss/*.json"))

    return run


def test_a_second_run_takes_the_loss_of_the_first(fit, caplog):
    measured, (file,) = fit()
    assert fmean(json.loads(file.read_text())["losses"]) == measured
    file.write_text(json.dumps({"losses": [123.0] * 4}))  # a value that no measurement gives
    assert fit("--trainer.max_steps", 2) == (123.0, {file})
    assert "the base's held-out loss is 123.0000, as measured before" in caplog.text


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        (["--model.seed", 1], {}),
        (["--model.val_timesteps", 2], {}),
        (["--model.objective", f"{DENOISING}.Velocity", "--model.adapter", "audioldm_lit.adapters.full.Scratch"], {}),
        (["--model.adapter.init_args.options", '{"r": 4}'], {}),
        ([], {"fold": 2}),
        ([], {"caption": "the sound of {label}"}),
        ([], {"duration": 1.28}),
        ([], {"batch_size": 4}),
        (["--trainer.limit_val_batches", 1], {}),
    ],
)  # fmt: skip
def test_whatever_the_loss_depends_on_is_measured_anew(fit, options, changes):
    _, (file,) = fit()
    file.write_text(json.dumps({"losses": [123.0] * 4}))
    before, files = fit(*options, **changes)
    assert before != 123.0
    assert len(files) == 2


def test_changed_audio_is_measured_anew(fit, workdir):
    _, (file,) = fit()
    file.write_text(json.dumps({"losses": [123.0] * 4}))
    layouts.tone(next((workdir / "esc50" / "audio").glob("2-*")), 333)
    assert fit()[0] != 123.0


def test_the_training_clips_play_no_part(fit):
    _, (file,) = fit()
    assert fit(shots=3)[1] == {file}


def test_a_class_from_outside_is_measured_every_time(fit, workdir, monkeypatch):
    (workdir / "mytrick.py").write_text(TRICK)
    monkeypatch.syspath_prepend(workdir)
    _, files = fit("--model.adapter", "mytrick.Mine")
    assert files == set()
