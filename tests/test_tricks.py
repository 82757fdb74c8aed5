"""Tricks that nobody foresaw, each one file and one YAML: they resume bit for bit, and their file is what was trained.

Each case is two of them at once, of different seams, so that a training serves both.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from audioldm_lit.adapters.files.adapter_file import load_adapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.cli import main
from audioldm_lit.training.checkpoint import averaged_weights

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
ONSETS = """
import torch
from audioldm_lit.metrics.base import ClipMetric, paired
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.metrics.extractors.base import Extractor

class Onsets(Extractor):  # how often a second the level rises from one hundredth of it to the next
    name, sample_rate, min_samples = "onsets", 16_000, 3200

    def embed(self, waveform, captions):
        level = 10 * (waveform.unfold(1, 160, 160).square().mean(2) + 1e-9).log10()
        rate = (level.diff(dim=1) > 0).double().sum(1) * 16_000 / waveform.shape[1]
        return {"embedding": rate[:, None, None]}

class OnsetRate(ClipMetric):
    higher_is_better = False

    def measure(self, preds, target):
        generated, recorded = paired(preds, target)
        return Estimate.of_mean((generated - recorded).abs().mean(dim=1))
"""
YAMLS = {
    "tar.yaml": "data: {class_path: audioldm_lit.data.webdataset.WebDataset, init_args: {root: tars, shots: 3, duration: 0.64, "
    "batch_size: 8}}\n",
    "onsets.yaml": "class_path: audioldm_lit.evaluation.protocol.Protocol\ninit_args: {name: onsets, metrics: {onset_rate: "
    "{class_path: trick_onsets.OnsetRate, init_args: {extractor: trick_onsets.Onsets}}}}\n",
}
SHIPPED = REPOSITORY / "configs"
WITH = {  # the other trick of a case
    "adversary": [
        *("--model.adapter", SHIPPED / "adapter" / "vera.yaml", "--model.warmup_steps", 1),
        *("--model.lr_scheduler", SHIPPED / "lr_scheduler" / "cosine.yaml"),
    ],
    "resolutions": ["--model.adapter", SHIPPED / "adapter" / "timestep_lora.yaml"],
    "contrast": ["--config", "tar.yaml"],
    "flow": ["--model.adapter", SHIPPED / "adapter" / "full.yaml", "--model.protocol", "onsets.yaml"],
}
MOVES = {  # of what an objective keeps
    "adversary": {"weights", "optimizer"}, "resolutions": {"weights"}, "contrast": {"weights", "state"}, "flow": set(),
}  # fmt: skip


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
    (folder / "trick_onsets.py").write_text(ONSETS)
    for name, text in YAMLS.items():
        (folder / name).write_text(text)
    layouts.tar_of(layouts.folder(folder / "plain")["root"], folder / "tars")
    data = {**layouts.esc50(folder / "esc50", takes=1), "shots": 3}
    return SimpleNamespace(folder=folder, options=arguments(tiny_folder, data, steps=2))


@pytest.fixture(scope="module")
def verb(place, ranks) -> Callable[..., Path]:
    """Runs one on some processes; gives the run's folder."""

    def run(processes: int, name: str, *more: object, verb: str = "fit") -> Path:
        words = [verb, *place.options, "--model.objective", f"{name}.yaml", *WITH[name]]
        words += ["--trainer.val_check_interval", 1, "--checkpoint.save_top_k", -1, *more]
        if processes == 2:
            assert [status for status, _ in ranks.command_line(place.folder, words)] == [0, 0]
        else:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(place.folder)
                patch.setenv("XDG_CACHE_HOME", str(place.folder / "cache"))
                patch.syspath_prepend(place.folder)
                main(list(map(str, words)))
        return run_folder(place.folder)

    return run


@pytest.fixture(scope="module")
def trained(verb) -> Callable[[int, str], Path]:
    """Run folder of a training, which is done once."""
    return cache(lambda processes, name: verb(processes, name))


def on(processes: int, *names: str) -> list:
    """Every trick, on so many processes; those that are not named at night alone."""
    return [pytest.param(name, processes, marks=() if name in names else pytest.mark.nightly) for name in TRICKS]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "processes"), [*on(1, "adversary", "contrast"), *on(2)])
def test_a_trick_resumes_bit_for_bit_and_its_file_is_what_was_trained(name, processes, trained, verb, tiny_folder):
    run = trained(processes, name)
    whole, first = (read(run / "checkpoints" / file) for file in ("last.ckpt", "best-step=000001.ckpt"))
    again = verb(processes, name, "--ckpt_path", run / "checkpoints" / "best-step=000001.ckpt")
    resumed = read(again / "checkpoints" / "last.ckpt")
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(resumed[part], whole[part])
    own = [checkpoint["audioldm_lit"]["objective"] for checkpoint in (first, whole, resumed)]
    assert same(own[1], own[2])
    assert {part for part in own[0] if not same(own[0][part], own[1][part])} == MOVES[name]
    assert not any(key.startswith("base.") for key in own[0]["weights"])  # a frozen copy is made again
    best = json.loads((run / "result.json").read_text())["best_step"]
    kept = averaged_weights(read(run / "checkpoints" / f"best-step={best:06d}.ckpt"))
    assert same(load_file(run / "adapter.safetensors"), kept)
    fresh = Backbone.load(tiny_folder)
    load_adapter(run / "adapter.safetensors", fresh)
    loaded = fresh.state_dict()
    assert all(torch.equal(loaded[weight], value) for weight, value in kept.items())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "processes"), on(2, "adversary"))
def test_processes_together_take_the_steps_of_one(name, processes, trained):
    for one, two in zip(*(_weights(trained(count, name)) for count in (1, processes)), strict=True):
        assert torch.allclose(one, two, atol=1e-4)


@pytest.mark.slow
def test_micro_batches_take_a_second_optimizer_s_steps_too(trained, verb):
    halves = ["--data.init_args.batch_size", 4, "--trainer.accumulate_grad_batches", 2, "--trainer.val_check_interval", 2]
    for one, other in zip(_weights(trained(1, "adversary")), _weights(verb(1, "adversary", *halves)), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.slow
def test_a_metric_is_the_same_on_two_processes(trained, verb):
    last = trained(1, "flow") / "checkpoints" / "last.ckpt"
    runs = [verb(processes, "flow", "--ckpt_path", last, verb="test") for processes in (1, 2)]
    one, two = (json.loads((run / "scores.json").read_text())["generated"]["metrics"]["onset_rate"]["value"] for run in runs)
    assert one == pytest.approx(two)
    assert one > 0


def _weights(run: Path) -> list[torch.Tensor]:
    """What a run has trained, of adapter and objective."""
    checkpoint = read(run / "checkpoints" / "last.ckpt")
    return [*checkpoint["state_dict"].values(), *checkpoint["audioldm_lit"]["objective"]["weights"].values()]
