"""What a run finds out about an own adapter before its first step, and what it keeps of one that draws at random."""

import copy
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from torch import nn

from audioldm_lit.adapters.adalora import AdaLoRA
from audioldm_lit.adapters.base import Adapter, inject, saved, trainable
from audioldm_lit.adapters.composed import Composed
from audioldm_lit.adapters.contract import check_contract
from audioldm_lit.adapters.files.adapter_file import load_adapter, save_adapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.diffusion import NoisePrediction
from audioldm_lit.errors import InputError
from audioldm_lit.module import LitAudioLDM

import layouts
import tiny
from runs import SHORT

LATENTS = torch.randn(2, 8, 8, 16, generator=torch.Generator().manual_seed(5))


class Projected(nn.Module):
    """base(x) + b * (d * x A) B, A and B random and frozen: VeRA (Kopiczko et al. 2023, arXiv 2310.11454)."""

    def __init__(self, base: nn.Linear, kept: str) -> None:
        super().__init__()
        self.base, self.kept = base, kept
        down, up = torch.randn(base.in_features, 4), torch.randn(4, base.out_features)
        if kept == "parameter":
            self.down, self.up = nn.Parameter(down, requires_grad=False), nn.Parameter(up, requires_grad=False)
        elif kept == "attribute":
            self.down, self.up = down, up
        else:
            self.register_buffer("down", down, persistent=kept == "buffer")
            self.register_buffer("up", up, persistent=kept == "buffer")
        self.d = nn.Parameter(torch.full((4,), 0.1))
        self.b = nn.Parameter(torch.zeros(base.out_features))

    def forward(self, hidden):
        return self.base(hidden) + self.b * (self.d * (hidden @ self.down) @ self.up)


class Vera(Adapter):
    """Projects in every time embedding of the UNet."""

    def __init__(self, kept: str = "parameter") -> None:
        self.kept = kept

    def inject(self, backbone):
        for name, module in list(backbone.unet.named_modules()):
            if name.endswith("time_emb_proj"):
                backbone.unet.set_submodule(name, Projected(module, self.kept))


class Decoder(Adapter):
    """Trains where no step goes through."""

    def inject(self, backbone):
        backbone.unet.conv_out.requires_grad_(True)
        backbone.vae.decoder.conv_out.requires_grad_(True)


class Bound(Adapter):
    """Holds what cannot be copied."""

    def inject(self, backbone):
        backbone.unet.conv_out.requires_grad_(True)
        backbone.unet.answers = (number for number in range(3))


class Detached(Adapter):
    """Cuts the gradient off."""

    def inject(self, backbone):
        backbone.unet.conv_out.requires_grad_(True)
        backbone.unet.register_forward_hook(_cut)


class Started(Adapter):
    """Scales what the UNet makes by a number that trains, within a layer that has no `weight`."""

    def __init__(self, start: float) -> None:
        self.start = start

    def inject(self, backbone):
        backbone.unet.conv_in = Scaled(backbone.unet.conv_in, self.start)


class Scaled(nn.Module):
    def __init__(self, base: nn.Module, start: float) -> None:
        super().__init__()
        self.base, self.scale = base, nn.Parameter(torch.tensor(start))

    def forward(self, hidden):
        return self.scale * self.base(hidden)


class Closure(Adapter):
    """Whose hook tells the timestep to an object that a copy of the model does not know."""

    def inject(self, backbone):
        now = SimpleNamespace(timesteps=None)
        backbone.unet.register_forward_pre_hook(lambda module, args: setattr(now, "timesteps", args[1]))
        backbone.unet.conv_out = Faded(backbone.unet.conv_out, now)


class Faded(nn.Module):
    def __init__(self, base: nn.Module, now: SimpleNamespace) -> None:
        super().__init__()
        self.base, self.now, self.scale = base, now, nn.Parameter(torch.zeros(()))

    def forward(self, hidden):
        return self.base(hidden) * (1 + self.scale * self.now.timesteps.float().view(-1, 1, 1, 1))


class Broken(Closure):
    """Fails with and without a copy."""

    def inject(self, backbone):
        backbone.unet.conv_out = Faded(backbone.unet.conv_out, SimpleNamespace(timesteps=None))


class Uncallable(Adapter):
    def inject(self):
        pass


class MeantToStart(Started):
    """Says so."""

    identity_at_start = False


def _cut(module, inputs, output):
    return tuple(part.detach() for part in output)


def injected(adapter: Adapter, seed: int = 0) -> Backbone:
    backbone = tiny.backbone()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject(adapter, backbone)
    return backbone


def predict(backbone: Backbone) -> torch.Tensor:
    with torch.no_grad():
        return backbone(LATENTS, torch.tensor([10, 700]), backbone.encode_text(["rain", "dog"]))


@pytest.mark.parametrize("kept", ["parameter", "buffer"])
def test_frozen_random_parts_are_saved_and_loaded(kept, tmp_path):
    adapter, fresh = Vera(kept), tiny.backbone()
    backbone, base = injected(adapter), tiny.backbone().fingerprint("unet")
    anew = check_contract(adapter, backbone, fresh, seed=0)
    for weight in trainable(backbone).values():
        weight.data += 0.3
    weights = saved(trainable(backbone), backbone, anew)
    assert {name.rpartition(".")[2] for name in weights} == {"down", "up", "d", "b"}
    save_adapter(tmp_path / "adapter.safetensors", adapter, weights, base, NoisePrediction())
    loaded = tiny.backbone()
    plain = predict(loaded)
    torch.manual_seed(11)
    load_adapter(tmp_path / "adapter.safetensors", loaded)
    assert torch.equal(predict(loaded), predict(backbone))
    assert not torch.allclose(predict(loaded), plain, rtol=0.01)


def test_a_checkpoint_restores_them_in_a_run_of_another_seed(workdir, tiny_folder):
    data, folder = layouts.esc50(workdir / "esc50", takes=1), str(tiny_folder)
    clips = ESC50(**data, shots=3, duration=SHORT, batch_size=2)
    models = [LitAudioLDM(Vera(), folder, val_timesteps=1, cache_dir=workdir / "cache", seed=seed) for seed in (0, 9)]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = Trainer(max_steps=1, accelerator="cpu", limit_val_batches=1, num_sanity_val_steps=0, **quiet)
    trainer.fit(models[0], datamodule=clips)
    trainer.save_checkpoint("one.ckpt")
    restored = torch.load("one.ckpt", weights_only=True)["state_dict"]
    assert {name.rpartition(".")[2] for name in restored} == {"down", "up", "d", "b"}
    trainer.validate(models[1], datamodule=clips, ckpt_path="one.ckpt", verbose=False)
    name = next(name for name in restored if name.endswith(".down"))
    assert torch.equal(models[1].backbone.get_parameter(name), models[0].backbone.get_parameter(name))


def test_a_file_cannot_overwrite_the_base(tmp_path):
    adapter = Vera()
    backbone, base = injected(adapter), tiny.backbone().fingerprint("unet")
    weights = {**trainable(backbone), "unet.conv_in.weight": torch.zeros_like(backbone.unet.conv_in.weight)}
    save_adapter(tmp_path / "adapter.safetensors", adapter, weights, base, NoisePrediction())
    with pytest.raises(InputError, match=r"1 unexpected \(unet.conv_in.weight\)"):
        load_adapter(tmp_path / "adapter.safetensors", tiny.backbone())


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        (Vera("nowhere"), r"model.adapter: draws unet\.\S+\.down \(and \d+ more\) at random and does not save it: .*fixed seed"),
        (Vera("attribute"), r"model.adapter: draws unet\.\S+\.down \(and \d+ more\) at random and does not save it"),
        (Decoder(), "trains vae.decoder.conv_out.weight, which no training step goes through"),
        (Bound(), "does not survive copy.deepcopy of the backbone .*generator"),
        (
            Closure(),
            r"works, but its copy by copy.deepcopy does not \(AttributeError: .*reach it through the hook's own module argument",
        ),
        (
            Started(1.1),
            r"changes what the base makes by \d+\.\d% before anything trains, .*start it at zero, or say identity_at_start",
        ),
        (Composed([Started(1.0), Started(1.1)]), r"changes what the base makes by"),
        (Detached(), "trains 2 weights of the UNet, such as unet.conv_out.weight, and none of them gets a gradient"),
    ],
    ids=[
        "buffer that is not saved",
        "attribute",
        "decoder",
        "generator",
        "closure",
        "no identity",
        "no identity within",
        "detached",
    ],
)
def test_what_would_be_lost_is_refused_by_its_name(adapter, said):
    with pytest.raises(InputError, match=said):
        check_contract(adapter, injected(adapter), tiny.backbone(), seed=0)


def test_what_fails_without_a_copy_too_is_told_by_its_own_error():
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'float'"):
        check_contract(Broken(), injected(Broken()), tiny.backbone(), seed=0)


def test_an_inject_that_cannot_be_called_is_refused_with_its_signature():
    with pytest.raises(InputError, match=r"cannot be called .*write it as def inject\(self, backbone\)"):
        injected(Uncallable())


@pytest.mark.parametrize("adapter", [Started(1.0), MeantToStart(1.1), Composed([Started(1.0), MeantToStart(1.1)])])
def test_an_identity_passes_and_so_does_what_says_that_it_is_none(adapter):
    check_contract(adapter, injected(adapter), tiny.backbone(), seed=0)


def test_what_every_injection_gives_again_is_not_saved_and_nothing_is_changed():
    adapter = AdaLoRA({"init_r": 4, "target_r": 2, "total_step": 20}, ["attention"])
    backbone, state = injected(adapter), torch.get_rng_state()
    before = copy.deepcopy(backbone.state_dict())
    anew = check_contract(adapter, backbone, tiny.backbone(), seed=0)
    assert anew
    assert saved(trainable(backbone), backbone, anew).keys() == trainable(backbone).keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
