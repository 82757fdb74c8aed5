"""Methods of the peft package: what they leave behind, which are refused, and AdaLoRA's ranks."""

import importlib
import io
import itertools
from pathlib import Path

import peft
import pytest
import torch
import yaml
from diffusers import UNet2DConditionModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from audioldm_lit.adapters.adalora import AdaLoRA
from audioldm_lit.adapters.base import Adapter, trainable
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.targets import resolve
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError
from audioldm_lit.places import NANO

import tiny

BATCH = (torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([10, 700]))
ALL = sorted((Path(__file__).parent.parent / "configs" / "adapter").glob("*.yaml"))
CONFIGS = [path for path in ALL if yaml.safe_load(path.read_text())["class_path"].rpartition(".")[2] in ("PeftAdapter", "AdaLoRA")]
SHORT = {
    "init_r": 6,
    "target_r": 2,
    "lora_alpha": 6,
    "tinit": 2,
    "tfinal": 3,
    "deltaT": 1,
    "total_step": 10,
    "orth_reg_weight": 0.1,
}


def make(config: Path) -> Adapter:
    block = yaml.safe_load(config.read_text())
    module, _, name = block["class_path"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**block["init_args"])


def predict(backbone) -> torch.Tensor:
    return backbone(*BATCH, backbone.encode_text(["rain", "dog"]))


def disturb(backbone, by=0.02) -> None:
    generator = torch.Generator().manual_seed(2)
    for weight in trainable(backbone).values():
        weight.data += by * torch.randn(weight.shape, generator=generator)


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def adapter(request) -> Adapter:
    return make(request.param)


# ---------------------------------------------------------------------- every shipped method


@torch.no_grad()
def test_merged_unet_is_the_bases_own_and_can_be_saved_and_adapted_again(adapter, backbone, tmp_path, recwarn):
    own = [(name, type(module)) for name, module in backbone.unet.named_modules()]
    names = list(backbone.unet.state_dict())
    adapter.inject(backbone)
    disturb(backbone)
    before = predict(backbone)
    adapter.merge(backbone)
    assert [(name, type(module)) for name, module in backbone.unet.named_modules()] == own
    assert list(backbone.unet.state_dict()) == names
    assert not any(weight.requires_grad for weight in backbone.parameters())
    merged = backbone.unet
    merged.save_pretrained(tmp_path)
    backbone.unet = UNet2DConditionModel.from_pretrained(tmp_path)
    assert torch.allclose(predict(backbone), before, atol=1e-5 * before.abs().max().item())
    backbone.unet = merged
    PeftAdapter(options={"r": 2}, targets=["text_path"]).inject(backbone)
    assert not [warning for warning in recwarn if "peft" in str(warning.message)]


def test_measuring_leaves_the_layers_as_peft_makes_them(adapter, backbone):
    torch.manual_seed(0)
    adapter.inject(backbone)
    other = tiny.backbone()
    config = adapter._peft_config(resolve(adapter.targets, other.unet))
    torch.manual_seed(0)
    peft.inject_adapter_in_model(config, other.unet)
    expected = other.unet.state_dict()
    assert list(backbone.unet.state_dict()) == list(expected)
    assert all(torch.equal(weight, expected[name]) for name, weight in backbone.unet.state_dict().items())


def test_fits_the_toy_model(adapter):
    backbone = Backbone.load(NANO, read=())
    names = resolve(adapter.targets, backbone.unet)
    adapter.inject(backbone)
    wrapped = [name for name, module in backbone.unet.named_modules() if isinstance(module, BaseTunerLayer)]
    assert sorted(wrapped) == sorted(names)


# ---------------------------------------------------------------------- what is refused

OFT = {"oft_block_size": 8, "r": 0}
REFUSED = [
    ("OFTConfig", OFT, ["all"], "does not start as the base"),
    ("OFTConfig", OFT, [r".*\.conv2"], "does not start as the base"),
    ("LoraConfig", {"init_lora_weights": "pissa"}, ["all"], "pissa on conv_in is for linear layers"),
    ("LoraConfig", {"init_lora_weights": "olora"}, ["conv"], "olora on conv_in is for linear layers"),
    ("LoraConfig", {"init_lora_weights": "orthogonal"}, ["conv"], "orthogonal on conv_in is for linear layers"),
    ("LoraConfig", {"init_lora_weights": "mica"}, ["conv"], "mica on conv_in is for linear layers"),
    ("LoraConfig", {"init_lora_weights": "pissa_niter_4"}, ["attention"], "cannot repeat it; use pissa"),
    ("LoraConfig", {"init_lora_weights": "eva"}, ["attention"], "sees data"),
    ("LoraConfig", {"init_lora_weights": False}, ["attention"], "does not start as the base"),
    ("LoraConfig", {"lora_bias": True}, ["attention"], r"to_q cannot be .* base layer has no bias"),
    ("LoraConfig", {"modules_to_save": ["conv_in"]}, ["attention"], "cannot be merged; name these layers in targets"),
    ("LoraConfig", {}, ["norm"], "GroupNorm"),
    ("FourierFTConfig", {}, ["attention"], "does not start as the base"),
    ("C3AConfig", {"block_size": 8}, ["attention"], "does not start as the base"),
    ("HRAConfig", {"r": 7}, ["attention"], "does not start as the base"),
    ("LilyConfig", {}, ["attention"], "cannot be used and merged"),
    ("BeftConfig", {}, ["attention"], r"to_q cannot be used and merged .*no bias"),
    ("OSFConfig", {}, ["conv"], "on conv_in is skipped"),
    ("OSFConfig", {}, ["all"], "is skipped"),
    ("TrainableTokensConfig", {}, ["conv"], "refuses these options and targets"),
    ("PolyConfig", {}, ["attention"], "task_ids"),
    ("IA3Config", {}, ["all"], r"feedforward_modules: None.*give"),
    ("BOFTConfig", {"boft_block_size": 32}, ["all"], "must be divisible by boft_block_size"),
    ("BOFTConfig", {"boft_block_size": 8, "boft_n_butterfly_factor": 2}, ["attention"], "take 1 everywhere"),
    ("AdaLoraConfig", {"total_step": 10}, ["attention"], r"adalora\.AdaLoRA"),
    ("VeraConfig", {}, ["attention"], "shares weights"),
    ("PveraConfig", {}, ["attention"], "shares weights"),
    ("VBLoRAConfig", {"num_vectors": 8, "vector_length": 32}, ["attention"], "shares weights"),
    ("CPTConfig", {}, ["attention"], "options: do not fit peft's CPTConfig"),
]


@pytest.mark.parametrize(("config", "options", "targets", "reason"), REFUSED)
def test_what_does_not_work_is_refused_with_the_reason(backbone, config, options, targets, reason):
    with pytest.raises(InputError, match=reason) as caught:
        PeftAdapter(config, options, targets).inject(backbone)
    assert "\n" not in str(caught.value)


WORKS = [
    ("OFTConfig", OFT, ["attention", "feed_forward", "text_path", r".*\.proj_(in|out)"]),
    ("LoraConfig", {"init_lora_weights": "pissa"}, ["attention"]),
    ("LoraConfig", {"init_lora_weights": "olora"}, ["attention"]),
    ("LoraConfig", {"init_lora_weights": "orthogonal"}, ["attention"]),
    ("LoraConfig", {"lora_bias": True}, ["conv", "feed_forward", "text_path"]),
    ("LoraConfig", {"bias": "lora_only", "lora_dropout": 0.5}, ["all"]),
    ("FourierFTConfig", {"init_weights": True}, ["attention"]),
    ("C3AConfig", {"block_size": 8, "init_weights": True}, ["attention"]),
    ("RandLoraConfig", {"r": 4}, ["attention"]),
    ("BeftConfig", {}, ["feed_forward", "text_path"]),
    ("OSFConfig", {}, ["attention"]),
]


@torch.no_grad()
@pytest.mark.parametrize(("config", "options", "targets"), WORKS)
def test_what_works_is_not_refused(backbone, config, options, targets):
    base = predict(backbone)
    adapter = PeftAdapter(config, options, targets)
    adapter.inject(backbone)
    assert torch.allclose(predict(backbone), base, atol=5e-6)
    disturb(backbone, by=0.002)
    weights = {name: weight.clone() for name, weight in trainable(backbone).items()}
    moved = predict(backbone)
    assert not torch.allclose(moved, base, atol=1e-4)
    again = tiny.backbone()
    adapter.inject(again)
    for name, weight in trainable(again).items():
        weight.copy_(weights[name])
    assert torch.allclose(predict(again), moved, atol=5e-6)
    adapter.merge(backbone)
    assert torch.allclose(predict(backbone), moved, atol=1e-4)


# ---------------------------------------------------------------------- targets


def test_norm_names_every_norm_and_all_none(backbone):
    norms = [name for name, module in backbone.unet.named_modules() if isinstance(module, nn.GroupNorm | nn.LayerNorm)]
    assert resolve(["norm"], backbone.unet) == norms
    assert not set(norms) & set(resolve(["all"], backbone.unet))


def test_a_pattern_that_fits_both_names_no_norm(backbone):
    chosen = [backbone.unet.get_submodule(name) for name in resolve([r"mid_block\..*"], backbone.unet)]
    assert all(isinstance(module, nn.Linear | nn.Conv2d) for module in chosen)
    assert resolve([r"mid_block.*norm1"], backbone.unet)


# ---------------------------------------------------------------------- AdaLoRA


def train(adapter, backbone, steps, optimizer) -> None:
    target = torch.randn(BATCH[0].shape, generator=torch.Generator().manual_seed(3))
    for step in steps:
        optimizer.zero_grad()
        loss = (predict(backbone) - target).square().mean() + adapter.penalty(backbone)
        loss.backward()
        optimizer.step()
        adapter.after_step(backbone, step)


def begin(backbone) -> tuple[AdaLoRA, torch.optim.Optimizer]:
    adapter = AdaLoRA(SHORT, ["attention"])
    torch.manual_seed(0)
    adapter.inject(backbone)
    return adapter, torch.optim.AdamW(trainable(backbone).values(), lr=3e-3)


def ranks(backbone) -> list[int]:
    return [int(weight.count_nonzero()) for name, weight in trainable(backbone).items() if ".lora_E." in name]


def test_ranks_fall_to_the_target_on_average_and_differ(backbone):
    adapter, optimizer = begin(backbone)
    train(adapter, backbone, range(1, 3), optimizer)
    assert set(ranks(backbone)) == {6}
    averages = []
    for step in range(3, 11):
        train(adapter, backbone, [step], optimizer)
        averages.append(sum(ranks(backbone)) / len(ranks(backbone)))
    assert all(later <= earlier for earlier, later in itertools.pairwise(averages))
    assert averages[-1] == 2
    assert len(set(ranks(backbone))) > 1


@pytest.mark.parametrize("stop", [1, 5, pytest.param(9, marks=pytest.mark.nightly)])
def test_a_resumed_run_ends_as_an_uninterrupted_one(backbone, stop):
    adapter, optimizer = begin(backbone)
    train(adapter, backbone, range(1, stop + 1), optimizer)
    file = io.BytesIO()
    weights = {name: weight.detach() for name, weight in trainable(backbone).items()}
    torch.save((weights, optimizer.state_dict(), adapter.state()), file)
    train(adapter, backbone, range(stop + 1, 11), optimizer)

    file.seek(0)
    weights, moments, state = torch.load(file, weights_only=True)
    resumed = tiny.backbone()
    other, optimizer = begin(resumed)
    for name, weight in trainable(resumed).items():
        weight.data.copy_(weights[name])
    optimizer.load_state_dict(moments)
    other.restore(state)
    train(other, resumed, range(stop + 1, 11), optimizer)
    assert all(torch.equal(weight, trainable(resumed)[name]) for name, weight in trainable(backbone).items())


def test_state_holds_the_averages_of_every_weight_once_a_step_was_made(backbone):
    adapter, optimizer = begin(backbone)
    assert not any(adapter.state().values())
    train(adapter, backbone, [1], optimizer)
    names = {name.removeprefix("unet.") for name in trainable(backbone)}
    assert all(averages.keys() == names for averages in adapter.state().values())


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_penalty_is_the_distance_from_orthogonal_matrices(backbone, scale):
    adapter, _ = begin(backbone)
    for name, weight in adapter.matrices.items():
        if ".lora_E." not in name:
            columns = torch.linalg.qr(torch.randn(max(weight.shape), min(weight.shape)))[0]
            weight.data = scale * (columns if ".lora_B." in name else columns.T)
    # the Gram matrix is scale^2 I, its distance from I is |scale^2 - 1| sqrt(r)
    assert adapter.penalty(backbone).item() == pytest.approx(0.1 * (scale**2 - 1) * 6**0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"target_r": 6}, "target_r is 6 and init_r 6"),
        ({"target_r": 0}, "target_r is 0"),
        ({"total_step": None}, "total_step"),
        ({"tinit": 8}, "tinit"),
        ({"orth_reg_weight": -1.0}, "orth_reg_weight"),
    ],
)
def test_wrong_schedule_is_named(change, named):
    with pytest.raises(InputError, match=named):
        AdaLoRA(SHORT | change)
