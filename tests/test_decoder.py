"""An adapter of the decoder, trained on the sound of recordings: from the loss to every place where its file is used."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from audioldm_lit.adapters.base import trainable
from audioldm_lit.adapters.composed import Composed
from audioldm_lit.adapters.contract import check_contract
from audioldm_lit.adapters.decoder import DecoderFineTune
from audioldm_lit.adapters.files.adapter_file import load_adapter, read_about
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.cli import main
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import compare_systems
from audioldm_lit.evaluation.kept import read_evaluations
from audioldm_lit.inference.blending import AdaptedCopy, AdapterSetting, Blend
from audioldm_lit.inference.effect import measure_effect
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.objectives.denoising import Epsilon
from audioldm_lit.objectives.reconstruction import MARGIN, Reconstruction
from audioldm_lit.training.checkpoint import averaged_weights
from audioldm_lit.training.time_mask import TimeMask

import layouts
import tiny
from runs import REPOSITORY, arguments, run_folder

CONFIGS = REPOSITORY / "configs"
TRICK = ["--model.adapter", CONFIGS / "adapter" / "decoder.yaml", "--model.objective", CONFIGS / "objective" / "decoder.yaml"]
LATENTS = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(4))
NEAR = """
class_path: audioldm_lit.evaluation.protocol.Protocol
init_args:
  name: near
  metrics:
    near: {class_path: audioldm_lit.metrics.spectral.LogSpectralDistance}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_folder) -> SimpleNamespace:
    """A run of three steps whose every check is kept, scored at its end, then resumed from its first check and tested."""
    folder = tmp_path_factory.mktemp("decoder")
    data = {**layouts.esc50(folder / "esc50", takes=1), "shots": 3}
    (folder / "near.yaml").write_text(NEAR)
    options = [*arguments(tiny_folder, data, steps=3), *TRICK, "--trainer.val_check_interval", 1, "--checkpoint.save_top_k", -1]
    runs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

        def run(verb: str, *more: object) -> None:
            main([str(word) for word in (verb, *options, *more)])
            runs.append(run_folder(folder))

        run("fit", "--model.protocol", "near.yaml", "--scores.after_fit", "true")
        cached = sorted(path.name for path in (folder / "cache").rglob("latents-*"))
        run("fit", "--ckpt_path", runs[0] / "checkpoints" / "best-step=000001.ckpt")
        run("test", "--ckpt_path", runs[0] / "checkpoints" / "last.ckpt")
        assert sorted(path.name for path in (folder / "cache").rglob("latents-*")) == cached
    return SimpleNamespace(folder=folder, runs=runs, options=options)


@pytest.fixture(scope="module")
def base(tiny_folder) -> Backbone:
    return Backbone.load(tiny_folder)


@pytest.fixture(scope="module")
def adapted(place, base) -> AdaptedCopy:
    return AdaptedCopy.load(AdapterSetting(place.runs[0] / "adapter.safetensors"), base)


def read(file: Path) -> dict:
    return torch.load(file, weights_only=True)


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


# ---------------------------------------------------------------------- the loss


def test_what_the_decoder_makes_itself_costs_nothing_and_a_louder_recording_its_nats(backbone):
    objective, made = Reconstruction(), backbone.sound(LATENTS)
    generators = [torch.Generator().manual_seed(row) for row in range(2)]
    given = backbone, None, LATENTS, None, generators
    assert torch.equal(objective(*given, waveform=made), torch.zeros(2))
    assert torch.equal(objective.held_out(backbone, LATENTS, made), torch.zeros(2, 2))
    louder = objective.held_out(backbone, LATENTS, made * torch.e)
    assert torch.allclose(louder[:, 0], torch.ones(2), atol=2e-2)  # every mel is one natural logarithm higher, but at the floor
    assert (louder[:, 1] <= 1).all()


def test_a_part_of_a_clip_is_compared_with_the_same_part_of_its_recording(backbone):
    """Of a recording that is the decoder's own sound up to a place and silent behind it, parts before that place cost nothing."""
    objective, silent = Reconstruction(seconds=0.32), backbone.sound(LATENTS)
    hop = backbone.mel_frames_per_latent * backbone.log_mel.hop_length
    backbone.sound = lambda latents: F.interpolate(latents[:, :1, :, :1].squeeze(3), scale_factor=hop)[:, 0]  # a step is a level
    latents = torch.arange(16.0)[None, None, :, None].expand(2, 8, 16, 16)
    recorded = backbone.sound(latents)
    assert silent.shape == recorded.shape
    losses = objective(backbone, None, latents, None, [torch.Generator().manual_seed(row) for row in (1, 2)], waveform=recorded)
    assert torch.equal(losses, torch.zeros(2))
    later = recorded.roll(hop, dims=1)
    assert (
        objective(backbone, None, latents, None, [torch.Generator().manual_seed(row) for row in (1, 2)], waveform=later) > 0
    ).all()
    assert round(objective.seconds * backbone.sample_rate / hop) > 2 * MARGIN


# ---------------------------------------------------------------------- what does not go together


@pytest.mark.parametrize(
    ("adapter", "objective", "said"),
    [
        (DecoderFineTune(), Epsilon(), "trains vae.decoder.* no training step goes through; train weights of unet or text_encoder"),
        (PeftAdapter(), Reconstruction(), "trains unet.* no training step goes through; train weights of vae.decoder or"),
        (Composed([DecoderFineTune(), PeftAdapter()]), Reconstruction(), "trains unet"),
    ],
    ids=["decoder and noise", "UNet and sound", "both and sound"],
)
def test_an_adapter_and_an_objective_of_different_parts_are_refused(adapter, objective, said):
    backbone = tiny.backbone()
    adapter.inject(backbone)
    with pytest.raises(InputError, match=f"^model.adapter: {said}"):
        check_contract(adapter, backbone, tiny.backbone(), 0, objective.trains)


class Unjudged(Reconstruction):
    """Says of no error that it is judged by."""

    judged_by = ()


class Judged(Epsilon):
    """Denoises and is judged by something else."""

    judged_by = ("beauty",)


class Deaf(DecoderFineTune):
    """Cuts the gradient of the vocoder off."""

    def inject(self, backbone):
        super().inject(backbone)
        backbone.vocoder.register_forward_hook(_cut)


def _cut(module, inputs, output):
    return output.detach()


def test_a_decoder_without_gradient_is_refused():
    backbone, adapter = tiny.backbone(), Deaf()
    adapter.inject(backbone)
    with pytest.raises(InputError, match=r"weights of the VAE, such as vae.decoder.\S+, and none of them gets a gradient"):
        check_contract(adapter, backbone, tiny.backbone(), 0, Reconstruction.trains)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"parts": []}, "is empty"),
        ({"parts": ["vae.encoder"]}, "'vae.encoder' makes no sound of latents"),
        ({"parts": ["vocoders"]}, "'vocoders' makes no sound"),
        ({"parts": ["vocoder.nowhere"]}, "'vocoder.nowhere' is no module with weights"),
    ],
)
def test_parts_that_are_none_are_refused(settings, said, backbone):
    with pytest.raises(InputError, match=f"^model.adapter.init_args.parts: {said}"):
        DecoderFineTune(**settings).inject(backbone)


def test_what_would_not_be_heard_is_refused(tiny_folder):
    for more, said in (
        ({"time_mask": TimeMask()}, "^model.time_mask: masks latents"),
        ({"sampler": Sampler(vocoder="griffin_lim")}, "^model.sampler.vocoder: is griffin_lim"),
    ):
        with pytest.raises(InputError, match=said):
            LitAudioLDM(DecoderFineTune(), str(tiny_folder), Reconstruction(), **more)
    for adapter, objective, said in (
        (DecoderFineTune(), Unjudged(), "^model.objective: leaves the noise as it is"),
        (PeftAdapter(), Judged(), "^model.objective: is judged by beauty and trains what denoises"),
    ):
        with pytest.raises(InputError, match=said):
            LitAudioLDM(adapter, str(tiny_folder), objective)
    with pytest.raises(InputError, match=r"^data.init_args.duration: is 0.16 s"):
        Reconstruction().prepare(tiny.backbone(), 2560, Path())
    with pytest.raises(InputError, match=r"^model.objective.init_args.seconds: is 0.1"):
        Reconstruction(0.1)


# ---------------------------------------------------------------------- a run


def test_a_run_resumes_bit_for_bit_and_its_file_is_what_was_trained(place, tiny_folder):
    whole, resumed = (read(run / "checkpoints" / "last.ckpt") for run in place.runs[:2])
    assert equal(whole["state_dict"], resumed["state_dict"])
    run = place.runs[0]
    best = json.loads((run / "result.json").read_text())["best_step"]
    kept = averaged_weights(read(run / "checkpoints" / f"best-step={best:06d}.ckpt"))
    assert equal(load_file(run / "adapter.safetensors"), kept)
    fresh = Backbone.load(tiny_folder)
    load_adapter(run / "adapter.safetensors", fresh)
    loaded = fresh.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in kept.items())
    untouched = {name for name, value in tiny.backbone().state_dict().items() if torch.equal(value, loaded[name])}
    assert not any(name.startswith(("vae.decoder.", "vocoder.")) for name in kept.keys() & untouched)
    assert {name.partition(".")[0] for name in loaded.keys() - untouched} == {"vae", "vocoder"}


def test_the_held_out_loss_is_that_of_reconstructions_and_says_so(place):
    run = place.runs[0]
    result = json.loads((run / "result.json").read_text())
    assert result["held_out_loss_of"] == "mel + spectra"
    assert result["held_out_loss_after"] < result["held_out_loss_before"]
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"val/loss_mel", "val/loss_spectra"} <= set(header)
    assert not any(name.startswith("val/loss_t") for name in header)
    about = read_about(run / "adapter.safetensors")
    assert set(about.weights) == {"vae", "vocoder"}
    assert sum(about.weights.values()) == result["trained_weights"]
    assert "held-out error of mel + spectra" in about.scores
    assert f"vocoder {about.weights['vocoder']:,}" in (run / "adapter.md").read_text()


def test_another_decoder_is_another_base(place, adapted, tmp_path):
    other = tiny.backbone(seed=0)
    other.vocoder.conv_post.weight.data += 0.1
    with pytest.raises(InputError, match=r"was trained on the vocoder \w+, this base's is"):
        load_adapter(adapted.setting.file, other)
    other.save(tmp_path / "other")
    module = LitAudioLDM(DecoderFineTune(), str(tmp_path / "other"), Reconstruction())
    with pytest.raises(InputError, match=r"was trained on the base with UNet .*vocoder"):
        module.on_load_checkpoint(read(place.runs[0] / "checkpoints" / "last.ckpt"))


# ---------------------------------------------------------------------- where the file is used


def test_its_effect_is_of_sound_and_by_part(base, adapted):
    effect = measure_effect(base, adapted.adapter, copy.deepcopy(adapted.backbone), adapted.prediction, ["rain", "dog"])
    assert set(effect.distances.values()) == {0.0}
    assert effect.blocks["vae.decoder"] > 0
    assert effect.blocks["vocoder"] > 0
    assert not {block for block, change in effect.blocks.items() if change} - {"vae.decoder", "vocoder"}
    assert effect.sound > 0
    assert not effect.added


def test_the_base_is_left_alone_and_a_blend_has_the_decoder_s_weights_in_proportion(base, adapted):
    alone, half = (Blend(base, [SimpleNamespace(**{**vars(adapted), "setting": setting})]) for setting in (
        adapted.setting, AdapterSetting(adapted.setting.file, 0.5),
    ))  # fmt: skip
    assert torch.equal(base.sound(LATENTS), tiny.backbone().sound(LATENTS))
    assert torch.equal(alone.sound(LATENTS), adapted.backbone.sound(LATENTS))
    with torch.no_grad():
        steps, cond = torch.tensor([10, 700]), base.encode_text(["rain", "dog"])
        assert torch.equal(alone(LATENTS, steps, cond), base(LATENTS, steps, cond))
    weights = [model.state_dict()["vocoder.conv_post.weight"] for model in (base, half, adapted.backbone)]
    assert torch.allclose(weights[1], (weights[0] + weights[2]) / 2, atol=1e-7)
    assert not torch.equal(weights[0], weights[2])
    with pytest.raises(InputError, match="adapts the decoder, which has no timesteps"):
        AdaptedCopy.load(AdapterSetting(adapted.setting.file, timesteps=(0, 500)), base)


def test_generate_hears_it_and_refuses_a_vocoder_that_would_not(place, adapted, tiny_folder, workdir, cli):
    common = ["generate", "--backbone", tiny_folder, "--prompt", "rain", "--duration", "0.64", "--sampler.num_inference_steps", 2]
    for name, more in {"base": [], "adapted": ["--adapter", adapted.setting.file]}.items():
        status, _, err = cli(*common, "--out", name, *more)
        assert status == 0, err
    base, ours = (next((workdir / name).glob("*.wav")).read_bytes() for name in ("base", "adapted"))
    assert base != ours
    status, _, err = cli(*common, "--out", "third", "--adapter", adapted.setting.file, "--sampler.vocoder", "griffin_lim")
    assert status == 2
    assert "adapts the model's own" in err


def test_a_merged_model_has_the_adapted_decoder_and_other_layouts_are_refused(adapted, tiny_folder, workdir, cli):
    words = ["convert", "--backbone", tiny_folder, "--source", adapted.setting.file]
    status, _, err = cli(*words, "--to", "merged", "--out", "merged")
    assert status == 0, err
    assert torch.equal(Backbone.load(workdir / "merged").sound(LATENTS), adapted.backbone.sound(LATENTS))
    for layout in ("peft", "diffusers"):
        status, _, err = cli(*words, "--to", layout, "--out", layout)
        assert status == 2
        assert "use --to merged" in err


def test_scores_say_whose_decoder_reconstructions_are_from(place):
    kept = read_evaluations(place.runs[0] / "scores")
    assert {"base", "adapted", "reconstructed", "reconstructed_adapted"} <= kept.keys()
    ours, base = kept["adapted"].passport["decoder"], kept["base"].passport["decoder"]
    assert ours["vae"] != base["vae"]
    assert ours["vocoder"] != base["vocoder"]
    assert kept["reconstructed"].passport["decoder"] == base
    assert kept["reconstructed_adapted"].passport["decoder"] == ours
    assert compare_systems(kept["base"], kept["adapted"]).keys() == {"near"}
    assert kept["reconstructed_adapted"].scores["near"].value != kept["reconstructed"].scores["near"].value
    of_reconstructions = {"near": replace(kept["base"].scores["near"], side_names=("preds", "reconstructed"))}
    assert not compare_systems(replace(kept["base"], scores=of_reconstructions), kept["adapted"])


def test_the_loss_of_test_clips_has_a_passport_of_its_own(place):
    loss = json.loads((place.runs[2] / "test.json").read_text())["loss"]
    assert loss["value"] > 0
    assert len(loss["passport"]) == 64


def test_what_trains_is_the_decoder_alone(backbone):
    DecoderFineTune().inject(backbone)
    assert {name.rpartition(".")[0].split(".")[0] for name in trainable(backbone)} == {"vae", "vocoder"}
    assert not any(name.startswith(("vae.encoder", "vae.quant_conv")) for name in trainable(backbone))
