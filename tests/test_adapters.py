"""Conformance of every shipped adapter: each YAML under configs/adapter is a case, found by glob."""

import copy
import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import psutil
import pytest
import safetensors.torch
import torch
import yaml
from torch import Tensor

from audioldm_lit.adapters.base import Adapter, saved, trainable
from audioldm_lit.adapters.contract import check_contract
from audioldm_lit.adapters.decoder import DecoderFineTune
from audioldm_lit.adapters.files import making
from audioldm_lit.adapters.files.adapter_file import FORMAT, load_adapter, load_weights, save_adapter, trust
from audioldm_lit.adapters.full import FullFineTune, Scratch
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.targets import PRESETS, resolve
from audioldm_lit.backbone import DECODER, UNET_SIDE, Backbone
from audioldm_lit.diffusion import NoisePrediction
from audioldm_lit.errors import InputError

import tiny

CONFIGS = sorted((Path(__file__).parent.parent / "configs" / "adapter").glob("*.yaml"))
ONE_OF_A_CLASS = list({yaml.safe_load(path.read_text())["class_path"]: path for path in CONFIGS}.values())
BATCH = (torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([10, 700]))
TARGET = torch.randn(BATCH[0].shape, generator=torch.Generator().manual_seed(3))
SOUND = torch.randn(
    2, 8, 4, 16, generator=torch.Generator().manual_seed(6)
)  # latents of which an adapter of the decoder makes sound
RECORDED = 0.1 * torch.randn(2, 2560, generator=torch.Generator().manual_seed(7))
CAPTIONS = ("<mine> rain", "a dog")  # textual inversion trains on its word; to others it is a word like any
ORDINARY = ("rain", "dog")
BASE = tiny.backbone()


def make(spec: dict) -> Adapter:
    return making.make(Adapter, {"init_args": {}, **spec}, Path("configs"))


def predict(adapter: Adapter, backbone: Backbone, captions: Sequence[str] = CAPTIONS) -> Tensor:
    """The prediction as `LitAudioLDM` makes it; of an adapter of the decoder, sound."""
    if isinstance(adapter, DecoderFineTune):
        return backbone.sound(SOUND)
    return backbone(*BATCH, adapter.prompt_embeds(backbone, captions, backbone.encode_text(captions)))


def loss_of(adapter: Adapter, backbone: Backbone) -> Tensor:
    target = RECORDED if isinstance(adapter, DecoderFineTune) else TARGET
    return (predict(adapter, backbone).float() - target).square().mean() + adapter.penalty(backbone)


def train(adapter: Adapter, backbone: Backbone, steps: int) -> Iterator[float]:
    """Yield the loss after every step, while its gradients are still there."""
    optimizer = torch.optim.AdamW(trainable(backbone).values(), lr=3e-3)
    for step in range(1, steps + 1):
        loss = loss_of(adapter, backbone)
        loss.backward()
        optimizer.step()
        adapter.after_step(backbone, step)
        yield loss.item()
        optimizer.zero_grad()


def disturb(backbone: Backbone) -> None:
    generator = torch.Generator().manual_seed(2)
    for weight in trainable(backbone).values():
        weight.data += 0.02 * torch.randn(weight.shape, generator=generator)


def inject(adapter: Adapter, mode: bool = False) -> Backbone:
    """A fresh tiny model with the adapter in it, the same at every call."""
    backbone = tiny.backbone().train(mode)
    torch.manual_seed(0)
    adapter.inject(backbone)
    return backbone


@cache
def injected(config: Path) -> tuple[Adapter, Backbone]:
    """The adapter of a file, and a tiny model with it."""
    adapter = make(yaml.safe_load(config.read_text()))
    return adapter, inject(adapter)


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def both(request) -> tuple[Adapter, Backbone]:
    """A copy of these."""
    adapter, backbone = injected(request.param)
    decoder = () if isinstance(adapter, DecoderFineTune) else (backbone.vae, backbone.vocoder)
    shared = *decoder, backbone.audio_encoder, backbone.log_mel
    return copy.deepcopy((adapter, backbone), {id(module): module for module in shared})


# ---------------------------------------------------------------------- at the start


@torch.no_grad()
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_output_at_start_is_the_base_output(config):
    adapter, backbone = injected(config)
    if isinstance(adapter, Scratch):
        pytest.skip("starts from nothing by design")
    base = BASE.sound(SOUND) if isinstance(adapter, DecoderFineTune) else BASE(*BATCH, BASE.encode_text(ORDINARY))
    assert torch.allclose(predict(adapter, backbone, ORDINARY), base, atol=2e-6)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_injection_is_reproducible_and_leaves_modes_alone(config):
    adapter, backbone = injected(config)
    other = inject(make(adapter.spec()), mode=True)
    ours, others = trainable(backbone), trainable(other)
    assert ours.keys() == others.keys()
    assert all(torch.equal(weight, others[name]) for name, weight in ours.items())
    assert not any(module.training for module in backbone.modules())
    assert all(module.training for module in other.unet.modules())
    assert not any(module.training for module in other.text_encoder.modules())


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_spec_tells_every_argument_and_fits_into_a_file(config):
    adapter = make(yaml.safe_load(config.read_text()))
    spec = adapter.spec()
    arguments = inspect.signature(type(adapter)).parameters
    assert spec["init_args"].keys() == arguments.keys()
    assert make(json.loads(json.dumps(spec))).spec() == spec


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_adapter_keeps_the_contract_and_saves_nothing_but_what_trains(config):
    adapter, backbone = injected(config)
    trains = DECODER if isinstance(adapter, DecoderFineTune) else UNET_SIDE
    anew = check_contract(adapter, backbone, tiny.backbone(), 0, trains)
    assert saved(trainable(backbone), backbone, anew).keys() == trainable(backbone).keys()


# ---------------------------------------------------------------------- training


def test_every_declared_weight_receives_a_gradient_no_other_moves_and_the_loss_falls(both):
    adapter, backbone = both
    frozen = {name: weight.clone() for name, weight in backbone.named_parameters() if not weight.requires_grad}
    weights, losses = trainable(backbone), []
    cold = set(weights)
    for loss in train(adapter, backbone, steps=3):
        losses.append(loss)
        cold -= {name for name in cold if (grad := weights[name].grad) is not None and grad.any()}
    assert not cold
    assert losses[-1] < losses[0]
    assert all(torch.equal(weight, frozen[name]) for name, weight in backbone.named_parameters() if name in frozen)


@pytest.mark.parametrize("both", ONE_OF_A_CLASS, ids=lambda path: path.stem, indirect=True)
def test_gradient_checkpointing_changes_no_gradient(both):
    adapter, plain = both
    if isinstance(adapter, DecoderFineTune):
        pytest.skip("no pass goes through the UNet")
    plain.train()
    other, checkpointed = copy.deepcopy(both)
    checkpointed.unet.enable_gradient_checkpointing()
    calls = []
    checkpointed.unet.up_blocks[-1].resnets[0].register_forward_pre_hook(lambda *_: calls.append(1))
    for one, backbone in ((adapter, plain), (other, checkpointed)):
        disturb(backbone)
        torch.manual_seed(0)  # dropout
        loss_of(one, backbone).backward()
    assert len(calls) == 2  # forwards, and again for the gradients
    others = trainable(checkpointed)
    for name, weight in trainable(plain).items():
        assert torch.allclose(weight.grad, others[name].grad, rtol=1e-4, atol=1e-7), name


def test_trains_in_bfloat16_with_frozen_weights_stored_in_it(both):
    adapter, backbone = both
    backbone.train()
    for weight in backbone.unet.parameters():  # as LitAudioLDM.setup does
        if not weight.requires_grad and weight.dim() > 1:
            weight.data = weight.data.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(adapter, backbone)
    loss.backward()
    assert loss.isfinite()
    grads = [weight.grad for weight in trainable(backbone).values() if weight.grad is not None]
    assert grads
    assert all(grad.isfinite().all() and grad.dtype == torch.float32 for grad in grads)


# ---------------------------------------------------------------------- merging and files


@torch.no_grad()
def test_file_restores_the_adapter_exactly_and_merging_preserves_output(both, backbone, tmp_path):
    adapter, adapted = both
    base = backbone.fingerprint("unet")
    disturb(adapted)
    save_adapter(tmp_path / "a.safetensors", adapter, dict(trainable(adapted)), base, NoisePrediction())
    loaded, prediction = load_adapter(tmp_path / "a.safetensors", backbone)
    assert prediction == NoisePrediction()
    assert loaded.spec() == adapter.spec()
    before = predict(adapter, adapted)
    assert torch.equal(predict(loaded, backbone), before)
    adapter.merge(adapted)
    assert torch.allclose(predict(adapter, adapted), before, atol=1e-5 * before.abs().max().item())


def test_file_of_another_base_is_refused(backbone, tmp_path):
    adapter = PeftAdapter(options={"r": 4})
    adapted = inject(adapter)
    save_adapter(tmp_path / "a.safetensors", adapter, dict(trainable(adapted)), "0123456789abcdef", NoisePrediction())
    with pytest.raises(InputError, match=r"a\.safetensors.*same base"):
        load_adapter(tmp_path / "a.safetensors", backbone)


@pytest.mark.parametrize("trained_on", ["float32", "float16", "float16, by an older version"])
def test_a_base_and_its_copy_in_half_precision_are_one_base(tmp_path, trained_on):
    full, half = tiny.backbone(), tiny.backbone().half().float()
    bases = (full, half) if trained_on == "float32" else (half, full)
    adapter, adapted = PeftAdapter(options={"r": 4}), copy.deepcopy(bases[0])
    adapter.inject(adapted)
    rounded = bases[0].fingerprint("unet", rounded=True) if "older" not in trained_on else None
    file, base = tmp_path / "a.safetensors", bases[0].fingerprint("unet")
    assert base != bases[1].fingerprint("unet")
    save_adapter(file, adapter, dict(trainable(adapted)), base, NoisePrediction(), None, rounded)
    load_adapter(file, bases[1])
    with pytest.raises(InputError, match="same base"):
        load_adapter(file, tiny.backbone(seed=1))


def test_weights_of_another_adapter_are_refused():
    backbone, other = inject(PeftAdapter(options={"r": 4})), inject(FullFineTune())
    with pytest.raises(InputError, match="of another adapter"):
        load_weights(backbone, dict(trainable(other)), "here")
    wider = inject(PeftAdapter(options={"r": 8}))
    with pytest.raises(InputError, match="use the adapter settings"):
        load_weights(backbone, dict(trainable(wider)), "here")


def test_damaged_file_is_named(backbone, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match=r"a\.safetensors: cannot be read"):
        load_adapter(tmp_path / "a.safetensors", backbone)


LORA = {"class_path": "audioldm_lit.adapters.peft.PeftAdapter", "init_args": {"options": {"r": 4}}}
LIES = {
    "a list": ([LORA], "does not say how it was made"),
    "a string": ("lora", "does not say how it was made"),
    "null": (None, "does not say how it was made"),
    "settings that are a list": ({**LORA, "init_args": ["r"]}, "does not say how it was made"),
    "an unknown setting": ({**LORA, "init_args": {"rank": 4}}, "was made by another version"),
    "a setting of another type": ({**LORA, "init_args": {"options": 3}}, "has wrong settings"),
    "an abstract class": ({**LORA, "class_path": "audioldm_lit.adapters.base.Adapter"}, "is no Adapter"),
    "another class": ({**LORA, "class_path": "audioldm_lit.adapters.targets.resolve"}, "is no Adapter"),
    "no module": ({**LORA, "class_path": "Adapter"}, "a class of somebody else's"),
    "a module of the folder": ({**LORA, "class_path": "lurking.Trick"}, "give --trust lurking"),
    "a system's function": ({**LORA, "class_path": "os.system", "init_args": {"command": "touch ran"}}, "is no Adapter"),
}


def test_a_file_that_would_fill_the_memory_or_take_years_is_refused(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr("audioldm_lit.adapters.files.bounds.SECONDS", 1.0)
    evil = {**LORA, "init_args": {"targets": [r"(.?.?.?.?.?)*(.?.?.?.?.?)*(.?.?.?.?.?)*!"]}}
    huge = {**LORA, "init_args": {"options": {"r": 10**9}}}
    vectors = {"class_path": "audioldm_lit.adapters.textual_inversion.TextualInversion", "init_args": {"num_vectors": 10**7}}
    large = {**LORA, "init_args": {"options": {"r": 10**6}}}
    weights = {"weight": torch.zeros(10**6 + 1)}  # enough for such a number, not for such a rank of every layer
    for spec, more, problem in (
        (evil, {}, "takes more than"),
        (huge, {}, "asks for r 1,000,000,000"),
        (vectors, {}, "asks for num_vectors 10,000,000"),
        (large, weights, "cannot be made|does not fit"),
    ):
        before = psutil.Process().memory_info().rss
        with pytest.raises(InputError, match=problem):
            load_adapter(lying(tmp_path / "a.safetensors", spec, **more), backbone)
        assert psutil.Process().memory_info().rss - before < 2**30
        backbone = tiny.backbone()


def lying(
    path: Path, spec: object, prediction_type: str = "epsilon", dtype: torch.dtype = torch.float32, **weights: Tensor
) -> Path:
    about = {"format": FORMAT, "adapter": json.dumps(spec), "base": tiny.backbone().fingerprint("unet"), "version": "1"}
    safetensors.torch.save_file(
        {"weight": torch.zeros(64, dtype=dtype), **weights}, path, {**about, "prediction_type": prediction_type}
    )
    return path


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_about_its_adapter_is_one_sentence_and_runs_nothing(backbone, workdir, monkeypatch, lie):
    monkeypatch.syspath_prepend(workdir)
    (workdir / "lurking.py").write_text("open('ran', 'w')\n")
    spec, problem = LIES[lie]
    with pytest.raises(InputError, match=problem):
        load_adapter(lying(workdir / "a.safetensors", spec), backbone)
    assert not (workdir / "ran").exists()


def test_a_module_that_the_user_trusts_is_imported(backbone, workdir, monkeypatch):
    monkeypatch.syspath_prepend(workdir)
    (workdir / "trusted.py").write_text("from audioldm_lit.adapters.peft import PeftAdapter\nclass Trick(PeftAdapter): pass\n")
    adapted = inject(PeftAdapter(options={"r": 4}))
    path, base = workdir / "a.safetensors", tiny.backbone().fingerprint("unet")
    trust(["trusted"])
    save_adapter(path, sys.modules["trusted"].Trick(options={"r": 4}), dict(trainable(adapted)), base, NoisePrediction())
    assert type(load_adapter(path, backbone)[0]).__name__ == "Trick"
    with pytest.raises(InputError, match="cannot be imported"):
        trust(["nowhere"])


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.float8_e4m3fn])
def test_weights_that_are_no_floating_point_numbers_are_refused(backbone, tmp_path, dtype):
    with pytest.raises(InputError, match="save it as one of float32"):
        load_adapter(lying(tmp_path / "a.safetensors", LORA, dtype=dtype), backbone)


def test_an_unknown_prediction_is_refused(backbone, tmp_path):
    with pytest.raises(InputError, match="predicts 'flow_prediction'"):
        load_adapter(lying(tmp_path / "a.safetensors", LORA, prediction_type="flow_prediction"), backbone)


# ---------------------------------------------------------------------- peft


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
    expected["norm"] = {"conv_norm_out", "norm", "norm1", "norm2", "norm3"}
    assert kinds == expected[preset]


@torch.no_grad()
def test_text_path_alone_changes_what_text_does(backbone):
    adapter = PeftAdapter(options={"r": 4}, targets=["text_path"])
    adapter.inject(backbone)
    before = predict(adapter, backbone)
    disturb(backbone)
    assert (predict(adapter, backbone) - before).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"targets": ["to_q"]}, "'to_q' matches no"),
        ({"targets": ["("]}, "no regular expression"),
        ({"targets": []}, "targets: is empty"),
        ({"config": "Foo"}, "'Foo'"),
        ({"options": {"rank": 3}}, "rank"),
        ({"options": {"r": 0}}, "`r` should be a positive integer"),
    ],
)
def test_wrong_settings_are_named(backbone, settings, named):
    with pytest.raises(InputError, match=named):
        PeftAdapter(**settings).inject(backbone)
