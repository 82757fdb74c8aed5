"""Tricks that nobody foresaw, each one file and one YAML: they resume bit for bit, and their adapter is what was trained."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import LearningRateFinder, StochasticWeightAveraging
from safetensors.torch import load_file
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, ReduceLROnPlateau

from audioldm_lit.cli import main
from audioldm_lit.errors import InputError
from audioldm_lit.training.checkpoint import averaged_weights
from audioldm_lit.training.cosine import CosineToEnd
from audioldm_lit.training.optimization import rates
from audioldm_lit.training.settings import check_stream

import layouts
from runs import REPOSITORY, arguments, run_folder

IMPORTS = """
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from audioldm_lit import seeding
from audioldm_lit.diffusion import FlowPrediction, levels
from audioldm_lit.objectives.base import Objective
from audioldm_lit.objectives.denoising import Epsilon
from audioldm_lit.objectives.frozen import FrozenUNet

def noised(scheduler, latents, generators):
    noise = seeding.normal(generators, latents.shape[1:]).to(latents.device)
    timesteps = (seeding.uniform(generators) * 1000).long().to(latents.device)
    return noise, timesteps, scheduler.add_noise(latents, noise, timesteps)
"""
TRICKS = {
    "adversary": """
class Trick(Objective):
    def __init__(self, weight: float = 0.1, rate: float = 1e-2):
        super().__init__()
        self.weight, self.rate = weight, rate
        self.judge = nn.Sequential(nn.Conv2d(8, 8, 3), nn.SiLU(), nn.Conv2d(8, 1, 3))

    def own_optimizer(self, weights):
        return torch.optim.Adam(weights, lr=self.rate, betas=(0.5, 0.9))

    def forward(self, backbone, scheduler, latents, cond, generators):
        noise, timesteps, noisy = noised(scheduler, latents, generators)
        output = backbone(noisy, timesteps, cond).float()
        made = self.prediction.clean(output, noisy, levels(scheduler, timesteps)).clamp(-5, 5)
        still = {name: weight.detach() for name, weight in self.judge.named_parameters()}
        fools = -functional_call(self.judge, still, (made,))
        tells = F.softplus(self.judge(made.detach())) + F.softplus(-self.judge(latents))
        return (output - noise).square().mean((1, 2, 3)) + (self.weight * fools + tells).mean((1, 2, 3))
""",
    "resolutions": """
class Trick(Objective):  # errors at three resolutions, each with a learned weight (Kendall et al. 2018)
    learning_rate = 0.1

    def __init__(self):
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(3))

    def forward(self, backbone, scheduler, latents, cond, generators):
        noise, timesteps, noisy = noised(scheduler, latents, generators)
        error = backbone(noisy, timesteps, cond).float() - noise
        losses = torch.stack([F.avg_pool2d(error, size).square().mean((1, 2, 3)) for size in (1, 2, 4)], 1)
        return (losses * (-self.log_variance).exp() + self.log_variance).sum(1)
""",
    "contrast": """
class Trick(Objective):  # further from what the base says of another clip's caption
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        self.mean = 0.0

    def prepare(self, backbone, num_samples, folder):
        self.base = FrozenUNet(backbone)

    def forward(self, backbone, scheduler, latents, cond, generators):
        noise, timesteps, noisy = noised(scheduler, latents, generators)
        output = backbone(noisy, timesteps, cond).float()
        other = self.base(noisy, timesteps, cond.flip(1))
        near, far = ((output - one).square().mean((1, 2, 3)) for one in (noise, other))
        return near + F.relu(0.1 * (1 + self.mean) + near - far)

    def after_step(self, backbone, step):
        self.steps += 1
        self.mean = 0.9 * self.mean + 0.1 * step

    def state(self):
        return {"mean": self.mean}

    def restore(self, state):
        self.mean = state["mean"]
""",
    "flow": """
class Trick(Objective):
    prediction = FlowPrediction()

    def forward(self, backbone, scheduler, latents, cond, generators):
        noise, timesteps, noisy = noised(scheduler, latents, generators)
        return (backbone(noisy, timesteps, cond).float() - (noise - latents)).square().mean((1, 2, 3))
""",
}
MORE = {  # options of a trick beside its YAML
    "adversary": ["--model.lr_scheduler", REPOSITORY / "configs" / "lr_scheduler" / "cosine.yaml", "--model.warmup_steps", 1],
    "flow": ["--model.adapter", REPOSITORY / "configs" / "adapter" / "full.yaml"],
}


def read(file: Path) -> dict:
    return torch.load(file, weights_only=True)


def same(one: object, other: object) -> bool:
    """Whether plain data are equal, tensors to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_folder) -> SimpleNamespace:
    """A folder with clips and every trick; its cache serves them all."""
    folder = tmp_path_factory.mktemp("tricks")
    for name, text in TRICKS.items():
        (folder / f"trick_{name}.py").write_text(IMPORTS + text)
        (folder / f"{name}.yaml").write_text(f"class_path: trick_{name}.Trick\n")
    data = {**layouts.esc50(folder / "esc50", takes=1), "shots": 3}
    return SimpleNamespace(folder=folder, options=arguments(tiny_folder, data, steps=3))


@pytest.fixture
def fit(place, monkeypatch):
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place.folder / "cache"))
    monkeypatch.syspath_prepend(place.folder)

    def run(name: str, *more: object) -> Path:
        trick = ["--model.objective", f"{name}.yaml", *MORE.get(name, []), "--trainer.val_check_interval", 1]
        main(list(map(str, ["fit", *place.options, *trick, "--checkpoint.save_top_k", -1, *more])))
        return run_folder(place.folder)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_resumes_bit_for_bit_and_its_file_is_what_was_trained(name, fit):
    run = fit(name)
    whole, first = (read(run / "checkpoints" / file) for file in ("last.ckpt", "best-step=000001.ckpt"))
    resumed = read(fit(name, "--ckpt_path", run / "checkpoints" / "best-step=000001.ckpt") / "checkpoints" / "last.ckpt")
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(resumed[part], whole[part])
    own = [checkpoint["audioldm_lit"]["objective"] for checkpoint in (first, whole, resumed)]
    assert same(own[1], own[2])
    moves = {"adversary": ("weights", "optimizer"), "resolutions": ("weights",), "contrast": ("weights", "state"), "flow": ()}[name]
    assert {part for part in own[0] if not same(own[0][part], own[1][part])} == set(moves)
    assert not any(key.startswith("base.") for key in own[0]["weights"])  # a frozen copy is made again
    best = json.loads((run / "result.json").read_text())["best_step"]
    kept = averaged_weights(read(run / "checkpoints" / f"best-step={best:06d}.ckpt"))
    assert same(load_file(run / "adapter.safetensors"), kept)


@pytest.mark.slow
def test_a_second_optimizer_takes_the_same_steps_in_micro_batches_and_on_two_processes(fit, place, ranks):
    run = fit("adversary")
    whole = read(run / "checkpoints" / "last.ckpt")["audioldm_lit"]["objective"]["weights"]
    parts = fit(
        "adversary", "--data.init_args.batch_size", 4, "--trainer.accumulate_grad_batches", 2, "--trainer.val_check_interval", 2
    )
    words = ["fit", *place.options, "--model.objective", "adversary.yaml", *MORE["adversary"]]
    assert [status for status, _ in ranks.command_line(place.folder, words)] == [0, 0]
    for other in (parts, run_folder(place.folder)):
        found = read(other / "checkpoints" / "last.ckpt")["audioldm_lit"]["objective"]["weights"]
        assert all(torch.allclose(found[name], weight, atol=1e-4) for name, weight in whole.items())


# ---------------------------------------------------------------------- learning rates


def optimizer() -> SGD:
    one, other = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    return SGD([{"params": [one]}, {"params": [other], "lr": 2.0}], lr=1.0)


def walk(made, moved, steps: int) -> list[list[float]]:
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in made.param_groups])
        made.step()
        moved.step()
    return found


@pytest.mark.parametrize(
    ("after", "share"),
    [
        (None, lambda step: 1.0),
        (CosineToEnd, lambda step: (1 + torch.cos(torch.tensor(torch.pi * step / 6)).item()) / 2),
        (lambda one: CosineToEnd(one, 0.2), lambda step: 0.2 + 0.8 * (1 + torch.cos(torch.tensor(torch.pi * step / 6)).item()) / 2),
        (lambda one: CosineAnnealingLR(one, 6), lambda step: (1 + torch.cos(torch.tensor(torch.pi * step / 6)).item()) / 2),
        (lambda one: ExponentialLR(one, 0.5), lambda step: 0.5**step),
    ],
)
def test_a_scheduler_begins_where_warm_up_ends_and_is_gone_on_with(after, share):
    made = optimizer()
    moved = rates(made, 4, 10, after)
    expected = [0.25, 0.5, 0.75, 1.0, *(share(step) for step in range(6))]
    found = walk(made, moved, 7)
    state = made.state_dict(), moved.state_dict()
    assert found + walk(made, moved, 3) == [pytest.approx([rate, 2 * rate], abs=1e-6) for rate in expected]
    made = optimizer()
    moved = rates(made, 4, 10, after)
    made.load_state_dict(state[0])
    moved.load_state_dict(state[1])
    assert walk(made, moved, 3) == [pytest.approx([rate, 2 * rate], abs=1e-6) for rate in expected[7:]]


@pytest.mark.parametrize(
    ("after", "problem"),
    [(ReduceLROnPlateau, "follows a value"), (lambda one: CosineToEnd(one, 2.0), "final_share is 2"), (CosineAnnealingLR, "T_max")],
)
def test_a_scheduler_that_cannot_serve_is_refused(after, problem):
    with pytest.raises(InputError, match=rf"^model.lr_scheduler: .*{problem}"):
        rates(optimizer(), 4, 10, after)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"max_epochs": 3}, "trainer.max_epochs: is 3"),
        ({"max_steps": 5, "limit_train_batches": 2}, "trainer.limit_train_batches: is 2"),
        ({"max_steps": 5, "callbacks": [StochasticWeightAveraging(1e-2)]}, "has a StochasticWeightAveraging"),
        ({"max_steps": 5, "callbacks": [LearningRateFinder()]}, "has a LearningRateFinder"),
    ],
)
def test_what_counts_in_epochs_is_refused(settings, problem):
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    with pytest.raises(InputError, match=problem):
        check_stream(Trainer(**settings, **quiet))
    for allowed in ({"max_steps": 5}, {"max_steps": 5, "overfit_batches": 2}, {"fast_dev_run": True}):
        check_stream(Trainer(**allowed, **quiet))


def test_one_batch_is_not_taken_for_all_of_them(cli):
    status, out, err = cli(
        "fit", *("--config", REPOSITORY / "configs" / "demo.yaml"), "--trainer.limit_val_batches", 1, "--print_config"
    )
    assert status == 0, err
    assert "limit_val_batches: 1\n" in out
