"""CLAP's towers: added by one command, and refused where they do not belong together."""

import json
import shutil

import pytest
import torch
from transformers import ClapConfig, ClapModel

from audioldm_lit.backbone import Backbone
from audioldm_lit.doctor.audio_tower import add_audio_tower
from audioldm_lit.errors import InputError

import tiny


def clap(folder, backbone: Backbone, **audio):
    """Write a whole CLAP of a model's two towers."""
    text, sound = backbone.text_encoder, backbone.audio_encoder
    settings = text.config.to_dict(), {**sound.config.to_dict(), **audio}
    config = ClapConfig(text_config=settings[0], audio_config=settings[1], projection_dim=text.config.projection_dim)
    network = ClapModel(config)
    network.load_state_dict({**text.state_dict(), **sound.state_dict()}, strict=False)
    network.save_pretrained(folder)
    backbone.feature_extractor.save_pretrained(folder)
    return folder


@pytest.fixture
def deaf(tiny_folder, tmp_path):
    """A model's folder without an audio tower, as published ones are."""
    shutil.copytree(tiny_folder, tmp_path / "model", ignore=shutil.ignore_patterns("audio_encoder", "feature_extractor"))
    return tmp_path / "model"


def test_the_tower_of_its_own_clap_is_added_and_hears_what_the_clap_does(deaf, backbone, tmp_path):
    assert add_audio_tower(deaf, str(clap(tmp_path / "clap", backbone))) == pytest.approx(1, abs=1e-6)
    waveform = torch.sin(torch.arange(16_000) / 20)[None]
    assert torch.equal(Backbone.load(deaf).encode_audio(waveform), backbone.encode_audio(waveform))
    with pytest.raises(InputError, match="is there already"):
        add_audio_tower(deaf, str(tmp_path / "clap"))


def test_a_copy_in_half_precision_is_its_own_too(deaf, tmp_path):
    assert add_audio_tower(deaf, str(clap(tmp_path / "clap", tiny.backbone().half().float()))) > 0.999


@pytest.mark.parametrize("whose", ["another's", "fused", "nobody's"])
def test_another_clap_is_refused_and_nothing_written(deaf, backbone, tmp_path, whose):
    if whose != "nobody's":
        clap(tmp_path / "clap", tiny.backbone(seed=1 if whose == "another's" else 0))
    if whose == "fused":
        config = tmp_path / "clap" / "config.json"
        content = json.loads(config.read_text())
        config.write_text(json.dumps({**content, "audio_config": {**content["audio_config"], "enable_fusion": True}}))
    reasons = {"another's": "cosine is .* below 0.99", "fused": "fuse|cannot be loaded|no CLAP", "nobody's": "no CLAP here"}
    with pytest.raises(InputError, match=reasons[whose]):
        add_audio_tower(deaf, str(tmp_path / "clap"))
    assert not (deaf / "audio_encoder").exists()
    assert not (deaf / "feature_extractor").exists()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_whole_clap_in_the_place_of_the_tower_is_taken_if_it_is_the_twin(deaf, tmp_path, seed):
    clap(deaf / "audio_encoder", tiny.backbone(seed))
    tiny.backbone().feature_extractor.save_pretrained(deaf / "feature_extractor")
    if seed:
        with pytest.raises(InputError, match=r"cosine is .* below 0\.99.*--add_audio_tower"):
            Backbone.load(deaf)
    else:
        assert Backbone.load(deaf).fingerprint("audio_encoder") == tiny.backbone().fingerprint("audio_encoder")


def test_a_text_tower_that_was_put_in_later_is_refused(deaf, backbone, tmp_path):
    add_audio_tower(deaf, str(clap(tmp_path / "clap", backbone)))
    tiny.backbone(seed=1).text_encoder.save_pretrained(deaf / "text_encoder")
    with pytest.raises(InputError, match=r"twins\.json says that it belongs to other weights"):
        Backbone.load(deaf)
