"""Averages whose length is chosen after training: the profiles, their reconstruction, and a run that does it."""

import json
import math
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from safetensors import safe_open
from scipy.integrate import quad
from torch import nn

from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.callbacks.averages import PROFILES, Averages, held_out_loss
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.errors import InputError
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.training.ema import WIDEST, PowerAverage, gamma_of
from audioldm_lit.training.post_hoc_average import (
    SIGMA_RELS,
    Snapshot,
    choose,
    coefficients,
    read_snapshots,
    reconstruct,
    write_snapshots,
)

import layouts
from runs import SHORT, run_folder

widths = st.floats(0.01, 0.28)


def shares(sigma_rel: float, last: int, steps: int) -> np.ndarray:
    """Share of each of `steps` steps in the average that ends with step `last`, by numerical integration of t^gamma."""
    gamma = gamma_of(sigma_rel)
    areas = [quad(lambda t: (t / last) ** gamma, step - 1, step)[0] if step <= last else 0.0 for step in range(1, steps + 1)]
    return np.array(areas) / sum(areas)


def track(sigma_rel: float, walk: torch.Tensor) -> list[torch.Tensor]:
    """The running average after every step of a walk (steps, D) of the weights."""
    weight, average, found = nn.Parameter(torch.full_like(walk[0], 7.0)), PowerAverage(sigma_rel), []
    average.start({"w": weight})
    for point in walk:
        weight.data = point.clone()
        average.update({"w": weight})
        found.append(average.average["w"].clone())
    return found


def stored(folder, walk: torch.Tensor, every: int, profiles=(0.05, 0.1)) -> list[Snapshot]:
    """Snapshots of a walk, as a run stores them."""
    tracked = {one: track(one, walk) for one in profiles}
    paths = []
    for step in range(every, len(walk) + 1, every):
        paths.append(folder / f"step-{step:06d}.safetensors")
        write_snapshots(paths[-1], step, {one: {"w": averages[step - 1]} for one, averages in tracked.items()})
    return read_snapshots(paths)


def random_walk(steps: int, size: int = 500, seed: int = 0) -> torch.Tensor:
    return torch.randn(steps, size, generator=torch.Generator().manual_seed(seed)).cumsum(dim=0)


# ---------------------------------------------------------------------- profiles


@given(st.floats(1e-3, WIDEST, exclude_max=True))
def test_gamma_solves_the_equation(sigma_rel):
    gamma = gamma_of(sigma_rel)
    assert gamma > -1e-6
    assert math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2) == pytest.approx(sigma_rel, rel=1e-9)


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.25, 0.72), (0.2, 1.83), (0.15, 3.56), (0.1, 6.94), (0.05, 16.97)])
def test_gamma_is_the_published_one(sigma_rel, gamma):
    assert gamma_of(sigma_rel) == pytest.approx(gamma, abs=0.005)  # Karras et al. 2023, Fig. 24


@pytest.mark.parametrize("sigma_rel", [0, -0.1, 0.2887, 1, math.nan])
def test_a_width_without_a_profile_is_refused(sigma_rel):
    with pytest.raises(InputError, match="sigma_rel: is"):
        PowerAverage(sigma_rel)


@settings(max_examples=60)
@given(widths, st.integers(1, 60), st.integers(0, 2**31))
def test_the_recursion_is_the_average_over_the_profile(sigma_rel, steps, seed):
    walk = random_walk(steps, 8, seed)
    expected = shares(sigma_rel, steps, steps) @ walk.double().numpy()
    assert track(sigma_rel, walk)[-1].numpy() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("sigma_rel", [0.02, 0.05, 0.1, 0.25])
def test_sigma_rel_is_the_standard_deviation_as_a_share_of_the_run(sigma_rel):
    time = torch.linspace(0, 1, 4001, dtype=torch.float64)[1:]
    mean, square = track(sigma_rel, torch.stack([time, time**2], dim=1).float())[-1].double()
    assert (square - mean**2).sqrt().item() == pytest.approx(sigma_rel, abs=1e-3)


# ---------------------------------------------------------------------- reconstruction


@settings(max_examples=40)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True), widths, widths, widths, st.integers(1, 40))
def test_the_combination_is_the_nearest_of_sum_one(tmp_path_factory, steps, one, other, wanted, last):
    assume(abs(one - other) > 0.01)
    snapshots = [Snapshot(tmp_path_factory.getbasetemp(), width, step) for step in steps for width in (one, other)]
    x, error = coefficients(snapshots, wanted, last)
    assert x.sum().item() == pytest.approx(1, abs=1e-8)

    # profiles on a grid, integrated by the mid-point rule
    end = max([*steps, last])
    t = (np.arange(40_000) + 0.5) / 40_000 * end

    def profile(width: float, stop: int) -> np.ndarray:
        gamma = gamma_of(width)
        return np.where(t <= stop, (gamma + 1) / stop * np.minimum(t / stop, 1) ** gamma, 0)

    basis = np.stack([profile(snapshot.sigma_rel, snapshot.step) for snapshot in snapshots])
    target = profile(wanted, last)

    def distance(shares: np.ndarray) -> float:
        return float(np.sqrt(((shares @ basis - target) ** 2).mean() / (target**2).mean()))

    assert distance(x.numpy()) == pytest.approx(error, abs=0.01)
    rng = np.random.default_rng(0)
    for _ in range(5):
        direction = rng.standard_normal(len(x))
        direction -= direction.mean()
        assert distance(x.numpy() + 1e-2 * direction) > distance(x.numpy()) - 1e-4


@settings(max_examples=25)
@given(st.integers(1, 5), widths, st.integers(1, 60), st.floats(-3, 3))
def test_weights_that_do_not_move_are_their_own_average(tmp_path_factory, count, sigma_rel, last, value):
    folder = tmp_path_factory.mktemp("still")
    snapshots = stored(folder, torch.full((10 * count, 2), value), every=10)
    assert reconstruct(snapshots, sigma_rel, last)["w"].tolist() == pytest.approx([value] * 2, abs=1e-5)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1])
@pytest.mark.parametrize("step", [50, 100, 150, 200])
def test_a_stored_average_is_given_back(tmp_path, sigma_rel, step):
    walk = random_walk(200)
    found = reconstruct(stored(tmp_path, walk, every=50), sigma_rel, step)["w"]
    torch.testing.assert_close(found, track(sigma_rel, walk)[step - 1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("every", "bound"), [(100, 0.07), (40, 0.025), (8, 0.006)])
@pytest.mark.parametrize("sigma_rel", SIGMA_RELS)
def test_reconstruction_comes_near_to_what_was_not_tracked(tmp_path, sigma_rel, every, bound):
    walk = random_walk(400)
    snapshots = stored(tmp_path, walk, every)
    spread = walk.std(dim=0).mean()
    expected = torch.from_numpy(shares(sigma_rel, 400, 400) @ walk.double().numpy()).float()
    found = reconstruct(snapshots, sigma_rel, 400)["w"]
    assert (found - expected).square().mean().sqrt() < bound * 400**0.5  # the walk's spread after 400 steps
    assert (found - expected).square().mean().sqrt() < 2.5 * bound * spread


def test_the_average_of_the_lowest_loss_is_chosen(tmp_path):
    walk = random_walk(400)
    snapshots = stored(tmp_path, walk, every=40)
    wanted = track(0.15, walk)[319]
    candidates, weights = choose(snapshots, SIGMA_RELS, [320, 400], lambda one: (one["w"] - wanted).norm().item())
    assert (candidates[0].sigma_rel, candidates[0].step) == (0.15, 320)
    assert [one.loss for one in candidates] == sorted(one.loss for one in candidates)
    assert len(candidates) == 2 * len(SIGMA_RELS)
    assert torch.equal(weights["w"], reconstruct(snapshots, 0.15, 320)["w"])


def test_a_loss_that_is_no_number_is_never_the_lowest(tmp_path):
    losses = iter([math.nan, 2.0, math.nan, 1.0, math.nan])
    snapshots = stored(tmp_path, random_walk(20), every=10)
    candidates, weights = choose(snapshots, [0.03, 0.05, 0.1, 0.15, 0.2], [20], lambda _: next(losses))
    assert (candidates[0].loss, candidates[0].sigma_rel) == (1.0, 0.15)
    assert torch.equal(weights["w"], reconstruct(snapshots, 0.15, 20)["w"])


def test_a_file_that_holds_no_averages_is_named(tmp_path):
    path = tmp_path / "step-000001.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="step-000001"):
        read_snapshots([path])


# ---------------------------------------------------------------------- a run


class Zeroed(PeftAdapter):
    """Leaves nothing of what the optimizer did."""

    def after_step(self, backbone, step) -> None:
        for weight in backbone.parameters():
            if weight.requires_grad:
                weight.data.zero_()


class Runs:
    """Starts runs of a few steps below a folder."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.data = {**layouts.esc50(folder / "esc50", takes=1), "shots": 1}

    def __call__(self, *callbacks, steps: int = 3, ckpt_path=None, adapter=None, **options) -> SimpleNamespace:
        seed_everything(0)
        best = ModelCheckpoint(monitor="val/loss", filename="best-{step:06d}", save_last=True, save_top_k=-1)
        defaults = {"max_steps": steps, "val_check_interval": 1, "check_val_every_n_epoch": None, "accelerator": "cpu"}
        trainer = Trainer(
            **{**defaults, **options}, callbacks=[*callbacks, best], logger=CSVLogger(self.folder / "runs", "adapt"),
            num_sanity_val_steps=-1, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        module = LitAudioLDM(
            adapter or PeftAdapter(targets=["attention"]), backbone=str(self.model), val_timesteps=1,
            cache_dir=self.folder / "cache",
        )  # fmt: skip
        trainer.fit(module, datamodule=ESC50(**self.data, duration=SHORT), ckpt_path=ckpt_path)
        return SimpleNamespace(trainer=trainer, module=module, folder=run_folder(self.folder))


@pytest.fixture
def fit(workdir, tiny_folder) -> Runs:
    return Runs(workdir, tiny_folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_folder) -> SimpleNamespace:
    """The same three steps without and with averages, and what the latter printed."""
    runs = Runs(tmp_path_factory.mktemp("finished"), tiny_folder)
    plain = runs()
    with redirect_stdout(StringIO()) as printed:
        averaged = runs(Averages())
    return SimpleNamespace(plain=plain, averaged=averaged, printed=printed.getvalue())


def checkpoint(run: Path, name: str = "last") -> dict:
    return torch.load(next(run.glob(f"checkpoints/{name}.ckpt")), weights_only=True)


def test_a_run_leaves_snapshots_and_a_table(finished):
    trainer, folder = finished.averaged.trainer, finished.averaged.folder / "averages"
    assert sorted(path.name for path in folder.iterdir()) == ["candidates.json", *(f"step-00000{i}.safetensors" for i in (1, 2, 3))]
    candidates = json.loads((folder / "candidates.json").read_text())
    best_step = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)["global_step"]
    assert {(one["sigma_rel"], one["step"]) for one in candidates} == {(one, best_step) for one in SIGMA_RELS}
    assert all(f"sigma_rel {one['sigma_rel']:g}, step {one['step']}" in finished.printed for one in candidates)
    assert "none, the base" in finished.printed
    best = float(trainer.checkpoint_callback.best_model_score)
    assert (finished.averaged.module.outcome.chosen is not None) == (candidates[0]["loss"] < 0.999 * best)
    with safe_open(folder / "step-000002.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == "2"


def test_snapshots_thin_out_as_the_run_grows_and_the_last_step_has_one(fit, monkeypatch):
    monkeypatch.setattr("audioldm_lit.callbacks.averages.GROWTH", 2)
    run = fit(Averages(), steps=4)
    snapshots = read_snapshots(sorted((run.folder / "averages").glob("*.safetensors")))
    assert sorted({one.step for one in snapshots}) == [1, 3, 4]


def test_averages_take_in_the_trained_weights_not_the_validated_ones(finished):
    steps, folder = range(1, 4), finished.averaged.folder
    walk = [checkpoint(folder, f"best-step={step:06d}")["state_dict"] for step in steps]
    part = shares(0.1, 3, 3)
    snapshots = read_snapshots([folder / "averages" / "step-000003.safetensors"])
    average = next(one for one in snapshots if one.sigma_rel == 0.1).weights()
    assert average.keys() == walk[0].keys()
    for name, weight in average.items():
        expected = sum(part[step - 1] * walk[step - 1][name].double() for step in steps)
        torch.testing.assert_close(weight.double(), expected, rtol=1e-5, atol=1e-7)


def test_averages_take_in_the_weights_as_the_adapter_leaves_them(fit):
    run = fit(Averages(), steps=2, adapter=Zeroed(targets=["attention"]))
    snapshots = read_snapshots(sorted((run.folder / "averages").glob("*.safetensors")))
    assert len(snapshots) == 2 * len(PROFILES)
    assert all(not weight.any() for one in snapshots for weight in one.weights().values())


def test_averages_change_nothing_of_the_run(finished):
    plain, averaged = finished.plain, finished.averaged
    without, with_averages = checkpoint(plain.folder), checkpoint(averaged.folder)
    for name, weight in without["state_dict"].items():
        assert torch.equal(weight, with_averages["state_dict"][name])
        assert torch.equal(weight, averaged.module.weights[name])
        assert torch.equal(without["audioldm_lit"]["ema"]["average"][name], with_averages["audioldm_lit"]["ema"]["average"][name])
    assert (averaged.folder / "metrics.csv").read_text() == (plain.folder / "metrics.csv").read_text()
    scores = [one.trainer.checkpoint_callback.best_model_score for one in (plain, averaged)]
    assert scores[0] == scores[1]
    modes = [[part.training for part in one.module.modules()] for one in (plain, averaged)]
    assert modes[0] == modes[1]


def test_the_loss_after_training_is_that_of_a_check(fit):
    losses = {}

    class Remeasure(Averages):
        def on_train_end(self, trainer, pl_module) -> None:
            for step in (1, 2):
                kept = checkpoint(run_folder(fit.folder), f"best-step={step:06d}")
                losses[step] = held_out_loss(trainer, pl_module, kept["audioldm_lit"]["ema"]["average"])

    run = fit(Remeasure(), steps=2, limit_val_batches=1)
    rows = [line.split(",") for line in (run.folder / "metrics.csv").read_text().splitlines()]
    logged = [float(row[rows[0].index("val/loss")]) for row in rows[1:] if row[rows[0].index("val/loss")]]
    assert list(losses.values()) == pytest.approx(logged, rel=1e-6)
    assert losses[1] != losses[2]


@pytest.mark.slow
def test_resumed_averages_continue_exactly(fit):
    """Where two batches make a step."""
    options = {"steps": 4, "accumulate_grad_batches": 2, "val_check_interval": 2}
    first = fit(Averages(), **options).folder
    second = fit(Averages(), **options, ckpt_path=next(first.glob("checkpoints/best-step=000002.ckpt"))).folder
    whole, again = (checkpoint(run)["callbacks"]["Averages"] for run in (first, second))
    assert again["num_updates"] == whole["num_updates"] == 4
    assert list(again["snapshots"]) == [1, 2, 3, 4]
    for sigma_rel, average in whole["averages"].items():
        assert all(torch.equal(weight, again["averages"][sigma_rel][name]) for name, weight in average.items())
    assert [path.name for path in sorted(second.glob("averages/*.safetensors"))] == [
        "step-000003.safetensors",
        "step-000004.safetensors",
    ]
    losses = [json.loads((run / "averages" / "candidates.json").read_text()) for run in (first, second)]
    assert losses[0] == losses[1]


def test_a_run_that_had_none_is_resumed_without_them(fit, finished, caplog):
    run = fit(Averages(), steps=4, ckpt_path=finished.plain.folder / "checkpoints" / "last.ckpt")
    assert run.module.outcome.chosen is None
    assert not (run.folder / "averages").exists()
    assert "averages are off" in caplog.text


def test_snapshots_that_are_gone_are_said_and_done_without(finished, tmp_path, caplog):
    state = checkpoint(finished.averaged.folder)["callbacks"]["Averages"]
    state["snapshots"][1] = str(tmp_path / "gone.safetensors")
    again = Averages()
    again.load_state_dict(state)
    again.on_train_start(finished.plain.trainer, finished.plain.module)
    assert sorted(again.snapshots) == [2, 3]
    assert "1 snapshots from before the resume are no longer there" in caplog.text


def test_other_profiles_than_the_checkpoint_s_are_refused(fit, finished):
    with pytest.raises(InputError, match=r"averages\.profiles"):
        fit(Averages([0.1]), steps=4, ckpt_path=finished.averaged.folder / "checkpoints" / "last.ckpt")


@pytest.mark.slow
def test_averages_of_many_weights_are_off_unless_asked_for(fit, monkeypatch, caplog):
    monkeypatch.setattr("audioldm_lit.callbacks.averages.MOST_WEIGHTS", 1000)
    assert not (fit(Averages(), steps=1).folder / "averages").exists()
    assert "weights train" in caplog.text
    assert (fit(Averages([0.05, 0.1]), steps=1).folder / "averages").is_dir()


@pytest.mark.parametrize("profiles", [[0.3], [0.0], [0.05, 0.05]])
def test_wrong_profiles_are_named(profiles):
    with pytest.raises(InputError, match=r"averages\.profiles"):
        Averages(profiles)
