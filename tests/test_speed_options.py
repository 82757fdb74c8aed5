"""What makes training faster or smaller changes neither what is trained nor what is saved."""

from functools import partial, partialmethod

import pytest
import torch
from lightning import Trainer
from torch import nn
from torch.optim import SGD

from audioldm_lit.adapters.full import FullFineTune
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.module import LitAudioLDM

import layouts
import tiny
from runs import SHORT

GRADIENTS = partial(SGD, lr=0.1)  # Adam would turn the rounding of a gradient near zero into a whole step


@pytest.fixture
def fit(workdir, tiny_folder):
    """Train for three steps with a check after each, and give the module."""
    data = layouts.esc50(workdir / "esc50", takes=1)

    def run(*callbacks, adapter=None, precision="32-true", optimizer=GRADIENTS, resume=None, steps=3, held_out=1.0, **settings):
        adapter = adapter or PeftAdapter(options={"r": 4}, targets=["attention"])
        settings = {"backbone": str(tiny_folder), "optimizer": optimizer, "warmup_steps": 1, "val_timesteps": 1, **settings}
        model = LitAudioLDM(adapter, **settings)
        trainer = Trainer(
            max_steps=steps, val_check_interval=1, check_val_every_n_epoch=None, accelerator="cpu", logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, gradient_clip_val=1.0,
            precision=precision, limit_val_batches=held_out, callbacks=list(callbacks),
        )  # fmt: skip
        # Five clips are held out in batches of two, so that the last batch is smaller.
        trainer.fit(model, datamodule=ESC50(**data, duration=SHORT, shots=1, batch_size=2), ckpt_path=resume)
        return model

    return run


@pytest.fixture
def quick_compiler(monkeypatch):
    """Trace and differentiate as `compile` does, but leave out the minutes in the C++ compiler."""
    torch._dynamo.reset()
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))


def apart(one: LitAudioLDM, other: LitAudioLDM) -> float:
    """Largest difference of two runs' weights, relative to the largest weight."""
    assert one.weights.keys() == other.weights.keys()
    scale = max(weight.abs().max().item() for weight in one.weights.values())
    return max((weight - other.weights[name]).abs().max().item() for name, weight in one.weights.items()) / scale


@pytest.fixture
def one_level(tmp_path) -> dict[str, str]:
    """A model whose UNet has attention in its middle alone: a third of the tiny model's layers to trace."""
    unet = {"block_out_channels": [32], "cross_attention_dim": [32]}
    unet |= {"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}
    Backbone.build({**tiny.CONFIGS, "unet": {**tiny.CONFIGS["unet"], **unet}}, tiny.tokenizer()).save(tmp_path / "one level")
    return {"backbone": str(tmp_path / "one level")}


@pytest.mark.slow
def test_compiled_training_reaches_the_same_weights_under_the_same_names_and_resumes(fit, one_level, quick_compiler, workdir):
    """Held out is one batch: a smaller last one is compiled for itself, which is asked at night."""
    compiled = fit(compile_unet=True, held_out=1, **one_level)
    compiled.trainer.save_checkpoint(workdir / "compiled.ckpt")
    assert apart(fit(**one_level), compiled) < 1e-5
    assert set(torch.load(workdir / "compiled.ckpt", weights_only=True)["state_dict"]) == set(compiled.weights)
    assert apart(fit(steps=4, **one_level), fit(resume=workdir / "compiled.ckpt", steps=4, **one_level)) < 1e-5


@pytest.mark.nightly
def test_compiled_training_in_half_precision_reaches_the_same_weights(fit, quick_compiler):
    assert apart(fit(precision="bf16-mixed"), fit(precision="bf16-mixed", compile_unet=True)) < 2e-2


@pytest.mark.parametrize(
    ("adapter", "compile_unet"),
    [
        (PeftAdapter(options={"r": 4}), False),
        pytest.param(FullFineTune(), False, marks=pytest.mark.nightly),  # test_adapters.py asks it of an adapter of every class
        pytest.param(PeftAdapter(options={"r": 4}), True, marks=pytest.mark.nightly),
    ],
)
def test_checkpointed_gradients_are_the_same(fit, quick_compiler, adapter, compile_unet):
    assert apart(fit(adapter=adapter), fit(adapter=adapter, gradient_checkpointing=True, compile_unet=compile_unet)) < 1e-5


def test_gradient_checkpointing_keeps_fewer_activations(fit):
    kept = []
    for checkpointing in (False, True):
        model = fit(steps=1, gradient_checkpointing=checkpointing)
        sizes: list[int] = []
        weights = {weight.untyped_storage().data_ptr() for weight in model.backbone.unet.parameters()}

        def pack(tensor, sizes=sizes, weights=weights):
            if tensor.untyped_storage().data_ptr() not in weights:
                sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.backbone(torch.randn(2, 8, 16, 16), torch.tensor([5, 9]), torch.randn(2, 32))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 3


def test_the_norm_of_the_gradients_is_clipped(fit):
    """With a step of 1 and a norm of at most 1, no step moves the weights farther than 1."""
    before = fit(steps=1, optimizer=partial(SGD, lr=0.0)).weights
    after = fit(steps=1, optimizer=partial(SGD, lr=1.0)).weights
    norm = sum((after[name] - before[name]).square().sum().item() for name in after) ** 0.5
    assert 0 < norm < 1 + 1e-5
