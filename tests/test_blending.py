"""Blends against hand-made sums of weights and of predictions."""

import json
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioldm_lit.adapters.base import trainable
from audioldm_lit.adapters.bottleneck import BottleneckAdapter
from audioldm_lit.adapters.files.adapter_file import load_adapter, save_adapter
from audioldm_lit.adapters.full import FullFineTune
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.textual_inversion import TextualInversion
from audioldm_lit.diffusion import VelocityPrediction
from audioldm_lit.errors import InputError
from audioldm_lit.inference.blending import AdaptedCopy, AdapterSetting, Blend, copy_backbone
from audioldm_lit.inference.generation import NOISE

import tiny

LATENTS = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(1))
PROMPTS = ["<mine> rain", "dog"]
BASE = tiny.backbone()
SOME = ["attention", "conv_out", r"mid_block\..*"]  # linear layers and convolutions, some of them of another adapter too


def predict(model, step=500) -> torch.Tensor:
    with torch.no_grad():
        return model(LATENTS, torch.tensor([step, step]), model.encode_text(PROMPTS))


def saved(path, adapter, seed, prediction=NOISE):
    """An adapter file with weights that do something."""
    backbone = tiny.backbone()
    adapter.inject(backbone)
    generator = torch.Generator().manual_seed(seed)
    for weight in trainable(backbone).values():
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    save_adapter(path, adapter, dict(trainable(backbone)), BASE.fingerprint("unet"), prediction)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "conv": saved(folder / "conv.safetensors", PeftAdapter(options={"r": 4}, targets=["conv"]), 1),
        "some": saved(folder / "some.safetensors", PeftAdapter(options={"r": 4}, targets=SOME), 2),
        "bottleneck": saved(folder / "bottleneck.safetensors", BottleneckAdapter(), 3),
        "word": saved(folder / "word.safetensors", TextualInversion(), 4),
        "v": saved(folder / "v.safetensors", FullFineTune(), 5, VelocityPrediction()),
    }


@cache
def merged(file):
    """What the adapter's file alone makes of the base."""
    backbone = tiny.backbone()
    adapter, _ = load_adapter(file, backbone)
    adapter.merge(backbone)
    return adapter, backbone


@cache
def loaded(file):
    """The adapter's file on a copy of the base."""
    return AdaptedCopy.load(AdapterSetting(file), BASE)


def blend(*adapters):
    copies = [replace(loaded(one.file), setting=one, backbone=copy_backbone(loaded(one.file).backbone)) for one in adapters]
    return Blend(copy_backbone(BASE), copies)


def summed(*weighted):
    """The base with weights W_0 + sum_i s_i (W_i - W_0)."""
    backbone = tiny.backbone()
    before = {name: weight.double().clone() for name, weight in backbone.unet.state_dict().items()}
    total = dict(before)
    for file, strength in weighted:
        for name, weight in merged(file)[1].unet.state_dict().items():
            total[name] = total[name] + strength * (weight.double() - before[name])
    backbone.unet.load_state_dict(total)
    return backbone


def test_folded_blend_is_the_sum_of_hand_made_deltas(files):
    """dW = scaling B A for every LoRA layer, read from the modules of peft."""
    model = blend(AdapterSetting(files["conv"], 0.5), AdapterSetting(files["some"], -2.0))
    expected = {name: weight.double().clone() for name, weight in BASE.unet.state_dict().items()}
    for file, strength in ((files["conv"], 0.5), (files["some"], -2.0)):
        backbone = tiny.backbone()
        load_adapter(file, backbone)
        for name, layer in backbone.unet.named_modules():
            if hasattr(layer, "lora_A"):
                a, b = (getattr(layer, one)["default"].weight.double() for one in ("lora_A", "lora_B"))
                product = (b.flatten(1) @ a.flatten(1)).view(layer.get_base_layer().weight.shape)
                expected[f"{name}.weight"] += strength * layer.scaling["default"] * product
    predict(model)
    assert all(torch.allclose(weight.double(), expected[name], atol=1e-6) for name, weight in model.unet.state_dict().items())


@settings(max_examples=5)
@given(st.floats(-3, 3), st.floats(-3, 3))
def test_folded_blend_predicts_like_its_sum_of_weights(files, one, other):
    model = blend(AdapterSetting(files["conv"], one), AdapterSetting(files["some"], other))
    assert torch.allclose(predict(model), predict(summed((files["conv"], one), (files["some"], other))), atol=1e-5)


@pytest.mark.parametrize("names", [["some"], ["bottleneck"], ["some", "bottleneck", "word"]])
def test_strength_0_is_the_base_to_the_last_bit(files, names):
    assert torch.equal(predict(blend(*(AdapterSetting(files[name], 0.0) for name in names))), predict(BASE))


@pytest.mark.parametrize("name", ["conv", "some", "bottleneck", "word"])
def test_lone_adapter_of_strength_1_is_the_adapter_to_the_last_bit_in_one_pass(files, name):
    adapter, backbone = merged(files[name])
    with torch.no_grad():
        cond = adapter.prompt_embeds(backbone, PROMPTS, BASE.encode_text(PROMPTS))
        expected = backbone(LATENTS, torch.tensor([500, 500]), cond)
    model = blend(AdapterSetting(files[name]), AdapterSetting(files["v"], 0.0))
    passes = []
    for unet in {model.unet, *(one.unet for one in model.passes)}:
        unet.register_forward_hook(lambda *_: passes.append(1))
    assert torch.equal(predict(model), expected)
    assert len(passes) == 1
    assert not torch.equal(expected, predict(BASE))


@pytest.mark.parametrize("name", ["some", "bottleneck", "word"])
def test_adapter_acts_from_the_first_timestep_to_below_the_second(files, name):
    model = blend(AdapterSetting(files[name], timesteps=(200, 600)))
    alone = blend(AdapterSetting(files[name]))
    for step in (0, 199, 600, 999, 200, 599, 199):  # back and forth: what was folded in is taken out again
        expected = alone if 200 <= step < 600 else BASE
        assert torch.equal(predict(model, step), predict(expected, step)), step


def test_rows_at_different_timesteps_are_blended_each_on_its_own(files):
    model = blend(AdapterSetting(files["some"], 0.7, (0, 500)), AdapterSetting(files["bottleneck"], 2.0, (400, 1000)))
    with torch.no_grad():
        cond = model.encode_text(PROMPTS)
        together = model(LATENTS, torch.tensor([450, 700]), cond)
        apart = [model(LATENTS[i : i + 1], torch.tensor([step]), cond[i : i + 1]) for i, step in enumerate((450, 700))]
    assert torch.allclose(together, torch.cat(apart), atol=1e-6)


def test_what_cannot_be_folded_is_blended_in_the_predictions(files):
    """pred = pred_folded + sum_j s_j (pred_j - pred_base), each adapter with the text as it reads it."""
    model = blend(AdapterSetting(files["some"], 0.5), AdapterSetting(files["bottleneck"], 0.3), AdapterSetting(files["word"], -0.8))
    base, bottleneck = predict(BASE), predict(merged(files["bottleneck"])[1])
    word = predict(merged(files["word"])[1])
    assert (word[0] - base[0]).abs().max() > 1e-4
    expected = predict(summed((files["some"], 0.5))) + 0.3 * (bottleneck - base) - 0.8 * (word - base)
    assert torch.allclose(predict(model), expected, atol=1e-5)


def test_without_a_folded_adapter_the_base_is_asked_once(files):
    model = blend(AdapterSetting(files["bottleneck"], 0.5))
    passes = []
    model.unet.register_forward_hook(lambda *_: passes.append(1))
    expected = predict(BASE) + 0.5 * (predict(merged(files["bottleneck"])[1]) - predict(BASE))
    assert torch.allclose(predict(model), expected, atol=1e-6)
    assert len(passes) == 1
    assert model.base is None


def test_the_same_adapter_twice_is_double_its_strength(files):
    twice = blend(AdapterSetting(files["some"], 0.5), AdapterSetting(files["some"], 0.5))
    assert torch.allclose(predict(twice), predict(blend(AdapterSetting(files["some"]))), atol=1e-5)


def test_base_is_not_touched_by_loading(files):
    base = tiny.backbone()
    before = base.fingerprint("unet"), base.fingerprint("text_encoder"), len(base.tokenizer)
    for name in ("some", "word", "v"):
        AdaptedCopy.load(AdapterSetting(files[name]), base)
    assert (base.fingerprint("unet"), base.fingerprint("text_encoder"), len(base.tokenizer)) == before


def test_twin_shares_what_adapters_leave_alone():
    other = copy_backbone(BASE)
    assert other.vae is BASE.vae
    assert other.unet is not BASE.unet
    assert torch.equal(predict(other), predict(BASE))


def test_an_adapter_that_predicts_something_else_is_used_alone_or_refused(files):
    assert blend(AdapterSetting(files["v"])).prediction == VelocityPrediction()
    for adapters in (
        [AdapterSetting(files["v"], 0.5)],
        [AdapterSetting(files["v"], timesteps=(0, 500))],
        [AdapterSetting(files["v"]), AdapterSetting(files["some"])],
    ):
        with pytest.raises(InputError, match=r"v\.safetensors: predicts v_prediction.*alone"):
            blend(*adapters)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"timesteps": (500, 200)}, r"timesteps are \[500, 200\]"),
        ({"timesteps": (0, 1001)}, r"timesteps are \[0, 1001\]"),
        ({"strength": float("inf")}, "strength is inf"),
    ],
)
def test_wrong_share_is_named(files, change, named):
    with pytest.raises(InputError, match=named):
        AdaptedCopy.load(AdapterSetting(files["some"], **change), BASE)


def generated(workdir, name):
    manifest = json.loads((workdir / name / "manifest.json").read_text())
    return manifest, [(workdir / name / clip["file"]).read_bytes() for clip in manifest["clips"]]


def test_command_line_and_yaml_take_several_adapters(cli, workdir, tiny_folder, files):
    options = ("--prompt", "rain", "--duration", "0.5", "--backbone", tiny_folder, "--sampler.num_inference_steps", "3")
    second = {"file": str(files["bottleneck"]), "strength": 0.5, "timesteps": [200, 1000]}
    (workdir / "blend.yaml").write_text(json.dumps({"adapter": [str(files["some"]), second]}))
    ways = {
        "json": ("--adapter", json.dumps([str(files["some"]), second])),
        "yaml": ("--config", "blend.yaml"),
        "plus": (f"--adapter+={files['some']}", f"--adapter+={json.dumps(second)}"),
    }
    for name, way in ways.items():
        status, out, err = cli("generate", *options, "--out", name, *way)
        assert status == 0, err
        assert out.count("effect: ") == 2
    expected = [{"file": str(files["some"]), "strength": 1.0, "timesteps": [0, 1000]}, second]
    results = [generated(workdir, name) for name in ways]
    assert all(manifest["adapters"] == expected for manifest, _ in results)
    assert results[0][1] == results[1][1] == results[2][1]
    assert cli("generate", *options, "--out", "alone", "--adapter", files["some"])[0] == 0
    assert generated(workdir, "alone")[1] != results[0][1]


def test_strength_0_on_the_command_line_sounds_like_the_base(cli, workdir, tiny_folder, files):
    options = ("--prompt", "rain", "--duration", "0.5", "--backbone", tiny_folder, "--sampler.num_inference_steps", "3")
    assert cli("generate", *options, "--out", "base")[0] == 0
    assert cli("generate", *options, "--out", "off", "--adapter.file", files["some"], "--adapter.strength", "0")[0] == 0
    assert generated(workdir, "base")[1] == generated(workdir, "off")[1]
    assert generated(workdir, "base")[0]["adapters"] == []


@pytest.mark.parametrize(
    ("adapter", "named"),
    [
        ({"timesteps": [990, 1000]}, "none of the sampler's timesteps"),
        ({"timesteps": [300, 200]}, "timesteps are [300, 200]"),
        ({"strenght": 2}, "file, strength and timesteps"),
        ({"file": "nowhere.safetensors"}, "nowhere.safetensors: no such file"),
    ],
)
def test_wrong_adapter_on_the_command_line_is_one_sentence(cli, workdir, tiny_folder, files, adapter, named):
    value = json.dumps({"file": str(files["some"]), **adapter})
    status, _, err = cli("generate", "--prompt", "rain", "--backbone", tiny_folder, "--adapter", value)
    assert status == 2
    assert err.splitlines()[-1].startswith("error: ")
    assert named in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (workdir / "generated").exists()
