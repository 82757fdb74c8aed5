"""What the embedded toy model claims."""

import pytest
import torch
from safetensors.torch import load_file

from audioldm_lit.audio.waveform import fit
from audioldm_lit.backbone import Backbone
from audioldm_lit.inference.editing import Recording
from audioldm_lit.inference.generation import Generation, generate_clips
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.places import REPOSITORY

FOLDER = REPOSITORY / "checkpoints" / "audioldm-nano"
WEIGHTS = sorted(FOLDER.rglob("*.safetensors"))


@pytest.fixture(scope="module")
def nano() -> Backbone:
    return Backbone.load("checkpoints/audioldm-nano")


def test_weights_are_small_float16_safetensors():
    assert len(WEIGHTS) == 5
    assert sum(path.stat().st_size for path in WEIGHTS) <= 40e6
    assert all(tensor.dtype in (torch.float16, torch.int64) for path in WEIGHTS for tensor in load_file(path).values())
    assert not [path for path in FOLDER.rglob("*") if path.suffix in (".pt", ".bin", ".ckpt", ".pkl")]


def test_native_length_is_five_seconds(nano):
    assert nano.window == 5.12
    assert nano.latent_shape(81_920) == (8, 128, 16)


def test_both_towers_share_a_space_and_text_tells_rain_from_dogs(nano):
    text = nano.encode_text(["rain falling", "a dog barking"])
    assert text[0] @ text[1] < 0.9
    assert nano.encode_audio(torch.randn(1, 81_920) * 0.1).shape[1] == text.shape[1]


def test_vae_keeps_more_of_a_sound_than_a_constant_would(nano):
    seconds = torch.arange(81_920) / 16_000
    chirp = torch.sin(2 * torch.pi * (200 + 300 * seconds) * seconds) * torch.exp(-2 * (seconds % 1.0))
    log_mel = nano.log_mel(fit(chirp, 81_920)[None])
    rebuilt = nano.decode_mel(nano.encode_latents(fit(chirp, 81_920)[None]))
    assert (rebuilt - log_mel).abs().mean() < 0.5 * (log_mel - log_mel.median()).abs().mean()


@pytest.mark.nightly
def test_rain_is_steadier_than_a_barking_dog(nano):
    prompts, seeds = ["rain falling", "a dog barking"], range(4)
    entries = [Entry(prompt, prompt, seed, 0) for prompt in prompts for seed in seeds]
    cond, sampler = (
        nano.encode_text([entry.prompt for entry in entries]),
        Sampler("DPMSolverMultistepScheduler", num_inference_steps=15),
    )
    clips = generate_clips(Generation(nano, sampler, nano.encode_text([""])[0], 81_920), entries, cond)
    waveforms = torch.stack([waveform for _, waveform in clips])
    level = waveforms.unfold(1, 320, 320).square().mean(dim=2).add(1e-8).log10() * 10  # (B, frames) dB
    change = level.diff(dim=1).abs().median(dim=1).values  # dB from one 20 ms frame to the next
    assert change[:4].mean() < change[4:].mean()


def test_an_edit_keeps_what_it_is_to_keep(nano):
    seconds = torch.arange(40_960) / 16_000
    sound = fit(torch.sin(2 * torch.pi * (200 + 300 * seconds) * seconds) * torch.exp(-2 * (seconds % 0.5)), 40_960)
    sampler, unconditional = Sampler("DPMSolverMultistepScheduler", num_inference_steps=10), nano.encode_text([""])[0]

    def apart(**how: object) -> torch.Tensor:
        """Distance of every frame (256,) from the recording after the decoder, in nats."""
        edit = Recording.encode(nano, sound, **how)
        generation = Generation(nano, sampler, unconditional, len(sound), edit=edit)
        ((_, made),) = generate_clips(generation, [Entry("rain", "rain", 0, 0)], nano.encode_text(["rain"]))
        return (nano.log_mel(made[None]) - nano.log_mel(nano.reconstruct(sound[None]))).abs().mean(dim=3)[0, 0]

    within = apart(strength=1.0, span=(0.8, 1.6))
    assert max(within[:70].mean(), within[170:].mean()) < 0.25 < 1 < within[80:160].mean()
    assert apart(strength=0.2).mean() < 0.5 < 1 < apart(strength=0.9).mean()
