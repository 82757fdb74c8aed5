import json

import pytest
import torch
from transformers import SpeechT5HifiGan

from audioldm_lit.audio.log_mel import LogMel
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError
from audioldm_lit.vocoders.griffin_lim import GriffinLim
from audioldm_lit.vocoders.inverse_stft import InverseSTFTVocoder, InverseSTFTVocoderConfig

import tiny

SMALL = {"model_in_dim": 64, "hop_length": 160, "frame_length": 640, "hidden_size": 8, "num_layers": 2}


def test_model_with_an_inverse_stft_vocoder_saves_loads_and_decodes_the_same(tmp_path):
    vocoder = {"architectures": ["InverseSTFTVocoder"], **SMALL}
    backbone = Backbone.build({**tiny.CONFIGS, "vocoder": vocoder}, tiny.tokenizer(), seed=1)
    backbone.save(tmp_path)
    loaded = Backbone.load(tmp_path)
    assert isinstance(loaded.vocoder, InverseSTFTVocoder)
    latents = torch.randn(2, *backbone.latent_shape(10_240))
    expected = backbone.decode(latents, 10_000)
    assert expected.abs().max() > 1e-3
    assert torch.equal(loaded.decode(latents, 10_000), expected)


def test_folder_whose_configuration_names_no_class_has_the_published_vocoder(backbone, tmp_path):
    backbone.save(tmp_path)
    config = tmp_path / "vocoder" / "config.json"
    content = json.loads(config.read_text())
    del content["architectures"]
    config.write_text(json.dumps(content))
    assert isinstance(Backbone.load(tmp_path).vocoder, SpeechT5HifiGan)


def test_unknown_vocoder_is_refused_by_name(backbone, tmp_path):
    backbone.save(tmp_path)
    config = tmp_path / "vocoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "architectures": ["Vocos"]}))
    with pytest.raises(InputError, match=rf"^{config}: architectures names 'Vocos'; .*InverseSTFTVocoder\.$"):
        Backbone.load(tmp_path)


@pytest.mark.parametrize(("hop_length", "frame_length", "frames"), [(160, 640, 1), (160, 1024, 37), (155, 640, 5)])
def test_every_frame_gives_a_hop_of_sound(hop_length, frame_length, frames):
    lengths = {"hop_length": hop_length, "frame_length": frame_length}
    vocoder = InverseSTFTVocoder(InverseSTFTVocoderConfig(**SMALL | lengths)).eval()
    log_mels = torch.randn(2, frames, SMALL["model_in_dim"])
    assert vocoder(log_mels).shape == (2, frames * hop_length)
    assert torch.allclose(vocoder(log_mels[1]), vocoder(log_mels)[1], atol=1e-6)


@pytest.mark.parametrize(("hop_length", "frame_length"), [(160, 640), (155, 640), (256, 1024)])
def test_windowed_frames_of_a_signal_add_up_to_the_signal(hop_length, frame_length):
    lengths = {"hop_length": hop_length, "frame_length": frame_length}
    vocoder = InverseSTFTVocoder(InverseSTFTVocoderConfig(**SMALL | lengths))
    signal = torch.randn(2, 40 * hop_length)
    edge = (frame_length - hop_length) // 2
    frames = torch.nn.functional.pad(signal, (edge, frame_length - hop_length - edge)).unfold(1, frame_length, hop_length)
    added = vocoder.overlap_add(frames * torch.hann_window(frame_length))
    assert torch.allclose(added, signal, atol=1e-5)


def test_griffin_lim_gives_a_sound_of_the_same_log_mel_at_the_same_time():
    front_end, seconds = LogMel(), torch.arange(16_000) / 16_000
    chirp = torch.sin(2 * torch.pi * (300 + 1500 * seconds) * seconds) * torch.exp(-8 * (seconds % 0.25))
    log_mel = front_end(0.5 * chirp[None])[:, 0]
    state = torch.random.get_rng_state()
    waveform = GriffinLim(front_end)(log_mel)
    assert waveform.shape == (1, 16_000)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(GriffinLim(front_end)(log_mel), waveform)
    loud = log_mel > log_mel.max() - 7  # 60 dB: below it there is little but the projections' own noise
    errors = {shift: (front_end(waveform.roll(shift, 1))[:, 0] - log_mel)[loud].abs().mean() for shift in (-80, 0, 80)}
    assert min(errors, key=errors.get) == 0
    assert errors[0] < 0.35, errors  # nats
