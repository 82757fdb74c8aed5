"""What is said of an adapter against norms and distances taken by hand."""

import io
import json

import pytest
import torch
from rich.console import Console

from audioldm_lit.adapters.adalora import AdaLoRA
from audioldm_lit.adapters.base import trainable
from audioldm_lit.adapters.bottleneck import BottleneckAdapter
from audioldm_lit.adapters.full import FullFineTune, Scratch
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.textual_inversion import TextualInversion
from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import NoisePrediction, VelocityPrediction
from audioldm_lit.inference.blending import copy_backbone
from audioldm_lit.inference.effect import NO_EFFECT, SATURATED, Effect, measure_effect, show

import tiny

PROMPTS = ["<mine> rain", "dog"]
BASE = tiny.backbone()
ADAPTERS = {
    "lora": PeftAdapter(options={"r": 4}, targets=["all"]),
    "dora": PeftAdapter(options={"r": 4, "use_dora": True}, targets=["attention"]),
    "adalora": AdaLoRA({"init_r": 4, "target_r": 2, "tinit": 1, "tfinal": 1, "total_step": 9}, ["attention"]),
    "full": FullFineTune(),
    "bottleneck": BottleneckAdapter(),
    "word": TextualInversion(),
}


def adapted(adapter, amount: float) -> Backbone:
    """The base with the adapter, whose weights are moved by `amount`."""
    backbone = tiny.backbone()
    adapter.inject(backbone)
    generator = torch.Generator().manual_seed(2)
    for weight in trainable(backbone).values():
        weight.data += amount * torch.randn(weight.shape, generator=generator)
    return backbone


def effect(adapter, backbone, prompts=PROMPTS) -> Effect:
    return measure_effect(BASE, adapter, copy_backbone(backbone), NoisePrediction(), prompts)


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "word"])  # a new word is news to the base, trained or not
def test_untrained_adapter_has_no_effect_and_a_trained_one_has(name):
    nothing, something = (effect(ADAPTERS[name], adapted(ADAPTERS[name], amount)) for amount in (0.0, 0.3))
    assert nothing.verdict == "no effect"
    assert nothing.distance < 1e-5
    assert max(nothing.blocks.values()) < 1e-5
    assert something.distance > 100 * max(nothing.distance, 1e-7)


def test_norms_of_lora_are_those_of_scaling_times_b_a():
    adapter = PeftAdapter(options={"r": 4, "lora_alpha": 8}, targets=["conv", "attention"])
    backbone = adapted(adapter, 0.1)
    change: dict[str, float] = {}
    for name, layer in backbone.unet.named_modules():
        if hasattr(layer, "lora_A"):
            a, b = (getattr(layer, one)["default"].weight.double().flatten(1) for one in ("lora_A", "lora_B"))
            parts = name.split(".")
            block = ".".join(parts[:2]) if parts[0] in ("down_blocks", "up_blocks") else parts[0]
            change[block] = change.get(block, 0.0) + (layer.scaling["default"] * b @ a).square().sum().item()
    size = {
        block: sum(weight.double().square().sum().item() for weight in BASE.unet.get_submodule(block).parameters())
        for block in change
    }
    found = effect(adapter, backbone).blocks
    assert found == pytest.approx({block: (change.get(block, 0) / size.get(block, 1)) ** 0.5 for block in found}, rel=1e-4)
    assert found["class_embedding"] == 0
    assert list(found) == [
        "conv_in", "time_embedding", "class_embedding", "down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1",
        "conv_norm_out", "conv_out",
    ]  # fmt: skip


def test_distance_is_that_of_predictions_on_the_base_s_own_latents():
    """Latents of the base's DDIM in five steps, made with diffusers' scheduler."""
    adapter = ADAPTERS["lora"]
    backbone = adapted(adapter, 0.1)
    found = effect(adapter, backbone)
    seen = []
    handle = BASE.unet.register_forward_pre_hook(lambda module, args: seen.append((args[0].clone(), int(args[1][0]))))
    assert effect(adapter, backbone) == found
    handle.remove()
    scheduler = type(BASE.scheduler).from_config(BASE.scheduler.config)
    scheduler.set_timesteps(5)
    assert [step for _, step in seen] == list(found.distances) == [900, 700, 500, 300, 100]
    cond, latents = BASE.encode_text(PROMPTS), seen[0][0]
    with torch.no_grad():
        for place, (given, step) in enumerate(seen):
            assert torch.allclose(given, latents, atol=1e-4), place
            timesteps = torch.tensor([step, step])
            before, after = BASE(given, timesteps, cond), backbone(given, timesteps, cond)
            assert found.distances[step] == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-3)
            latents = scheduler.step(before, step, given).prev_sample


def test_a_new_word_has_an_effect_only_where_it_is_said():
    adapter = ADAPTERS["word"]
    backbone = adapted(adapter, 3.0)
    said, unsaid = effect(adapter, backbone), effect(adapter, backbone, ["dog"])
    assert unsaid.distance == 0
    assert said.distance > 0
    assert set(said.blocks.values()) == {0.0}
    rows = backbone.text_encoder.text_model.embeddings.word_embeddings.rows
    assert said.added["text_encoder"].weights == rows.numel()
    assert said.added["text_encoder"].norm == pytest.approx(float(rows.double().norm()))


def test_layers_that_cannot_be_folded_are_listed_as_added():
    backbone = adapted(ADAPTERS["bottleneck"], 0.1)
    found = effect(ADAPTERS["bottleneck"], backbone)
    assert set(found.blocks.values()) == {0.0}
    weights = trainable(backbone).values()
    assert sum(one.weights for one in found.added.values()) == sum(weight.numel() for weight in weights)
    norm = sum(one.norm**2 for one in found.added.values()) ** 0.5
    assert norm == pytest.approx(float(torch.cat([weight.double().flatten() for weight in weights]).norm()))
    assert not effect(ADAPTERS["lora"], adapted(ADAPTERS["lora"], 0.1)).added


def test_a_model_that_predicts_velocity_is_compared_by_its_noise():
    """v = (epsilon - sqrt(1 - alpha_bar) x) / sqrt(alpha_bar) says the same as the base's epsilon."""
    adapter = FullFineTune()
    backbone = adapted(adapter, 0.0)

    def to_velocity(module, args, output):
        alpha_bar = BASE.scheduler.alphas_cumprod[args[1]][:, None, None, None]
        return ((output[0] - (1 - alpha_bar).sqrt() * args[0]) / alpha_bar.sqrt(),)

    backbone.unet.register_forward_hook(to_velocity)
    found = measure_effect(BASE, adapter, backbone, VelocityPrediction(), PROMPTS)
    assert found.distance < 1e-5
    assert effect(adapter, backbone).distance > 0.1


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "lora"])  # DoRA is LoRA and more
def test_measuring_leaves_everything_as_it_was(name):
    adapter = ADAPTERS[name]
    backbone = adapted(adapter, 0.1)
    backbone.train()
    for weight in trainable(backbone).values():
        weight.grad = torch.ones_like(weight)
    modes = {key: module.training for key, module in backbone.named_modules()}
    weights = {key: (weight.clone(), weight.requires_grad) for key, weight in backbone.named_parameters()}
    words, base = len(backbone.tokenizer), BASE.fingerprint("unet")
    torch.manual_seed(5)
    expected = torch.rand(())
    torch.manual_seed(5)
    found = effect(adapter, backbone)
    assert torch.equal(torch.rand(()), expected)
    assert {key: module.training for key, module in backbone.named_modules()} == modes
    for key, weight in backbone.named_parameters():
        assert torch.equal(weight, weights[key][0])
        assert weight.requires_grad == weights[key][1]
        assert weight.grad is None or torch.equal(weight.grad, torch.ones_like(weight))
    assert all(weight.grad is not None for weight in trainable(backbone).values())
    assert (len(backbone.tokenizer), BASE.fingerprint("unet")) == (words, base)
    assert effect(adapter, backbone) == found


def of_distance(distance: float) -> Effect:
    return Effect({"conv_in": distance}, {}, {500: distance})


@pytest.mark.parametrize(
    ("distance", "verdict"),
    [
        (0.0, "no effect"),
        (0.9 * NO_EFFECT, "no effect"),
        (NO_EFFECT, "moderate"),
        (0.9 * SATURATED, "moderate"),
        (SATURATED, "saturated"),
        (float("nan"), "saturated"),
    ],
)
def test_verdict_follows_the_bounds_and_is_printed(distance, verdict):
    text = io.StringIO()
    show(of_distance(distance), Console(file=text, width=60), "of [a] file")
    assert of_distance(distance).verdict == verdict
    assert f"effect: {verdict}:" in text.getvalue()
    assert "of [a] file" in text.getvalue()


def test_a_network_of_random_weights_is_saturated():
    found = effect(Scratch(seed=7), adapted(Scratch(seed=7), 0.0))
    assert found.verdict == "saturated"
    assert found.blocks["conv_in"] == pytest.approx(2**0.5, abs=0.1)  # the distance of independent vectors of equal norm
    assert json.loads(json.dumps(found.as_dict()))["verdict"] == "saturated"
