"""Networks as they are told apart, and weights as they are taken."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn

from audioldm_lit.backbone import Backbone
from audioldm_lit.networks.fingerprinting import fingerprint
from audioldm_lit.networks.strict_loading import load_strictly

import tiny

PARTS = ("unet", "vae", "text_encoder", "vocoder", "audio_encoder")


def change_config(folder, **changes):
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))


def test_networks_that_differ_in_their_number_of_heads_alone_are_told_apart(backbone):
    other = UNet2DConditionModel.from_config({**backbone.unet.config, "attention_head_dim": 2})
    other.load_state_dict(backbone.unet.state_dict())
    assert fingerprint(other) != fingerprint(backbone.unet)


def test_text_towers_that_differ_in_their_number_of_heads_alone_are_told_apart(backbone, tmp_path):
    backbone.save(tmp_path)
    change_config(tmp_path / "text_encoder", num_attention_heads=4)
    loaded = Backbone.load(tmp_path)
    assert [part for part in PARTS if loaded.fingerprint(part) != backbone.fingerprint(part)] == ["text_encoder"]


def test_a_name_a_shape_and_a_bit_each_count():
    networks = [nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Identity(), nn.Linear(2, 3)), nn.Sequential(nn.Linear(3, 2))]
    networks.append(nn.Sequential(nn.Linear(2, 3)))
    with torch.no_grad():
        for network in networks:
            for weight in network.parameters():
                weight.zero_()
        networks[-1][0].bias[2] = -0.0
    assert len(set(map(fingerprint, networks))) == len(networks)


def test_where_how_and_by_what_version_a_network_was_stored_does_not_count(tmp_path):
    rounded = tiny.backbone().half().float()
    rounded.save(tmp_path / "float32")
    tiny.backbone().half().save(tmp_path / "float16")
    for part in PARTS:
        (file,) = (tmp_path / "float16" / part).glob("*.safetensors")
        assert torch.half in {tensor.dtype for tensor in load_file(file).values()}
        change_config(tmp_path / "float16" / part, _name_or_path="/somewhere", _diffusers_version="0.1", transformers_version="4.1")
    change_config(tmp_path / "float16" / "vocoder", dtype="float16", architectures=["SpeechT5HifiGan"])
    loaded = [Backbone.load(tmp_path / name) for name in ("float16", "float32")]
    assert all(model.fingerprint(part) == rounded.fingerprint(part) for model in loaded for part in PARTS)


def test_a_setting_at_its_default_may_be_written_or_not(backbone, tmp_path):
    backbone.save(tmp_path)
    for part, setting in {"unet": "act_fn", "vae": "use_quant_conv", "text_encoder": "hidden_act"}.items():
        config = tmp_path / part / "config.json"
        content = json.loads(config.read_text())
        del content[setting]
        config.write_text(json.dumps(content))
    loaded = Backbone.load(tmp_path)
    assert all(loaded.fingerprint(part) == backbone.fingerprint(part) for part in PARTS)


def test_weights_are_taken_by_name_in_the_precision_of_the_network():
    source, network = nn.BatchNorm1d(3).double(), nn.BatchNorm1d(3)
    source.weight.data += 0.1
    source.num_batches_tracked += 5
    load_strictly(network.state_dict(), source.state_dict())
    assert network.weight.dtype == torch.float32
    assert torch.equal(network.weight, source.weight.float())
    assert network.num_batches_tracked == 5


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({"weight": torch.ones(3, 2)}, "1 missing (bias)"),
        ({}, "2 missing (bias, weight)"),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(3), "scale": torch.ones(1)}, "1 unexpected (scale)"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(1)}, "2 of another shape (bias (1,) for (3,), weight (2, 3) for (3, 2))"),
        (
            {"weight": torch.ones(6), "more": torch.ones(1)},
            "1 missing (bias), 1 unexpected (more), 1 of another shape (weight (6,) for (3, 2))",
        ),
        (
            {"weight": torch.ones(3, 2), "bias": torch.ones(3), **{f"{number:02}": torch.ones(1) for number in range(12)}},
            "12 unexpected (00, 01, 02, 03, 04, 05, 06, 07, 08, 09 and 2 more)",
        ),
    ],
)  # fmt: skip
def test_whatever_does_not_fit_is_named_and_nothing_taken(weights, sentence):
    network = nn.Linear(2, 3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match="do not fit") as refused:
        load_strictly(network.state_dict(), weights)
    assert str(refused.value) == f"its weights do not fit: {sentence}"
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
