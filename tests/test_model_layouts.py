"""Model folders as they are met: each loads as the model that it is, or is refused in a sentence of its own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from audioldm_lit.assets.asset import hub_cache
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError

import tiny

PARTS = ("unet", "vae", "text_encoder", "vocoder", "audio_encoder")
ID = "cvssp/audioldm-s-full-v2"
VAE = {**tiny.CONFIGS["vae"], "mid_block_add_attention": True}  # as the published ones
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(scope="module")
def original() -> Backbone:
    return Backbone.build({**tiny.CONFIGS, "vae": VAE}, tiny.tokenizer())


@pytest.fixture(scope="module")
def saved(original, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    original.save(folder)
    return folder


@pytest.fixture
def model(saved, workdir, monkeypatch) -> Path:
    """A copy of the model's folder in an empty current one, and an empty hub cache."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(saved, "model")
    return Path("model")


def change(file: Path, **changes: object) -> None:
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**content, **changes}))


# ---------------------------------------------------------------- names and formats of weights


def in_every_file(made: Callable[[Path], None], parts: tuple[str, ...] = PARTS) -> Callable[[Path], str]:
    def build(model: Path) -> str:
        for file in sorted(file for part in parts for file in (model / part).glob("*.safetensors")):
            made(file)
        return "model"

    return build


def as_pickle(file: Path) -> None:
    name = "pytorch_model.bin" if file.name == "model.safetensors" else "diffusion_pytorch_model.bin"
    torch.save(load_file(file), file.with_name(name))
    file.unlink()


def in_half(file: Path) -> None:
    file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))


def beside_half(file: Path) -> None:
    zeros = {key: torch.zeros_like(weight) for key, weight in load_file(file).items()}
    save_file(zeros, file.with_name(f"{file.stem}.fp16.safetensors"))


def in_shards(file: Path) -> None:
    weights, names = load_file(file), [f"{file.stem}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    parts = [dict(list(weights.items())[number::2]) for number in (0, 1)]
    for name, part in zip(names, parts, strict=True):
        save_file(part, file.with_name(name), metadata={"format": "pt"})
    index_of(file, dict(zip(names, parts, strict=True)))


def in_pickled_shards(file: Path) -> None:
    weights, stem = load_file(file), "pytorch_model" if file.stem == "model" else file.stem
    names = [f"{stem}-0000{number}-of-00002.bin" for number in (1, 2)]
    parts = [dict(list(weights.items())[number::2]) for number in (0, 1)]
    for name, part in zip(names, parts, strict=True):
        torch.save(part, file.with_name(name))
    index_of(file.with_name(f"{stem}.bin"), dict(zip(names, parts, strict=True)))
    file.unlink()


def index_of(file: Path, parts: dict[str, dict[str, torch.Tensor]]) -> None:
    where = {key: name for name, part in parts.items() for key in part}
    size = sum(weight.nbytes for part in parts.values() for weight in part.values())
    file.with_name(f"{file.name}.index.json").write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": where}))
    file.unlink(missing_ok=True)


# ---------------------------------------------------------------- names of tensors and settings


def with_position_ids(model: Path) -> str:
    file = model / "text_encoder" / "model.safetensors"
    ids = torch.arange(130)[None]
    save_file(load_file(file) | {"text_model.embeddings.position_ids": ids}, file, metadata={"format": "pt"})
    return "model"


def with_old_attention_names(model: Path) -> str:
    file = model / "vae" / "diffusion_pytorch_model.safetensors"
    renamed = {}
    for key, weight in load_file(file).items():
        for new, old in OLD_NAMES.items():
            key = key.replace(f".attentions.0.{new}.", f".attentions.0.{old}.")
        renamed[key] = weight
    assert len([key for key in renamed if ".proj_attn." in key]) == 4
    save_file(renamed, file, metadata={"format": "pt"})
    return "model"


def with_hifigan(model: Path) -> str:
    change(model / "vocoder" / "config.json", model_type="hifigan")
    return "model"


def with_vocab_json(model: Path) -> str:
    """As older versions of transformers saved a tokenizer."""
    content = json.loads((model / "tokenizer" / "tokenizer.json").read_text())
    (model / "tokenizer" / "tokenizer.json").unlink()
    (model / "tokenizer" / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    (model / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    return "model"


# ---------------------------------------------------------------- the hub cache


def snapshot(model: Path, commit: str = "0123") -> Path:
    """The model as huggingface_hub keeps it: links to blobs."""
    repository = hub_cache() / f"models--{ID.replace('/', '--')}"
    for number, path in enumerate(sorted(path for path in model.rglob("*") if path.is_file())):
        blob, link = repository / "blobs" / str(number), repository / "snapshots" / commit / path.relative_to(model)
        for folder in (blob.parent, link.parent):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(blob)
    return repository


def by_id(model: Path) -> str:
    repository = snapshot(model)
    snapshot(model, "4567")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    shutil.rmtree(repository / "snapshots" / "4567" / "unet")
    return ID


def by_id_without_refs(model: Path) -> str:
    snapshot(model)
    return ID


def by_name_of_the_registry(model: Path) -> str:
    snapshot(model)
    return "audioldm-s-full-v2"


def by_folder_of_the_hub_cache(model: Path) -> str:
    return str(snapshot(model))


def of_several_snapshots_without_refs(model: Path) -> str:
    snapshot(model)
    snapshot(model, "4567")
    return ID


def with_a_blob_missing(model: Path) -> str:
    (snapshot(model) / "blobs" / "3").unlink()
    return ID


# ---------------------------------------------------------------- what is no whole AudioLDM


def of_pipeline(name: str) -> Callable[[Path], str]:
    def build(model: Path) -> str:
        change(model / "model_index.json", _class_name=name)
        return "model"

    return build


def a_clap(model: Path) -> str:
    change(Path("clap") / "config.json", model_type="clap")
    return "clap"


def a_part(model: Path) -> str:
    return "model/unet"


def a_file(model: Path) -> str:
    return "model/model_index.json"


def nothing(model: Path) -> str:
    Path("empty").mkdir()
    return "empty"


def without_a_vae(model: Path) -> str:
    shutil.rmtree(model / "vae")
    return "model"


def without_weights(model: Path) -> str:
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    return "model"


def without_weights_in_the_hub_cache(model: Path) -> str:
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    snapshot(model)
    return ID


def cut_short(model: Path) -> str:
    file = model / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    return "model"


def with_a_broken_index(model: Path) -> str:
    (model / "model_index.json").write_text("{")
    return "model"


def with_nan(model: Path) -> str:
    file = model / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: weight.clone().fill_(torch.nan) for name, weight in load_file(file).items()}, file, {"format": "pt"})
    return "model"


def that_says(file: str, **settings: object) -> Callable[[Path], str]:
    def build(model: Path) -> str:
        change(model / file, **settings)
        return "model"

    return build


def named(name: str) -> Callable[[Path], str]:
    return lambda model: name


FETCH = "python -m audioldm_lit assets fetch"
LOADS = [
    in_every_file(as_pickle), in_every_file(as_pickle, ("unet", "vae")), in_every_file(in_half), in_every_file(beside_half),
    in_every_file(in_shards), in_every_file(in_pickled_shards), with_position_ids, with_old_attention_names, with_hifigan,
    with_vocab_json, by_id, by_id_without_refs, by_name_of_the_registry, by_folder_of_the_hub_cache,
]  # fmt: skip
REFUSED = [
    (of_pipeline("AudioLDM2Pipeline"), "model: is an AudioLDM 2, whose UNet reads words through cross-attention, no AudioLDM; "),
    (of_pipeline("MusicLDMPipeline"), "model: is a MusicLDM, no AudioLDM; "),
    (of_pipeline("StableDiffusionPipeline"), "model: is a Stable Diffusion, which makes pictures, no AudioLDM; "),
    (of_pipeline("FluxPipeline"), "model: is a model of FluxPipeline, no AudioLDM; "),
    (a_clap, "clap: is a CLAP, which hears and reads but makes no sound; give a folder in the diffusers layout"),
    (a_part, "model/unet: is one part of a model; give model."),
    (a_file, "model/model_index.json: is a file, and a model is a folder; give a folder in the diffusers layout"),
    (nothing, "empty: no AudioLDM here; give a folder in the diffusers layout"),
    (without_a_vae, "model/vae: this part of the model is missing; copy the whole folder again."),
    (without_weights, "model/unet: holds no weights (.safetensors or .bin); copy the whole folder again."),
    (without_weights_in_the_hub_cache, f"holds no weights (.safetensors or .bin); {FETCH} {ID}."),
    (cut_short, "model/unet: cannot be loaded ("),
    (with_nan, "model/unet: cannot be loaded (its weights hold NaN or infinity: "),
    (that_says("unet/config.json", attention_head_dim=0), "model/unet: cannot be loaded ("),
    (that_says("unet/config.json", class_embed_type=None), "model/unet/config.json: does not take the 32 numbers of the text"),
    (that_says("vae/config.json", scaling_factor=0), "model/vae/config.json: says scaling_factor is 0, no number above 0; "),
    (that_says("vocoder/config.json", sampling_rate=0), "model/vocoder/config.json: says sampling_rate is 0, no number"),
    (that_says("text_encoder/config.json", hidden_size="wide"), "model/text_encoder: cannot be loaded ("),
    (that_says("scheduler/scheduler_config.json", beta_schedule="none"), "model/scheduler: cannot be loaded ("),
    (that_says("scheduler/scheduler_config.json", beta_start="0.1"), "model/scheduler: cannot be loaded ("),
    (with_a_broken_index, "model/model_index.json: cannot be read ("),
    (of_several_snapshots_without_refs, "has several snapshots (0123, 4567) and no refs/main; give the folder of one."),
    (with_a_blob_missing, f"{ID}: was fetched in part; {FETCH} audioldm-s-full-v2 goes on where it stopped."),
    (named(ID), f"{ID}: was not fetched yet; {FETCH} audioldm-s-full-v2."),
    (named("cvssp/audioldm-s-ful-v2"), f"and no model of this id was fetched; the nearest known is {ID}: {FETCH} {ID}."),
    (named("somebody/else"), f"no such folder, and no model of this id was fetched; correct it, or {FETCH} somebody/else."),
    (named("audioldm-m-ful"), f"no AudioLDM here; the nearest known is audioldm-m-full: {FETCH} audioldm-m-full."),
    (named("audioldm-m-full-ckpt"), f"audioldm-m-full-ckpt: was not fetched yet; {FETCH} audioldm-m-full-ckpt, then python -m"),
    (named("vggish"), "vggish: is VGGish in the port torchvggish 0.1, no AudioLDM; give a folder"),
    (named("runs/of/mine"), "runs/of/mine: no AudioLDM here; give a folder in the diffusers layout"),
    (
        named(f"https://huggingface.co/{ID}/tree/main"),
        f"no connection is made to find a model; {FETCH} {ID}, then give {ID}.",
    ),
    (
        named("https://zenodo.org/record/7813012/files/audioldm-m-full.ckpt?download=1"),
        f"no connection is made to find a model; {FETCH} audioldm-m-full-ckpt, then python -m audioldm_lit convert --source ",
    ),
    (named("https://example.org/model.zip"), "is an address, and no connection is made to find a model; download it and give its"),
]


@pytest.mark.parametrize("build", LOADS)
def test_every_layout_of_published_folders_loads_as_the_model_it_is(original, model, build):
    loaded = Backbone.load(build(model))
    assert all(loaded.fingerprint(part) == original.fingerprint(part) for part in PARTS)
    assert torch.equal(loaded.encode_text(["rain on a roof"]), original.encode_text(["rain on a roof"]))


@pytest.mark.parametrize(("build", "sentence"), REFUSED)
def test_whatever_else_stands_there_is_refused_in_its_own_sentence(model, build, sentence):
    with pytest.raises(InputError) as refused:
        Backbone.load(build(model))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


class Harm:
    """What a pickle does when it is believed."""

    def __reduce__(self):
        return Path.touch, (Path("harm"),)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(model):
    as_pickle(model / "unet" / "diffusion_pytorch_model.safetensors")
    torch.save({"weights": Harm()}, model / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(InputError, match=r"^model/unet: "):
        Backbone.load("model")
    assert not Path("harm").exists()
