import json

import pytest
import torch
from diffusers import AudioLDMPipeline, DDIMScheduler, DPMSolverMultistepScheduler
from safetensors.torch import load_file, save_file

from audioldm_lit import seeding
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError
from audioldm_lit.inference.generation import Generation, generate_clips
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.inference.sampling import Sampler

import tiny


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DPMSolverMultistepScheduler])
@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_sampling_equals_the_diffusers_pipeline(backbone, scheduler, guidance_scale):
    parts = ("vae", "text_encoder", "tokenizer", "unet", "vocoder")
    pipeline = AudioLDMPipeline(
        scheduler=scheduler.from_config(backbone.scheduler.config), **{part: getattr(backbone, part) for part in parts}
    )
    pipeline.set_progress_bar_config(disable=True)
    prompts, seconds = ["a dog barking", "rain"], 0.64
    num_samples = round(seconds * 16_000)
    entries = [Entry(prompt, prompt, 0, 0) for prompt in prompts]
    start = seeding.normal([seeding.generator("sample", 0, prompt, 0) for prompt in prompts], backbone.latent_shape(num_samples))
    settings = {"num_inference_steps": 5, "guidance_scale": guidance_scale}
    theirs = pipeline(prompts, audio_length_in_s=seconds, latents=start, output_type="pt", **settings).audios

    sampler = Sampler(scheduler.__name__, **settings)
    generation = Generation(backbone, sampler, backbone.encode_text([""])[0], round(seconds * 16000))
    ours = torch.stack([waveform for _, waveform in generate_clips(generation, entries, backbone.encode_text(prompts))])

    assert theirs.abs().max() > 1e-3
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_saved_model_loads_equal(backbone, tmp_path):
    backbone.save(tmp_path)
    loaded = Backbone.load(tmp_path)
    for part in ("unet", "vae", "text_encoder", "vocoder", "audio_encoder"):
        assert loaded.fingerprint(part) == backbone.fingerprint(part)
    assert torch.equal(loaded.encode_text(["rain"]), backbone.encode_text(["rain"]))
    waveform = torch.randn(1, 16000)
    assert torch.allclose(loaded.encode_audio(waveform), backbone.encode_audio(waveform), atol=1e-5)


def test_saved_model_does_not_tell_where_it_came_from(backbone, tmp_path):
    backbone.save(tmp_path / "private")
    Backbone.load(tmp_path / "private").save(tmp_path / "public")
    assert Backbone.load(tmp_path / "public").fingerprint("vae") == backbone.fingerprint("vae")
    assert not [file for file in (tmp_path / "public").rglob("*.json") if "private" in file.read_text()]


def test_model_without_audio_tower_loads_and_says_so(backbone, tmp_path):
    backbone.audio_encoder = backbone.feature_extractor = None
    backbone.save(tmp_path)
    with pytest.raises(InputError, match="no CLAP audio tower"):
        Backbone.load(tmp_path).encode_audio(torch.zeros(1, 16000))


@pytest.mark.parametrize(
    ("part", "file", "setting", "named"),
    [
        ("unet", "diffusion_pytorch_model", {}, r"1 missing \(conv_in.bias\)"),
        (
            "vae",
            "diffusion_pytorch_model",
            {"latent_channels": 4},
            r"7 of another shape \(decoder.conv_in.weight .*, quant_conv.weight",
        ),
        ("vocoder", "model", {"model_in_dim": 32}, r"1 missing \(conv_post.bias\), .*of another shape \(.*conv_pre.weight"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, backbone, capfd, part, file, setting, named):
    backbone.save(tmp_path)
    path, config = tmp_path / part / f"{file}.safetensors", tmp_path / part / "config.json"
    weights = load_file(path)
    save_file(
        {name: tensor for name, tensor in weights.items() if name not in ("conv_in.bias", "conv_post.bias")}, path, {"format": "pt"}
    )
    config.write_text(json.dumps({**json.loads(config.read_text()), **setting}))
    with pytest.raises(InputError, match=rf"{part}: cannot be loaded \(its weights do not fit: {named}"):
        Backbone.load(tmp_path)
    assert capfd.readouterr().err == f"loading {tmp_path}\n"  # the libraries add nothing to the sentence


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "vocoder", "tokenizer", "scheduler", "feature_extractor"])
def test_missing_part_is_named(tmp_path, backbone, part):
    backbone.save(tmp_path)
    for file in (tmp_path / part).iterdir():
        file.unlink()
    (tmp_path / part).rmdir()
    with pytest.raises(InputError, match=r"diffusers layout|is missing"):
        Backbone.load(tmp_path)


def test_unknown_hub_id_is_an_error_without_a_connection():
    with pytest.raises(InputError, match="no AudioLDM here"):
        Backbone.load("nobody/nothing-at-all")


def test_everything_is_frozen_and_only_the_unet_ever_trains(backbone):
    assert not any(weight.requires_grad for weight in backbone.parameters())
    backbone.train()
    assert backbone.unet.training
    assert not any(getattr(backbone, part).training for part in ("vae", "text_encoder", "vocoder", "audio_encoder"))


def test_embeddings_have_norm_one_and_ignore_padding(backbone):
    alone = backbone.encode_text(["rain"])
    padded = backbone.encode_text(["rain", "a much longer caption about rain on a tin roof"])[:1]
    assert torch.allclose(alone.norm(dim=1), torch.ones(1), atol=1e-6)
    assert torch.allclose(alone, padded, atol=1e-5)


def test_random_weights_leave_the_global_stream_alone():
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    tiny.backbone(seed=7)
    assert torch.equal(torch.rand(()), expected)


@pytest.mark.parametrize("num_samples", [1, 160, 10_240, 10_241, 40_000])
def test_latents_decode_to_at_least_the_asked_length(backbone, num_samples):
    latents = torch.zeros(1, *backbone.latent_shape(num_samples))
    assert backbone.decode(latents, num_samples).shape == (1, num_samples)


def test_posterior_mean_and_sample_agree_with_the_vae(backbone):
    waveform = torch.randn(2, 10_240) * 0.1
    drawn = torch.randn(2, *backbone.latent_shape(10_240))
    posterior = backbone.vae.encode(backbone.log_mel(waveform)).latent_dist
    expected = (posterior.mean + posterior.std * drawn) * backbone.vae.config.scaling_factor
    assert torch.allclose(backbone.encode_latents(waveform, drawn), expected, atol=1e-5)
