"""Checkpoints of the original: to a model folder that computes the same, and back to the last bit."""

import json
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AudioLDMPipeline, DDPMScheduler
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError
from audioldm_lit.inference.generation import Generation, generate_clips
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.networks.original.back import to_checkpoint
from audioldm_lit.networks.original.checkpoint import read
from audioldm_lit.networks.original.content import PARTS, content_of
from audioldm_lit.networks.original.conversion import to_folder
from audioldm_lit.networks.original.schedule import buffers_of, scheduler_of
from audioldm_lit.training.checkpoint_file import read_checkpoint

import originals
import tiny

UNET = "model.diffusion_model."


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small() -> dict[str, Tensor]:
    return originals.tensors(originals.TINY["s"])


@pytest.fixture
def convert(cli, tokenizer) -> Callable[..., tuple[int, str, str]]:
    def run(source: Path | str, to: str, out: str, *more: object) -> tuple[int, str, str]:
        given = ["--tokenizer", tokenizer] if to == "model" else []
        return cli("convert", "--source", source, "--to", to, "--out", out, *given, *more)

    return run


def same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return actual.keys() == expected.keys() and all(
        actual[name].dtype == tensor.dtype and torch.equal(actual[name], tensor) for name, tensor in expected.items()
    )


def set_in(file: str, **settings: object) -> None:
    Path(file).write_text(json.dumps({**json.loads(Path(file).read_text()), **settings}))


# ---------------------------------------------------------------------- there and back


@pytest.mark.parametrize(
    ("size", "clap", "weights", "suffix"),
    [
        ("s", originals.OLD, None, ".ckpt"),
        ("m", originals.NEW, "raw", ".safetensors"),
        pytest.param("l", originals.NEW, "ema", ".ckpt", marks=pytest.mark.nightly),
    ],
)
def test_every_layout_comes_back_to_the_last_bit_and_computes_the_same(size, clap, weights, suffix, convert, workdir):
    expected = originals.tensors(originals.TINY[size], clap)
    originals.write(workdir / "a.ckpt", expected)
    status, out, err = convert("a.ckpt", "model", "model", "--json", "found.json", *(["--weights", weights] if weights else []))
    assert status == 0, err
    assert f"weights of the UNet: {weights or 'ema'}; " in out
    found = json.loads(Path("found.json").read_text())["max_absolute_difference"]
    assert found.keys() == {"unet", "vae", "vocoder", "text_encoder", "audio_encoder"}
    assert all(0 <= difference < 1e-5 for difference in found.values())
    assert convert("model", "original", f"b{suffix}")[0] == 0
    assert same(read(workdir / f"b{suffix}"), expected)


def peak_of(*words: object) -> int:
    """The most memory that a conversion uses, in bytes."""
    # Not ru_maxrss, which begins at that of the process that starts another.
    code = "import sys; from audioldm_lit.cli import main; main(sys.argv[1:]); print(open('/proc/self/status').read())"
    done = subprocess.run([sys.executable, "-c", code, "convert", *map(str, words)], capture_output=True, text=True, check=True)
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1])


@pytest.mark.nightly
def test_the_shape_of_s_is_converted_and_back_in_less_than_thirteen_tenths_of_its_size(tokenizer, workdir):
    file = originals.write(workdir / "a.ckpt", originals.tensors(originals.PUBLISHED["s"]))
    there = peak_of("--source", file, "--to", "model", "--out", "model", "--tokenizer", tokenizer)
    back = peak_of("--source", "model", "--to", "original", "--out", "b.ckpt")
    assert max(there, back) < 1.3 * file.stat().st_size
    assert same(read(workdir / "b.ckpt"), read(file))


def test_half_precision_comes_back_to_the_last_bit(small, tokenizer, tmp_path):
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in small.items()}
    to_folder(originals.write(tmp_path / "a.ckpt", halved), tmp_path / "model", None, tokenizer)
    to_checkpoint(tmp_path / "model", tmp_path / "b.ckpt", ".ckpt")
    assert same(read(tmp_path / "b.ckpt"), halved)


def test_the_converted_model_sounds_in_the_diffusers_pipeline_as_it_does_here(small, tokenizer, tmp_path):
    to_folder(originals.write(tmp_path / "a.ckpt", small), tmp_path / "model", None, tokenizer)
    pipeline, backbone = AudioLDMPipeline.from_pretrained(tmp_path / "model"), Backbone.load(tmp_path / "model")
    pipeline.set_progress_bar_config(disable=True)
    samples = 10240
    start = seeding.normal([seeding.generator("sample", 0, "rain", 0)], backbone.latent_shape(samples))
    settings = {"num_inference_steps": 3, "guidance_scale": 2.5}
    theirs = pipeline(["rain"], audio_length_in_s=0.64, latents=start, output_type="pt", **settings).audios
    generation = Generation(backbone, Sampler("DDIMScheduler", **settings), backbone.encode_text([""])[0], samples)
    clips = generate_clips(generation, [Entry("rain", "rain", 0, 0)], backbone.encode_text(["rain"]))
    ours = torch.stack([waveform for _, waveform in clips])
    assert theirs.abs().max() > 1e-3
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert backbone.window == pytest.approx(10.24)
    assert backbone.encode_audio(torch.randn(1, 16000)).shape == (1, 32)


# ---------------------------------------------------------------------- against other people's conversions and tables


def test_names_are_those_of_diffusers_own_conversion(small, tokenizer, tmp_path):
    to_folder(originals.write(tmp_path / "a.ckpt", small), tmp_path / "model", "ema", tokenizer)
    ours = {part: load_file(next((tmp_path / "model" / part).glob("*.safetensors"))) for part in ("unet", "vae")}
    configs = {part: json.loads((tmp_path / "model" / part / "config.json").read_text()) for part in ours}
    theirs = convert_ldm_unet_checkpoint(dict(small), configs["unet"], extract_ema=True)
    film = {f"class_embedding.{kind}": small[f"model_ema.diffusion_modelfilm_emb{kind}"] for kind in ("weight", "bias")}
    assert same(ours["unet"], theirs | film)  # it knows no AudioLDM, but every other name
    vae = {
        name: tensor
        for name, tensor in small.items()
        if not name.startswith(("first_stage_model.vocoder", "first_stage_model.loss"))
    }
    assert same(ours["vae"], convert_ldm_vae_checkpoint(vae, configs["vae"]))


@pytest.mark.parametrize(
    ("size", "millions", "heads", "audio"),
    [("s", 185.0, [4, 8, 12, 20], 28), ("m", 416.0, [6, 12, 18, 30], 68), ("l", 739.1, [4, 8, 12, 20], 28)],
)
def test_published_shapes_are_read_as_what_they_are(size, millions, heads, audio):
    """Numbers of parameters are those of the model cards, in millions."""
    with torch.device("meta"):
        networks = originals.networks(originals.PUBLISHED[size])
    tensors = {"scale_factor": torch.tensor(0.9)}
    for prefix, network in networks.items():
        start = prefix.removesuffix("text_").removesuffix("audio_")
        tensors |= {f"{start}{name}": tensor for name, tensor in network.state_dict().items()}
    content = content_of(tensors, Path("a.ckpt"))
    counts = {}
    for part in PARTS:
        blank = part.blank(content.settings[part.folder])
        counts[part.folder] = sum(parameter.numel() for parameter in blank.parameters()) / 1e6
    expected = {"unet": millions, "vae": 55.4, "vocoder": 55.3, "text_encoder": 125.3}
    assert {part: round(counts[part], 1) for part in expected} == expected
    assert int(counts["audio_encoder"]) == audio
    assert content.settings["unet"]["attention_head_dim"] == heads
    assert content.settings["unet"]["down_block_types"] == ["DownBlock2D", *["CrossAttnDownBlock2D"] * 3]
    assert content.settings["text_encoder"]["num_attention_heads"] == 12
    assert content.rest == {"scale_factor"}


def test_names_are_those_of_the_published_files():
    """Names that the published conversion script and the original's code mention."""
    names = originals.tensors(originals.TINY["s"]).keys()
    for name in (
        "time_embed.0.weight", "film_emb.bias", "input_blocks.0.0.weight", "input_blocks.1.0.in_layers.2.weight",
        "input_blocks.2.0.op.bias", "input_blocks.3.1.transformer_blocks.0.attn2.to_out.0.bias",
        "input_blocks.3.1.transformer_blocks.0.ff.net.0.proj.weight", "middle_block.1.proj_in.weight",
        "output_blocks.1.2.conv.weight", "output_blocks.3.0.skip_connection.weight", "out.2.bias",
    ):  # fmt: skip
        assert f"{UNET}{name}" in names
        assert f"model_ema.diffusion_model{name.replace('.', '')}" in names
    for name in (
        "first_stage_model.encoder.down.0.downsample.conv.weight", "first_stage_model.decoder.up.1.block.0.nin_shortcut.weight",
        "first_stage_model.decoder.mid.attn_1.proj_out.weight", "first_stage_model.vocoder.ups.0.weight",
        "first_stage_model.vocoder.resblocks.0.convs1.2.bias", "cond_stage_model.model.text_branch.pooler.dense.weight",
        "cond_stage_model.model.text_projection.2.weight", "cond_stage_model.model.audio_branch.bn0.running_mean",
        "cond_stage_model.model.audio_branch.layers.0.blocks.1.attn.relative_position_bias_table",
        "cond_stage_model.model.audio_branch.layers.2.blocks.0.attn.qkv.bias", "cond_stage_model.model.audio_projection.0.weight",
    ):  # fmt: skip
        assert name in names


def test_buffers_of_the_schedule_are_those_of_ddpm():
    scheduler = DDPMScheduler(beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", variance_type="fixed_small")
    buffers = buffers_of(scheduler)
    assert torch.allclose(buffers["alphas_cumprod"], scheduler.alphas_cumprod, atol=1e-6)
    steps = torch.arange(1, 1000)
    expected = torch.stack([scheduler._get_variance(step) for step in steps])
    assert torch.allclose(buffers["posterior_variance"][1:], expected, rtol=1e-3)


# ---------------------------------------------------------------------- what there is to choose


def test_the_average_is_taken_unless_the_last_weights_are_asked_for(small, tokenizer, tmp_path):
    originals.write(tmp_path / "a.ckpt", small)
    for weights, name in ((None, "model_ema.diffusion_modelout2bias"), ("raw", f"{UNET}out.2.bias")):
        to_folder(tmp_path / "a.ckpt", tmp_path / str(weights), weights, tokenizer)
        taken = load_file(tmp_path / str(weights) / "unet" / "diffusion_pytorch_model.safetensors")
        assert torch.equal(taken["conv_out.bias"], small[name])


def test_without_an_average_the_last_weights_are_taken_and_named(convert, workdir):
    expected = originals.tensors(originals.TINY["s"], average=False)
    originals.write(workdir / "a.ckpt", expected)
    status, _, err = convert("a.ckpt", "model", "model", "--weights", "ema")
    assert status == 2
    assert "holds no moving average" in err
    status, out, _ = convert("a.ckpt", "model", "model")
    assert status == 0
    assert "weights of the UNet: raw" in out


def test_an_adapted_model_goes_back_with_its_own_weights_as_their_average(small, tokenizer, workdir, convert):
    to_folder(originals.write(workdir / "a.ckpt", small), workdir / "model", None, tokenizer)
    adapted = Backbone.load("model")
    adapted.unet.conv_out.bias.data += 1
    adapted.unet.save_pretrained("model/unet")
    status, out, err = convert("model", "original", "b.ckpt")
    assert status == 0, err
    assert "moving average of the UNet's weights begins at those of the folder" in out
    back = read(Path("b.ckpt"))
    assert back.keys() == small.keys()
    for name in ("model_ema.diffusion_modelout2bias", f"{UNET}out.2.bias"):
        assert torch.equal(back[name], small["model_ema.diffusion_modelout2bias"] + 1)


def test_a_folder_that_was_never_an_original_goes_there_without_what_it_lacks(small, tokenizer, workdir, convert):
    to_folder(originals.write(workdir / "a.ckpt", small), workdir / "model", "raw", tokenizer)
    Backbone.load("model").save(Path("saved"))
    set_in("saved/unet/config.json", attention_head_dim=8)
    set_in("saved/scheduler/scheduler_config.json", prediction_type="v_prediction")
    status, out, err = convert("saved", "original", "b.safetensors")
    assert status == 0, err
    assert "has no original/" in out
    assert "the original runs it with heads [1, 2], unlike the folder's own setting" in out
    assert "it predicts v_prediction: set `parameterization: v`" in out
    back = read(Path("b.safetensors"))
    lost = small.keys() - back.keys()
    assert not [name for name in lost if not name.startswith(("cond_stage_model.model.", "first_stage_model.loss"))]
    assert all(torch.equal(back[name], small[name]) for name in back if name.startswith(("model.", "first_", "cond_")))
    assert torch.allclose(back["betas"], small["betas"], atol=1e-7)
    assert back["scale_factor"] == small["scale_factor"]
    set_in("saved/unet/config.json", class_embed_type=None)
    assert "saved/unet: lacks what is film_emb.weight in the original" in convert("saved", "original", "c.ckpt")[2]
    shutil.rmtree("saved/audio_encoder")
    assert "saved: has no CLAP audio tower, which every file of the original holds" in convert("saved", "original", "c.ckpt")[2]
    assert not Path("c.ckpt").exists()


def test_a_model_that_the_original_cannot_hold_is_refused(tiny_folder, convert, workdir):
    status, _, err = convert(tiny_folder, "original", "b.ckpt")
    assert status == 2
    assert "asks for norm_num_groups 8, for which the original has no place (32 there)" in err
    assert not Path("b.ckpt").exists()


# ---------------------------------------------------------------------- bad input


class Harm:
    """What a pickle does when it is believed."""

    def __reduce__(self):
        return Path.touch, (Path("harm"),)


def test_a_checkpoint_with_code_is_refused_by_the_name_of_the_class_and_runs_nothing(small, convert, workdir):
    torch.save({"state_dict": small, "callbacks": Harm()}, "a.ckpt")
    status, _, err = convert("a.ckpt", "model", "model")
    assert status == 2
    assert "error: a.ckpt: asks for more than tensors, which can be code: builtins.getattr, pathlib.Path" in err
    assert "Traceback" not in err
    assert not Path("harm").exists()
    assert not Path("model").exists()


def test_what_trainers_leave_in_their_files_is_passed_over(small, workdir, monkeypatch):
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"]
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    callback = type("ModelCheckpoint", (), {"__module__": names[-1]})
    sys.modules[names[-1]].ModelCheckpoint = callback
    left = {"callbacks": {callback: {"best": 1}}, "hyper_parameters": OmegaConf.create({"rate": 1e-4, "layers": [1, 2]})}
    torch.save({"state_dict": small, **left}, "a.ckpt")
    assert same(read(Path("a.ckpt")), small)


def without(tensors: dict[str, Tensor], *begins: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(begins)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda all_: without(all_, UNET, "model_ema"), "holds no UNet"),
        (
            lambda all_: without(all_, f"{UNET}film_emb", "cond_stage_model.") | {"cond_stage_model.transformer.a": torch.ones(1)},
            "is a checkpoint of Stable Diffusion",
        ),
        (
            lambda all_: without(all_, f"{UNET}film_emb", "cond_stage_model.") | {"cond_stage_models.1.model.a": torch.ones(1)},
            "is a checkpoint of AudioLDM 2",
        ),
        (
            lambda all_: all_ | {f"{UNET}middle_block.3.in_layers.0.weight": torch.ones(1)},
            "has two transformers a block where AudioLDM has one",
        ),
        (lambda all_: without(all_, "cond_stage_model."), "holds no CLAP"),
        (lambda all_: without(all_, "first_stage_model.vocoder."), "lacks tensors of first_stage_model.vocoder.*"),
        (lambda all_: without(all_, f"{UNET}out.2.bias"), f"lacks 1 tensors ({UNET}out.2.bias)"),
        (lambda all_: without(all_, "model_ema.diffusion_modelout2bias"), "lacks 1 tensors of the UNet's moving average"),
        (lambda all_: without(all_, "scale_factor"), "lacks scale_factor"),
        (
            lambda all_: all_ | {"first_stage_model.vocoder.ups.0.weight": torch.ones(32, 16, 12)},
            "the vocoder has upsampling kernels of [12, 16, 8, 4, 4], of which the rates are not known",
        ),
        (
            lambda all_: all_ | {f"{UNET}input_blocks.1.0.out_layers.3.weight": torch.ones(40, 40, 3, 3)},
            "the UNet has levels of [40, 64] channels, which heads of 32 do not part",
        ),
        (lambda all_: all_ | {f"{UNET}label_emb.weight": torch.ones(1)}, "holds 1 tensors that no AudioLDM has"),
        (lambda all_: all_ | {f"{UNET}out.2.bias": torch.ones(9)}, "holds 1 tensors of another shape than AudioLDM's"),
    ],
)  # fmt: skip
def test_another_model_and_a_partial_one_are_named(change, sentence, small):
    with pytest.raises(InputError, match=re.escape(f"a.ckpt: {sentence}")):
        content_of(change(small), Path("a.ckpt"))


def test_another_noise_schedule_is_refused():
    with pytest.raises(InputError, match="has a noise schedule that is not AudioLDM's"):
        scheduler_of({"betas": torch.linspace(0.0015, 0.0195, 1000)}, Path("a.ckpt"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def page(path: Path) -> None:
    path.write_text("<html>Sign in to the proxy</html>")


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("a.ckpt", cut, "is damaged or cut short"),
        ("a.safetensors", cut, "is damaged or cut short"),
        ("a.ckpt", page, "is neither a file of torch.save (of PyTorch 1.6 or later) nor of safetensors"),
    ],
)
def test_a_damaged_file_is_named(name, change, sentence, small, convert, tokenizer, workdir):
    to_folder(originals.write(workdir / "a.ckpt", small), workdir / "model", None, tokenizer)
    to_checkpoint(workdir / "model", workdir / name, Path(name).suffix)
    change(workdir / name)
    status, _, err = convert(name, "model", "other")
    assert status == 2
    assert f"{name}: {sentence}" in err
    assert not Path("other").exists()


def test_without_a_vocabulary_nothing_is_written(small, cli, workdir, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(workdir / "hub"))
    originals.write(workdir / "a.ckpt", small)
    status, _, err = cli("convert", "--source", "a.ckpt", "--to", "model", "--out", "model")
    assert status == 2
    assert "--tokenizer: the original's file holds no vocabulary" in err
    assert not Path("model").exists()


def test_a_checkpoint_where_an_adapter_or_a_model_is_asked_for_names_the_command(small, cli, workdir):
    originals.write(workdir / "a.ckpt", small)
    command = "convert --source a.ckpt --to model --out FOLDER"
    for words in (
        ("convert", "--source", "a.ckpt", "--to", "peft", "--out", "b"),
        ("generate", "--prompt", "rain", "--backbone", "a.ckpt", "--out", "b"),
    ):
        status, _, err = cli(*words)
        assert status == 2
        assert command in err
    with pytest.raises(InputError, match=command):
        read_checkpoint("a.ckpt")  # of --ckpt_path
    status, _, err = cli("convert", "--source", "a.ckpt", "--to", "peft", "--out", "b", "--weights", "raw")
    assert status == 2
    assert "--to peft: takes neither --weights nor --tokenizer" in err
