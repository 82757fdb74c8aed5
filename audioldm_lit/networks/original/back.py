"""A model folder to a checkpoint of the original."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors import safe_open
from torch import Tensor, nn

from audioldm_lit.console.command import command
from audioldm_lit.errors import InputError
from audioldm_lit.networks.fingerprinting import SILENT
from audioldm_lit.networks.model_folder import load_network, part_settings
from audioldm_lit.networks.original.checkpoint import read
from audioldm_lit.networks.original.content import CLAP, PARTS, Weights, averaged, prefix_of
from audioldm_lit.networks.original.conversion import REST, digest
from audioldm_lit.networks.original.part import Part, Place, Settings
from audioldm_lit.networks.original.schedule import buffers_of
from audioldm_lit.networks.original.streaming import write_pieces

# Settings that the original has no say in, that it holds elsewhere, or that differ between published folders and the original.
FREE = {"sample_size", "scaling_factor", "layer_norm_eps", "attention_head_dim"}
MEND = "give a model with the original's settings"
PARAMETERIZATION = {"v_prediction": "v", "sample": "x0"}  # as the original calls what is predicted
EMA = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(0, dtype=torch.int32)}


def to_checkpoint(source: Path, out: Path, kind: str) -> tuple[Weights, list[str]]:
    """Write a checkpoint of a model folder, in the layout that the original's trainer and sampler load.

    Args:
        source: The model folder; `original/` in it holds what the folder has no other place for.
        out: File to write.
        kind: `.safetensors` or `.ckpt`.

    Returns:
        Which of the checkpoint's weights are the folder's, and what is to be known of them, in sentences.

    Raises:
        InputError: If a part is missing, or one that the original has no place for.
    """
    if not (source / "audio_encoder").is_dir():
        mend = f"{command('doctor', '--model', source, '--add_audio_tower', 'CLAP')} adds one"
        raise InputError(source, "has no CLAP audio tower, which every file of the original holds", mend)
    head, told = _head(source), []
    scheduler = DDIMScheduler.from_pretrained(source / "scheduler", local_files_only=True)
    predicts = scheduler.config["prediction_type"]
    if predicts != "epsilon":
        told.append(f"it predicts {predicts}: set `parameterization: {PARAMETERIZATION[predicts]}` in the original's settings")
    if not head:
        told.append(f"{source} has no {REST.parent}/: what CLAP has beside its embeddings is left out, which strict loading misses")
    unchanged = bool(head) and head["unet"] == digest(source)
    weights: Weights = "ema" if unchanged and head["weights"] == "ema" else "raw"
    if not unchanged:
        told.append("the moving average of the UNet's weights begins at those of the folder")
    write_pieces(out, partial(_pieces, source, head, weights, unchanged), kind)
    return weights, told


def _pieces(source: Path, head: Mapping[str, str], weights: Weights, unchanged: bool) -> Iterator[dict[str, Tensor]]:
    """The original's tensors, part by part, each read when it is asked for; what was kept of a checkpoint comes last."""
    written: set[str] = set()
    for part in PARTS:
        tensors = _originals(part, source / part.folder, head.get("clap", CLAP[0]))
        if part.folder == "unet":
            average = {averaged(name): tensor for name, tensor in tensors.items()}
            tensors = average if weights == "ema" else tensors if unchanged else tensors | average | EMA
        written |= tensors.keys()
        yield tensors
    rest = {name: tensor for name, tensor in _rest(source).items() if name not in written}
    scale = rest.get("scale_factor", torch.tensor(0.0))
    factor = part_settings(source / "vae").get("scaling_factor", 0.18215)
    rest["scale_factor"] = torch.tensor(factor).to(scale.dtype).reshape(scale.shape)
    if not head:
        rest |= buffers_of(DDIMScheduler.from_pretrained(source / "scheduler", local_files_only=True))
    yield rest


def _head(folder: Path) -> dict[str, str]:
    """What was noted of the checkpoint that a folder was made of; empty where nothing was."""
    if not (folder / REST).is_file():
        return {}
    with safe_open(folder / REST, "pt") as file:
        return dict(file.metadata())


def _rest(folder: Path) -> dict[str, Tensor]:
    """What was kept of that checkpoint; empty where nothing was."""
    return read(folder / REST) if (folder / REST).is_file() else {}


def _originals(part: Part, folder: Path, clap: str) -> dict[str, Tensor]:
    """The original's tensors of a part."""
    blank = _blank(part, folder)
    places = _places(part, blank, folder)
    weights = _weights(part, folder, places)
    thirds: dict[str, dict[int | None, Tensor]] = defaultdict(dict)
    for name, place in places.items():
        thirds[place.name][place.third] = place.given(weights[name])
    tensors = {name: _joined(found) for name, found in thirds.items()}
    _check_settings(part, part.kept(blank), tensors, folder)
    prefix = prefix_of(part, clap)
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _places(part: Part, blank: nn.Module, folder: Path) -> dict[str, Place]:
    try:
        return part.places(blank)
    except KeyError as error:
        raise InputError(folder, f"has {error.args[0]}, for which the original has no place", MEND) from error


def _joined(thirds: Mapping[int | None, Tensor]) -> Tensor:
    """A tensor of its thirds, or the whole one that it is already."""
    return thirds[None] if None in thirds else torch.cat([thirds[number] for number in range(3)])


def _check_settings(part: Part, settings: Settings, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Refuse settings that nobody could read from the original's tensors again."""
    try:
        again = part.kept(part.blank(part.settings({name: tensor.shape for name, tensor in tensors.items()})))
    except KeyError as error:
        raise InputError(folder, f"lacks what is {error.args[0]} in the original", MEND) from error
    lost = [name for name in again if name not in FREE | SILENT and _plain(again[name]) != _plain(settings.get(name))]
    if lost:
        problem = f"asks for {lost[0]} {settings.get(lost[0])}, for which the original has no place ({again[lost[0]]} there)"
        raise InputError(folder / "config.json", problem, MEND)


def _blank(part: Part, folder: Path) -> nn.Module:
    """A part's network as its config.json says, without memory for its weights."""
    given = part_settings(folder)
    made = given.get("_class_name") or (given.get("architectures") or [part.network.__name__])[0]
    if made != part.network.__name__:
        mend = f"give a model with a {part.network.__name__}"
        raise InputError(folder, f"is a {made}, for which the original has no place", mend)
    return part.blank(given)


def _weights(part: Part, folder: Path, places: Mapping[str, Place]) -> Mapping[str, Tensor]:
    """A part's tensors as they are stored; what is stored under older names or in other files, as the libraries read it."""
    if (folder / part.file).is_file():
        tensors = read(folder / part.file)
        if places.keys() <= tensors.keys():
            return tensors
    return load_network(folder, part.network).state_dict()


def _plain(value: Any) -> str:
    """As JSON, in which a tuple is a list."""
    return json.dumps(value, default=str)
