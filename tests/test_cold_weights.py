"""Weights that train in name only are found, and no others are accused."""

import pytest
import torch
from lightning import Trainer

from audioldm_lit.adapters.adalora import AdaLoRA
from audioldm_lit.adapters.base import Adapter
from audioldm_lit.adapters.bottleneck import BottleneckAdapter
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.textual_inversion import TextualInversion
from audioldm_lit.callbacks.cold_weights import ColdWeights
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.errors import InputError
from audioldm_lit.module import LitAudioLDM

import layouts
from runs import SHORT


class Idle(Adapter):
    """Trains the last layer and two weights that nothing uses, one of them outside the UNet."""

    def inject(self, backbone):
        backbone.unet.conv_out.requires_grad_(True)
        backbone.unet.idle = torch.nn.Linear(2, 2)
        backbone.text_encoder.idle = torch.nn.Parameter(torch.zeros(3))


class LastBlock(Adapter):
    """Trains one layer from the start and another from a later step on, as methods do that unfreeze by and by."""

    def inject(self, backbone):
        backbone.unet.conv_out.requires_grad_(True)
        backbone.unet.conv_in.requires_grad_(True)

    def penalty(self, backbone):
        backbone.unet.conv_in.requires_grad_(False)
        return 0.0


@pytest.fixture(scope="module")
def fit(tmp_path_factory, tiny_folder):
    """Train on the tiny model with the callback; clips are encoded once."""
    folder = tmp_path_factory.mktemp("cold")
    data = layouts.esc50(folder / "esc50", takes=1)

    def run(adapter: Adapter, steps: int, **options: object) -> ColdWeights:
        caption = {"caption": "<mine> {label}"} if isinstance(adapter, TextualInversion) else {}
        clips = ESC50(**data, shots=3, duration=SHORT, batch_size=2, **caption)
        model = LitAudioLDM(adapter, backbone=str(tiny_folder), warmup_steps=0, cache_dir=folder / "cache")
        watch = ColdWeights()
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
        trainer = Trainer(
            max_steps=steps, accelerator="cpu", callbacks=[watch], limit_val_batches=0, num_sanity_val_steps=0, **quiet, **options
        )
        trainer.fit(model, datamodule=clips)
        return watch

    return run


@pytest.mark.parametrize(("steps", "accumulate"), [(3, 1), (12, 2)])
def test_weights_that_nothing_uses_are_named(fit, steps, accumulate):
    with pytest.raises(InputError, match=rf"2 weights got no gradient in {min(steps, 10)} steps.*unet\.idle\.weight") as caught:
        fit(Idle(), steps, accumulate_grad_batches=accumulate)
    assert "choose targets" in str(caught.value)


def test_two_steps_say_nothing(fit):
    assert fit(Idle(), 2).steps == 2


@pytest.mark.parametrize(
    ("adapter", "steps"),
    [
        (PeftAdapter(options={"r": 4, "use_dora": True}, targets=["attention"]), 3),
        (AdaLoRA({"init_r": 4, "target_r": 1, "tinit": 1, "tfinal": 1, "deltaT": 1, "total_step": 12}, ["attention"]), 12),
        (BottleneckAdapter(), 3),
        (TextualInversion(), 3),
        (LastBlock(), 3),
        (LastBlock(), 12),
    ],
    ids=["dora", "adalora", "bottleneck", "word", "frozen later", "frozen long ago"],
)
def test_what_trains_is_not_accused(fit, adapter, steps):
    fit(adapter, steps)


def test_half_of_lora_is_cold_in_the_first_step_alone(fit):
    suspected = []

    class Watched(PeftAdapter):
        def after_step(self, backbone, step):
            suspected.append(sum(weight.grad.abs().max() == 0 for weight in backbone.parameters() if weight.requires_grad))

    assert not fit(Watched(options={"r": 4}), 3).cold
    assert suspected[0] > 0
    assert suspected[-1] == 0


class Model:
    """What the callback asks of a module: its weights by name."""

    def __init__(self, **weights: torch.nn.Parameter) -> None:
        self.weights = {name.replace("__", "."): weight for name, weight in weights.items()}


def run_by_hand(model, gradients):
    watch = ColdWeights()
    watch.on_train_start(None, model)
    for step in gradients:
        for name, value in step.items():
            model.weights[name].grad = None if value is None else torch.full((2,), value)
        watch.on_before_optimizer_step(None, model, None)
    watch.on_train_end(None, model)


def weights(**names):
    return Model(**{name: torch.nn.Parameter(torch.zeros(2)) for name in names})


@pytest.mark.parametrize("value", [1e-38, -1.0, float("inf")])
def test_one_gradient_in_ten_steps_is_enough_however_small(value):
    model = weights(unet__a=None)
    run_by_hand(model, [{"unet.a": 0.0}] * 9 + [{"unet.a": value}])
    with pytest.raises(InputError, match=r"1 weights got no gradient in 10 steps.*unet\.a"):
        run_by_hand(model, [{"unet.a": 0.0}] * 10 + [{"unet.a": value}])


def test_weights_of_the_text_tower_wait_for_the_end_of_the_run():
    model = weights(unet__a=None, text_encoder__word=None)
    silent, said = {"unet.a": 1.0, "text_encoder.word": None}, {"unet.a": 1.0, "text_encoder.word": 1.0}
    run_by_hand(model, [silent] * 30 + [said])
    run_by_hand(model, [silent] * 5)
    with pytest.raises(InputError, match=r"in 30 steps.*text_encoder\.word"):
        run_by_hand(model, [silent] * 30)
