"""A model as a folder in the diffusers layout: a sub-folder with configuration and weights for every part, and an index."""

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.utils import logging as diffusers_logging
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    ClapAudioConfig,
    ClapAudioModelWithProjection,
    ClapFeatureExtractor,
    ClapTextConfig,
    ClapTextModelWithProjection,
    PreTrainedModel,
    RobertaTokenizer,
    SpeechT5HifiGan,
)
from transformers.utils import logging as transformers_logging

from audioldm_lit.assets.finding import again
from audioldm_lit.errors import InputError
from audioldm_lit.networks.published import Heads, heads_settings
from audioldm_lit.networks.strict_loading import load_pretrained
from audioldm_lit.networks.twins import check_towers
from audioldm_lit.networks.unread import Unread
from audioldm_lit.networks.weight_files import loading
from audioldm_lit.storage.atomic_write import let_read, write_json
from audioldm_lit.storage.plain_files import read_json
from audioldm_lit.vocoders.inverse_stft import InverseSTFTVocoder

transformers_logging.disable_progress_bar()  # parts load in a blink; a bar each is noise
diffusers_logging.disable_progress_bar()
NETWORKS: dict[str, type[nn.Module]] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": ClapTextModelWithProjection,
    "audio_encoder": ClapAudioModelWithProjection,
}
VOCODERS: dict[str, type[PreTrainedModel]] = {  # as a vocoder's config.json names them
    network.__name__: network for network in (SpeechT5HifiGan, InverseSTFTVocoder)
}
FAULTS = (  # of files that are damaged, and of settings that are none
    *(OSError, RuntimeError, ValueError, TypeError, ArithmeticError, LookupError),
    *(SafetensorError, UnpicklingError, StrictDataclassError),
)
INDEXED = ("unet", "vae", "text_encoder", "tokenizer", "vocoder", "scheduler")  # what AudioLDMPipeline knows


def load_parts(folder: Path, heads: Heads = "as_saved", later: Collection[str] = ()) -> dict[str, Any]:
    """Load every part of a model folder by its name, networks in float32.

    Args:
        folder: The folder.
        heads: Of the UNet's attention.
        later: Networks that are not read yet.

    Raises:
        InputError: If a part is missing, weights and configuration disagree, or CLAP's towers do not belong together.
    """
    hears = (folder / "audio_encoder").is_dir()
    for part in ("tokenizer", "scheduler", *(["feature_extractor"] if hears else [])):
        _check_part(folder / part)
    networks = {part: network for part, network in NETWORKS.items() if part != "audio_encoder" or hears}
    networks["vocoder"] = _vocoder_class(part_settings(folder / "vocoder"), folder / "vocoder" / "config.json")
    changed = {"unet": heads_settings(part_settings(folder / "unet"), heads, folder / "unet")}
    parts: dict[str, Any] = {
        part: _waiting(folder / part, network) if part in later else load_network(folder / part, network, **changed.get(part, {}))
        for part, network in networks.items()
    }
    settled = {"tokenizer": RobertaTokenizer, "scheduler": DDIMScheduler, "feature_extractor": ClapFeatureExtractor}
    for part, kind in settled.items():
        if part != "feature_extractor" or hears:
            with _loading(folder / part):
                parts[part] = kind.from_pretrained(folder / part, local_files_only=True)
    _check_numbers(folder, parts["unet"].config)
    if hears and not {"text_encoder", "audio_encoder"} & {*later}:
        check_towers(folder / "audio_encoder", parts["text_encoder"], parts["audio_encoder"], parts["tokenizer"])
    return parts


def build_parts(configs: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """Make every part that has a configuration, with random weights of a seed; the tokenizer is no part of it."""
    vocoder = _vocoder_class(configs["vocoder"], "vocoder")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel.from_config(dict(configs["unet"])),
            "vae": AutoencoderKL.from_config(dict(configs["vae"])),
            "text_encoder": ClapTextModelWithProjection(ClapTextConfig(**configs["text_encoder"])),
            "vocoder": vocoder(vocoder.config_class(**configs["vocoder"])),  # type: ignore[misc]  # all of VOCODERS have one
            "scheduler": DDIMScheduler.from_config(dict(configs["scheduler"])),
        }
        if "audio_encoder" in configs:
            parts["audio_encoder"] = ClapAudioModelWithProjection(ClapAudioConfig(**configs["audio_encoder"]))
            parts["feature_extractor"] = ClapFeatureExtractor(**configs["feature_extractor"])
    return parts


def save_parts(parts: Mapping[str, Any], folder: Path) -> None:
    """Write parts so that `load_parts` and diffusers can read them."""
    for part, value in parts.items():
        value.save_pretrained(folder / part)
        _forget_origin(folder / part / "config.json")
        let_read(folder / part)
    write_index(parts, folder)


def write_index(parts: Mapping[str, Any], folder: Path) -> None:
    """Write the pipeline's own index, which holds the parts that its class knows; the audio tower stands beside them."""
    index = {"_class_name": "AudioLDMPipeline", **{part: _library_and_class(parts[part]) for part in INDEXED}}
    write_json(folder / "model_index.json", index)


def _library_and_class(part: Any) -> list[str]:
    """Where diffusers finds a part's class: a library that it knows by its name, else a module."""
    module, name = type(part).__module__, type(part).__name__
    return [module if module.startswith("audioldm_lit") else module.partition(".")[0], name]


def _check_part(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(folder, "this part of the model is missing", again(folder))


def part_settings(folder: Path) -> dict[str, Any]:
    """What a part's config.json says."""
    _check_part(folder)
    file = folder / "config.json"
    try:
        return dict(read_json(file))
    except (OSError, TypeError, ValueError) as error:
        raise InputError(file, f"cannot be read ({error})", again(file)) from error


def _vocoder_class(config: Mapping[str, Any], where: str | Path) -> type[PreTrainedModel]:
    """The class that a vocoder's configuration names; the published folders' own where it names none."""
    (name, *_) = config.get("architectures") or [SpeechT5HifiGan.__name__]
    if name not in VOCODERS:
        raise InputError(where, f"architectures names '{name}'", f"take a vocoder of {' or '.join(VOCODERS)}")
    return VOCODERS[name]


def _forget_origin(file: Path) -> None:
    """Take the folder that a part was loaded from out of its configuration: it is somebody's, and means nothing elsewhere."""
    if not file.is_file():
        return
    content = read_json(file)
    if content.pop("_name_or_path", None) is not None:
        write_json(file, content)


def _waiting(folder: Path, network: type[nn.Module]) -> Unread:
    """What stands for a network until somebody asks for it."""
    settings = part_settings(folder)
    with _loading(folder):
        config = network.config_class(**settings) if issubclass(network, PreTrainedModel) else settings  # type: ignore[misc]  # has one
    return Unread(network, config)


def load_network(folder: Path, network: type[nn.Module], **settings: Any) -> nn.Module:
    """Load one network and insist that its file holds every weight the configuration asks for; `settings` win over its own."""
    _check_part(folder)
    with _loading(folder):
        return load_pretrained(network, folder, **loading(folder), **settings)


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    """Refuse what the libraries raise at a part of a model."""
    try:
        yield
    except FAULTS as error:
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(folder, f"cannot be loaded ({said})", again(folder)) from error


def _check_numbers(folder: Path, unet: Mapping[str, Any]) -> None:
    """Refuse settings of a model's parts that load and then compute nothing, or something else.

    Args:
        folder: The model's.
        unet: Settings of its UNet.

    Raises:
        InputError: Names the file and the setting.
    """
    wide = part_settings(folder / "text_encoder").get("projection_dim", ClapTextConfig().projection_dim)
    if unet["projection_class_embeddings_input_dim"] != wide or unet["class_embed_type"] != "simple_projection":
        problem = f"does not take the {wide} numbers of the text encoder by class_embed_type simple_projection, as an AudioLDM does"
        raise InputError(folder / "unet" / "config.json", problem, again(folder))
    for part, name in (("vae", "scaling_factor"), ("vocoder", "sampling_rate")):
        value = part_settings(folder / part).get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise InputError(folder / part / "config.json", f"says {name} is {value}, no number above 0", again(folder))
