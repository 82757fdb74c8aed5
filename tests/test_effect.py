"""What an adapter does to a model is measured, and weights that train in name only stop the run."""

import copy

import pytest
import torch

from audioldm_lit.adapters.base import Adapter, trainable
from audioldm_lit.adapters.bottleneck import BottleneckAdapter
from audioldm_lit.adapters.full import FullFineTune
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.cli import main
from audioldm_lit.effect import Effect, measure_effect

import layouts
import tiny
from runs import arguments, run_folder

PROMPTS = ["rain", "a dog"]
IDLE = """
import torch
from audioldm_lit.adapters.peft import PeftAdapter


class Idle(PeftAdapter):
    def inject(self, backbone):
        super().inject(backbone)
        backbone.unet.idle = torch.nn.Linear(3, 3)
"""


def effect_of(adapter: Adapter, size: float) -> Effect:
    """Effect of an adapter whose weights were moved at random by `size`."""
    adapted = tiny.backbone()
    adapter.inject(adapted)
    generator = torch.Generator().manual_seed(0)
    for weight in trainable(adapted).values():
        weight.data += size * torch.randn(weight.shape, generator=generator)
    return measure_effect(tiny.backbone(), adapter, adapted, "epsilon", PROMPTS)


def test_change_of_a_block_is_that_of_its_weights():
    adapter, adapted, base = PeftAdapter(options={"r": 2, "lora_alpha": 4}, targets=["conv_in"]), tiny.backbone(), tiny.backbone()
    adapter.inject(adapted)
    layer = adapted.unet.conv_in
    torch.nn.init.normal_(layer.lora_B["default"].weight, generator=torch.Generator().manual_seed(1))
    down, up = (part["default"].weight.detach().double() for part in (layer.lora_A, layer.lora_B))
    delta = 2 * torch.einsum("or,rikl->oikl", up[:, :, 0, 0], down)  # scaling alpha / r = 2
    size = sum(one.double().square().sum() for one in base.unet.conv_in.parameters()).sqrt()
    blocks = measure_effect(base, adapter, adapted, "epsilon", PROMPTS).blocks
    assert blocks.pop("conv_in") == pytest.approx((delta.norm() / size).item(), rel=1e-5)
    assert set(blocks.values()) == {0.0}


@pytest.mark.parametrize(("size", "verdict"), [(0.0, "no effect"), (1e-6, "no effect"), (1.0, "saturated")])
@pytest.mark.parametrize("adapter", [PeftAdapter, FullFineTune, BottleneckAdapter])
def test_verdict_follows_the_outputs(adapter, size, verdict):
    assert effect_of(adapter(), size).verdict == verdict


def test_what_cannot_be_folded_is_listed():
    effect = effect_of(BottleneckAdapter(), 0.1)
    assert set(effect.blocks.values()) == {0.0}
    adapted = tiny.backbone()
    BottleneckAdapter().inject(adapted)
    assert sum(one.weights for one in effect.added.values()) == sum(one.numel() for one in trainable(adapted).values())
    assert effect.distance > 0


def test_measuring_leaves_the_models_alone():
    adapter, adapted, base = PeftAdapter(), tiny.backbone(), tiny.backbone()
    adapter.inject(adapted)
    adapted.train()
    before = [copy.deepcopy(model.state_dict()) for model in (base, adapted)]
    modes = [module.training for module in adapted.modules()]
    state = torch.get_rng_state()
    measure_effect(base, adapter, adapted, "epsilon", PROMPTS)
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for module in adapted.modules()]
    for model, kept in zip((base, adapted), before, strict=True):
        assert all(torch.equal(weight, kept[name]) for name, weight in model.state_dict().items())


@pytest.fixture
def data(workdir) -> dict:
    return {**layouts.esc50(workdir / "esc50"), "shots": 2}


@pytest.mark.parametrize(("steps", "status"), [(12, 2), (3, 2), (2, 0)])
def test_a_weight_without_gradient_stops_the_run(workdir, tiny_folder, data, cli, monkeypatch, steps, status):
    (workdir / "idle.py").write_text(IDLE)
    monkeypatch.syspath_prepend(workdir)
    quiet = ["--trainer.val_check_interval", steps, "--audition.count", "0"]
    found, _, err = cli("fit", *arguments(tiny_folder, data, steps), "--model.adapter", "idle.Idle", *quiet)
    assert found == status
    assert ("2 weights got no gradient" in err and "unet.idle.weight" in err) == (status == 2)


def test_the_result_and_generate_say_what_the_adapter_does(workdir, tiny_folder, data, cli):
    main(["fit", *arguments(tiny_folder, data)])
    run = run_folder(workdir)
    assert '"verdict"' in (run / "result.json").read_text()
    settings = ["--backbone", tiny_folder, "--sampler.num_inference_steps", 2, "--duration", 0.5, "--prompt", "rain"]
    status, out, _ = cli("generate", *settings, "--adapter", run / "adapter.safetensors")
    assert status == 0
    assert "predictions moved by" in out
    assert "effect: no effect" in out  # of two steps
