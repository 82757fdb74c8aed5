"""A plan says what the run then is, leaves nothing behind, and refuses what does not fit."""

import json
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioldm_lit.planning.clock import STEP, Clock, Took
from audioldm_lit.planning.forecast import Size, forecast, step_seconds

import layouts
from runs import arguments, run_folder

SECONDS = st.floats(0, 100)
SMALL = Size(steps=10, checks=2, train=8, val=8, held_out=8, passes=4)


def calls(step: float, batch: float, check: float, once: float, sampled: float) -> dict[str, list[Took]]:
    """Hooks of a rehearsal, under Lightning's names."""
    return {
        STEP: [Took(3 * step), *[Took(step)] * 9],  # the first takes longer
        "[Strategy]SingleDeviceStrategy.validation_step": [Took(batch)] * 2,
        "[Callback]Audition.on_validation_epoch_end": [Took(check + sampled, sampled)] * 2,
        "[LightningModule]LitAudioLDM.setup": [Took(once)],
        "[Callback]Scores.on_fit_end": [Took(once + sampled, sampled)],
        "[Callback]Rehearsal.on_fit_start": [Took(7.0)],
    }


@given(SECONDS, SECONDS, SECONDS, SECONDS, SECONDS, SECONDS)
def test_a_forecast_of_the_rehearsal_is_what_it_took_without_what_only_it_does(step, batch, check, once, sampled, start):
    made = calls(step, batch, check, once, sampled)
    whole = start + sum(took.seconds for every in made.values() for took in every)
    parts = forecast(made, whole, SMALL, SMALL)
    assert sum(parts.values()) == pytest.approx(whole - 7, abs=1e-9)
    assert parts["start and end"] == pytest.approx(start + once, abs=1e-9)
    assert step_seconds(made, 10) == pytest.approx(step)


@given(SECONDS, SECONDS, SECONDS, SECONDS, SECONDS)
def test_steps_checks_clips_and_passes_scale_what_belongs_to_them(step, batch, check, once, sampled):
    made = calls(step, batch, check, once, sampled)
    whole = sum(took.seconds for every in made.values() for took in every)
    parts = forecast(made, whole, SMALL, Size(steps=210, checks=4, train=80, val=24, held_out=40, passes=20))
    assert parts["steps"] == pytest.approx(12 * step + 200 * step)
    assert parts["checks"] == pytest.approx(4 * 3 * batch)
    assert parts["auditions"] == pytest.approx(4 * (check + 5 * sampled))
    assert parts["scores"] == pytest.approx(5 * (once + 5 * sampled))


def test_a_clock_tells_each_hook_its_own_seconds():
    now = iter(range(100))
    clock = Clock(lambda: float(next(now)))
    with clock.profile("outer"), clock.profile("inner"), clock.sampling():
        pass
    with clock.profile(STEP), clock.profile("within"):
        pass
    assert {name: (took.seconds, took.sampling) for name, (took,) in clock.calls.items()} == {
        "inner": (3.0, 1.0), "outer": (2.0, 0.0), STEP: (2.0, 0.0),
    }  # fmt: skip


@pytest.fixture
def words(workdir, tiny_folder) -> list[str]:
    data = layouts.esc50(workdir / "esc50", takes=3)
    return arguments(tiny_folder, {**data, "shots": 3, "batch_size": 4}, steps=4)


def test_a_plan_is_of_the_run_that_follows_and_leaves_nothing(cli, words, workdir):
    status, out, err = cli("plan", *words, "--audition.count", 1, "--json", "plan.json")
    assert status == 0, err
    plan = json.loads(Path("plan.json").read_text())
    assert [line.split()[0] for line in out.splitlines()] == ["recipe", "data", "memory", "step", "time", "adapter"]
    assert not Path("runs").exists()
    assert cli("fit", *words, "--export.share", "counts")[0] == 0
    result = json.loads((run_folder(workdir) / "result.json").read_text())
    assert plan["trained_weights"] == result["trained_weights"]
    assert plan["clips"] == {"train": result["training_clips"], "val": result["held_out_clips"]}
    assert (plan["steps"], plan["checks"], plan["batch_size"]) == (4, 1, 4)
    size = (run_folder(workdir) / "adapter.safetensors").stat().st_size
    assert 1e6 * plan["adapter_mb"] == pytest.approx(size, abs=100)  # of what the file says of the clips
    assert cli("plan", *words, "--ckpt_path", "last")[0] == 2


@pytest.mark.nightly
def test_a_batch_that_does_not_fit_is_refused_with_what_fits(cli, words):
    clips = int(0.4 * psutil.virtual_memory().total / 65_536)  # the latents of a step on them are known to fit
    status, _, err = cli("plan", *words, "--data.init_args.batch_size", clips)
    assert status == 2
    assert f"data.init_args.batch_size: is {clips:,}, and a step on {clips:,} clips needs " in err
    assert "give --data.init_args.batch_size " in err or " or --data.init_args.batch_size " in err
    assert not Path("runs").exists()
