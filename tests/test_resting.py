"""Parts that rest give their memory back, and do what they did when they are asked again."""

import shutil

import pytest
import torch

from audioldm_lit.adapters.textual_inversion import TextualInversion
from audioldm_lit.backbone import RESTING, Backbone
from audioldm_lit.callbacks.resting_parts import RestingParts
from audioldm_lit.cli import main
from audioldm_lit.errors import InputError
from audioldm_lit.networks.unread import unread

import layouts
import tiny
from runs import arguments

SOUND = torch.sin(torch.arange(10_240) / 20)[None]


def weights(backbone: Backbone, part: str) -> int:
    return sum(weight.numel() for weight in backbone._modules[part].parameters())


def heard(backbone: Backbone) -> list[torch.Tensor]:
    latents = backbone.encode_latents(SOUND)
    return [latents, backbone.decode(latents), backbone.encode_text(["rain"]), backbone.encode_audio(SOUND)]


def test_what_rests_is_gone_and_comes_back_as_it_was(tiny_folder, tmp_path):
    backbone, fresh = Backbone.load(tiny_folder), tiny.backbone()
    backbone.rest()
    assert [weights(backbone, part) for part in RESTING] == [0] * len(RESTING)
    assert weights(backbone, "unet") == weights(fresh, "unet")
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(heard(backbone), heard(fresh), strict=True))
    backbone.rest()
    backbone.cpu()  # as Lightning does at the end
    assert [backbone.fingerprint(part) for part in RESTING] == [fresh.fingerprint(part) for part in RESTING]
    backbone.rest()
    backbone.save(tmp_path / "saved")
    assert Backbone.load(tmp_path / "saved").fingerprint("vocoder") == fresh.fingerprint("vocoder")


def test_what_is_not_read_at_once_is_when_it_is_asked_for(tiny_folder):
    backbone, fresh = Backbone.load(tiny_folder, read=["vae"]), tiny.backbone()
    assert unread(backbone) == {*RESTING} - {"vae"}
    backbone.encode_text(["rain"])
    assert unread(backbone) == {"vocoder", "audio_encoder"}
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(heard(backbone), heard(fresh), strict=True))
    assert [name for name, _ in backbone.named_parameters()] == [name for name, _ in fresh.named_parameters()]
    assert not any(weight.requires_grad for weight in backbone.parameters())


def test_a_part_in_which_something_trains_stays_and_so_does_a_model_without_a_folder(tiny_folder):
    backbone, built = Backbone.load(tiny_folder), tiny.backbone()
    TextualInversion().inject(backbone)
    for model in (backbone, built):
        model.rest()
    assert [part for part in RESTING if weights(backbone, part)] == ["text_encoder"]
    assert all(weights(built, part) for part in RESTING)


def test_a_folder_that_has_changed_meanwhile_is_named(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "model")
    backbone = Backbone.load(tmp_path / "model")
    backbone.rest()
    shutil.rmtree(tmp_path / "model" / "vae")
    with pytest.raises(InputError, match="model/vae"):
        backbone.encode_latents(SOUND)


def test_a_run_s_steps_have_the_unet_alone_and_its_checks_everything(workdir, tiny_folder, monkeypatch):
    data = layouts.esc50(workdir / "esc50", takes=1)
    seen = []

    def watched(self, trainer, module, outputs, batch, batch_idx):
        seen.append([part for part in RESTING if weights(module.backbone, part)])

    monkeypatch.setattr(RestingParts, "on_train_batch_end", watched, raising=False)
    main(["fit", *arguments(tiny_folder, {**data, "shots": 2, "batch_size": 2}), "--audition.count", "1"])
    assert seen == [[], []]
    assert len(list(workdir.glob("runs/*/*/audition/*/*.wav"))) == 2  # before training and after it
