"""`doctor`: what it says of a model is so, and what it measures is what the verbs compute."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from audioldm_lit.audio.loudest import read_loudest
from audioldm_lit.audio.waveform import fit
from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import NoisePrediction
from audioldm_lit.doctor.parts import look_at
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.networks.published import heads_remark
from audioldm_lit.training.held_out_loss import held_out_losses

import layouts

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "vocoder", "scheduler", "audio_encoder", "feature_extractor")


def test_files_are_told_by_what_is_in_them(tiny_folder, backbone, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "model", ignore=shutil.ignore_patterns("audio_encoder"))
    (unet,) = (tmp_path / "model" / "unet").glob("*.safetensors")
    torch.save(load_file(unet), unet.with_suffix(".bin"))
    unet.unlink()
    (vae,) = (tmp_path / "model" / "vae").glob("*.safetensors")
    save_file({name: weight.half() for name, weight in load_file(vae).items()}, vae.with_suffix(".fp16.safetensors"))
    (vocoder,) = (tmp_path / "model" / "vocoder").glob("*.safetensors")
    vocoder.write_bytes(vocoder.read_bytes()[:99])
    parts = {part.name: part for part in look_at(tmp_path / "model")}
    assert tuple(parts) == PARTS
    said = {name: (part.format, part.precision) for name, part in parts.items() if part.here and not part.problem}
    weighty = {"unet": ("pickle", "float32"), "vae": ("safetensors", "float32"), "text_encoder": ("safetensors", "float32")}
    assert said == {**weighty, **dict.fromkeys(("tokenizer", "scheduler", "feature_extractor"), ("settings", ""))}
    assert not parts["audio_encoder"].here
    assert "cannot be read" in parts["vocoder"].problem
    assert parts["unet"].parameters == sum(weight.numel() for weight in backbone.unet.parameters())
    vae.unlink()
    assert {part.name: part for part in look_at(tmp_path / "model")}["vae"].precision == "float16"


def test_a_model_as_it_is_published_is_ready_for_all_but_sound(cli, tiny_folder, workdir):
    shutil.copytree(tiny_folder, "model", ignore=shutil.ignore_patterns("audio_encoder", "feature_extractor"))
    status, out, err = cli("doctor", "--model", "model", "--json", "found.json")
    assert status == 0, err
    found = json.loads((workdir / "found.json").read_text())
    missing = {use["what"]: use["missing"] for use in found["uses"]}
    assert missing["generate, fit, test, convert"] == ""
    assert missing["fit on sound, prepare --suggest"] == "audio_encoder and feature_extractor"
    assert missing["evaluate --protocol audioldm-2023"] == "panns-cnn14-16k, vggish"
    assert "doctor --model model --add_audio_tower CLAP" in out
    assert "assets fetch vggish" in out
    assert found["seconds"] == 0.64
    assert found["machine"]["threads"] == torch.get_num_threads()


def test_a_model_that_cannot_be_loaded_is_told_with_what_is_left_of_it(cli, tiny_folder, workdir):
    shutil.copytree(tiny_folder, "model", ignore=shutil.ignore_patterns("vocoder"))
    status, out, err = cli("doctor", "--model", "model")
    assert status == 2
    assert err.splitlines()[-1].startswith("error: model/vocoder: this part of the model is missing")
    assert "not ready generate, fit, test, convert: model/vocoder" in out


def test_heads_are_measured_on_the_same_clips_and_noise_and_remembered(cli, tiny_folder, workdir):
    shutil.copytree(tiny_folder, "model")
    names = ("bell", "drum", "horn", "lute", "pipe", "reed")
    for number, name in enumerate(names):
        layouts.tone(workdir / "sounds" / f"{name}.wav", 200 * (number + 1), seed=number)
    status, out, err = cli("doctor", "--model", "model", "--data", "sounds", "--json", "found.json")
    assert status == 0, err
    found = json.loads((workdir / "found.json").read_text())["heads"]["measured"]
    losses = {}
    for setting in ("as_saved", "original"):
        model = Backbone.load("model", setting)
        rows = []
        for name in names:
            sound, _ = read_loudest(workdir / "sounds" / f"{name}.wav", 16_000, 10_240)
            latents, cond = model.encode_latents(fit(sound, 10_240, "zeros")[None]), model.encode_text([name])
            given = latents, cond, [f"{name}.wav"], 4
            rows.append(held_out_losses(model, model.scheduler, NoisePrediction(), *given).double().mean())
        losses[setting] = torch.stack(rows)
        assert found[setting]["loss"] == pytest.approx(losses[setting].mean().item(), rel=1e-5)
    assert found["as_saved"]["heads"] == [4, 4]
    assert found["original"]["heads"] == [1, 2]
    interval = Estimate.of_mean(losses["original"] - losses["as_saved"]).interval()
    assert found["interval"] == pytest.approx(interval, rel=1e-2)
    assert found["better"] == ("original" if interval[1] < 0 else "as_saved" if interval[0] > 0 else None)
    assert "loss on 6 clips" in out
    assert "loss on 6 clips" in cli("doctor", "--model", "model")[1]  # without measuring anew


def test_published_models_say_once_that_their_heads_are_in_doubt(tmp_path):
    levels, blocks = [128, 256, 384, 640], ["DownBlock2D", *["CrossAttnDownBlock2D"] * 3]
    unet = {"block_out_channels": levels, "down_block_types": blocks, "attention_head_dim": 8}
    assert "doctor --model x --data DIR` measures" in heads_remark(unet, tmp_path, "x")
    assert heads_remark({**unet, "attention_head_dim": [4, 8, 12, 20]}, tmp_path, "x") == ""
    assert heads_remark({**unet, "block_out_channels": [32, 64, 128, 128]}, tmp_path, "x") == ""
    for better, said in {"original": "heads: original", "as_saved": ""}.items():
        (tmp_path / "doctor.json").write_text(json.dumps({"heads": {"better": better}}))
        remark = heads_remark(unet, tmp_path, "x")
        assert said in remark if said else not remark
