"""Conformance of every shipped adapter: each YAML under configs/adapter is a case, found by glob."""

import importlib
from pathlib import Path

import pytest
import torch
import yaml

from audioldm_lit.adapters.base import Adapter, trainable
from audioldm_lit.adapters.file import load_adapter, load_weights, save_adapter
from audioldm_lit.adapters.full import FullFineTune
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.targets import PRESETS, resolve
from audioldm_lit.errors import InputError

import tiny

CONFIGS = sorted((Path(__file__).parent.parent / "configs" / "adapter").glob("*.yaml"))
BATCH = (torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([10, 700]))


def make(config: Path) -> Adapter:
    block = yaml.safe_load(config.read_text())
    module, _, name = block["class_path"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**block.get("init_args", {}))


def predict(backbone) -> torch.Tensor:
    return backbone(*BATCH, backbone.encode_text(["rain", "dog"]))


def disturb(backbone) -> None:
    generator = torch.Generator().manual_seed(2)
    for weight in trainable(backbone).values():
        weight.data += 0.02 * torch.randn(weight.shape, generator=generator)


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def adapter(request) -> Adapter:
    return make(request.param)


def test_output_at_start_is_the_base_output(adapter, backbone):
    if "scratch" in type(adapter).__name__.lower():
        pytest.skip("starts from nothing by design")
    base = predict(backbone)
    adapter.inject(backbone)
    assert torch.allclose(predict(backbone), base, atol=2e-6)


def test_only_the_declared_weights_move_and_the_loss_falls(adapter, backbone):
    adapter.inject(backbone)
    weights = trainable(backbone)
    frozen = {name: weight.clone() for name, weight in backbone.named_parameters() if name not in weights}
    optimizer = torch.optim.AdamW(weights.values(), lr=3e-3)
    target = torch.randn(BATCH[0].shape, generator=torch.Generator().manual_seed(3))
    losses = []
    for _ in range(5):
        loss = (predict(backbone) - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(weight, frozen[name]) for name, weight in backbone.named_parameters() if name in frozen)


def test_merge_preserves_output(adapter, backbone):
    adapter.inject(backbone)
    disturb(backbone)
    before = predict(backbone)
    adapter.merge(backbone)
    assert torch.allclose(predict(backbone), before, atol=1e-5 * before.abs().max().item())


def test_file_restores_the_adapter_exactly(adapter, backbone, tmp_path):
    base = backbone.fingerprint("unet")
    adapter.inject(backbone)
    disturb(backbone)
    save_adapter(tmp_path / "a.safetensors", adapter, dict(trainable(backbone)), base, "epsilon")
    fresh = tiny.backbone()
    loaded, prediction_type = load_adapter(tmp_path / "a.safetensors", fresh)
    assert prediction_type == "epsilon"
    assert loaded.spec() == adapter.spec()
    assert torch.equal(predict(fresh), predict(backbone))


def test_file_of_another_base_is_refused(adapter, backbone, tmp_path):
    adapter.inject(backbone)
    save_adapter(tmp_path / "a.safetensors", adapter, dict(trainable(backbone)), "0123456789abcdef", "epsilon")
    with pytest.raises(InputError, match=r"a\.safetensors.*same base"):
        load_adapter(tmp_path / "a.safetensors", tiny.backbone())


def test_injection_is_reproducible_and_leaves_modes_alone(adapter, backbone):
    torch.manual_seed(0)
    adapter.inject(backbone)
    other = tiny.backbone()
    torch.manual_seed(0)
    adapter.inject(other)
    assert all(torch.equal(weight, trainable(other)[name]) for name, weight in trainable(backbone).items())
    assert not any(module.training for module in backbone.modules())


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_finds_layers_and_nothing_else(backbone, preset):
    names = resolve([preset], backbone.unet)
    kinds = {name.split(".")[-1] for name in names}
    expected = {
        "attention": {"to_q", "to_k", "to_v", "0"},
        "text_path": {"class_embedding", "time_emb_proj"},
        "feed_forward": {"proj", "2"},
        "conv": {"conv_in", "conv_out", "conv", "conv1", "conv2", "conv_shortcut", "proj_in", "proj_out"},
    }
    expected["all"] = set().union(*expected.values())
    assert kinds == expected[preset]


def test_text_path_alone_changes_what_text_does(backbone):
    adapter = PeftAdapter(options={"r": 4}, targets=["text_path"])
    adapter.inject(backbone)
    before = predict(backbone)
    disturb(backbone)
    assert (predict(backbone) - before).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"targets": ["to_q"]}, "'to_q' matches no"),
        ({"targets": ["("]}, "no regular expression"),
        ({"targets": []}, "targets is empty"),
        ({"config": "Foo"}, "'Foo'"),
        ({"options": {"rank": 3}}, "rank"),
        ({"options": {"r": 0}}, "`r` should be a positive integer"),
    ],
)
def test_wrong_settings_are_named(backbone, settings, named):
    with pytest.raises(InputError, match=named):
        PeftAdapter(**settings).inject(backbone)


def test_weights_of_another_adapter_are_refused(backbone):
    PeftAdapter(options={"r": 4}).inject(backbone)
    other = tiny.backbone()
    FullFineTune().inject(other)
    with pytest.raises(InputError, match="of another adapter"):
        load_weights(backbone, dict(trainable(other)), "here")
    wider = tiny.backbone()
    PeftAdapter(options={"r": 8}).inject(wider)
    with pytest.raises(InputError, match="use the adapter settings"):
        load_weights(backbone, dict(trainable(wider)), "here")


def test_damaged_file_is_named(backbone, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match=r"a\.safetensors: cannot be read"):
        load_adapter(tmp_path / "a.safetensors", backbone)
