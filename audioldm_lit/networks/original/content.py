"""What a checkpoint of the original holds, by part: the parts of a model folder, the UNet's other weights, and the rest."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from audioldm_lit.errors import InputError
from audioldm_lit.networks.original.clap import AudioTower, TextTower
from audioldm_lit.networks.original.part import Part, Place, Settings, Shapes
from audioldm_lit.networks.original.unet import UNet
from audioldm_lit.networks.original.vae import VAE
from audioldm_lit.networks.original.vocoder import Vocoder

Weights = Literal["ema", "raw"]
PARTS: tuple[Part, ...] = (UNet(), VAE(), Vocoder(), TextTower(), AudioTower())
CLAP = ("cond_stage_model.model.", "cond_stage_models.0.model.")  # of the published files, and of the training repository
GIVE = "give a checkpoint of AudioLDM, such as audioldm-s-full.ckpt"
NAMED = 5
# What only the original's trainer uses: noise schedule, losses, counters, and what CLAP has beside its embeddings.
REST = re.compile(
    r"betas|(sqrt_|log_)?(one_minus_|recip_|recipm1_)?alphas_cumprod(_prev)?|posterior_\w+|lvlb_weights|logvar"
    r"|cond_ids|scale_factor|model_ema\.(decay|num_updates)|clap\..+|first_stage_model\.(loss|colorize).*"
    r"|(@)(text_transform|audio_transform)\..+|(@)logit_scale_[at]|(@)text_branch\.embeddings\.(position_ids|token_type_ids)"
    r"|(@)audio_branch\.(tscam_conv|head|spectrogram_extractor|logmel_extractor|spec_augmenter)\..+"
    r"|(@)audio_branch\.layers\.\d+\.blocks\.\d+\.attn_mask".replace("@", "|".join(map(re.escape, CLAP)))
)


@dataclass(frozen=True)
class Content:
    """A checkpoint's tensors, sorted.

    Attributes:
        clap: What the names of CLAP begin with.
        settings: Of every part's network here, by its folder.
        blanks: That network without memory for its weights.
        places: For every tensor of a part, where it stands in the checkpoint, by folder and name here.
        average: Names of the UNet's moving average by the names of the weights; empty where there is none.
        rest: Names of all other tensors.
    """

    clap: str
    settings: Mapping[str, Settings]
    blanks: Mapping[str, nn.Module]
    places: Mapping[str, Mapping[str, Place]]
    average: Mapping[str, str]
    rest: frozenset[str]


def content_of(tensors: Mapping[str, Tensor], path: Path) -> Content:
    """Sort a checkpoint's tensors.

    Args:
        tensors: By name.
        path: Where they are from, for errors.

    Raises:
        InputError: If they are another model's, or some are missing, too much or of another shape.
    """
    _check_kind(tensors, path)
    clap = next((prefix for prefix in CLAP if any(name.startswith(prefix) for name in tensors)), None)
    if clap is None:
        raise InputError(path, "holds no CLAP (cond_stage_model), by which AudioLDM reads texts", GIVE)
    elsewhere = {"vae": {"scaling_factor": _scaling_factor(tensors, path)}}
    settings, blanks, places = {}, {}, {}
    for part in PARTS:
        prefix = prefix_of(part, clap)
        shapes = {name.removeprefix(prefix): tensor.shape for name, tensor in tensors.items() if name.startswith(prefix)}
        settings[part.folder] = _settings(part, shapes, prefix, path) | elsewhere.get(part.folder, {})
        blank = blanks[part.folder] = part.blank(settings[part.folder])
        places[part.folder] = {name: within(place, prefix) for name, place in part.places(blank).items()}
        _check_fit(blank.state_dict(), places[part.folder], tensors, path)
    raw = {place.name for place in places["unet"].values()}
    average = {name: averaged(name) for name in raw} if any(averaged(name) in tensors for name in raw) else {}
    _listed(path, "lacks {} tensors of the UNet's moving average", average.values() - tensors.keys(), "fetch the whole file again")
    known = {place.name for table in places.values() for place in table.values()} | set(average.values())
    rest = frozenset(tensors.keys() - known)
    _listed(path, "holds {} tensors that no AudioLDM has", [name for name in rest if not REST.fullmatch(name)], GIVE)
    return Content(clap, settings, blanks, places, average, rest)


def prefix_of(part: Part, clap: str) -> str:
    """What the names of a part begin with in a checkpoint whose CLAP is called so."""
    return clap if part.prefix == CLAP[0] else part.prefix


def within(place: Place, prefix: str) -> Place:
    """A place with its whole name."""
    return Place(f"{prefix}{place.name}", place.third, place.pointwise)


def averaged(name: str) -> str:
    """Name of the moving average of a weight of the UNet: that of the weight without dots."""
    return f"model_ema.{name.removeprefix('model.').replace('.', '')}"


def _check_kind(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a model of another kind by its name, before tensors that it could not have are missed."""
    if not any(name.startswith(UNet.prefix) for name in tensors):
        raise InputError(path, f"holds no UNet ({UNet.prefix}*)", GIVE)
    if f"{UNet.prefix}middle_block.3.in_layers.0.weight" in tensors:  # where AudioLDM's middle ends with 2
        problem = "has two transformers a block where AudioLDM has one, as the training repository makes them by default"
        raise InputError(path, problem, "train with `extra_sa_layer: false` in its unet_config; no model folder can hold the other")
    if f"{UNet.prefix}film_emb.weight" in tensors:
        return
    others = {
        "Stable Diffusion": ("cond_stage_model.transformer.", "conditioner.embedders."),
        "AudioLDM 2": ("cond_stage_models.",),
    }
    found = [kind for kind, begins in others.items() if any(name.startswith(begins) for name in tensors)]
    kind = f"is a checkpoint of {found[0]}" if found else "is a checkpoint of another latent diffusion model"
    raise InputError(path, f"{kind}: its UNet has no film_emb, through which AudioLDM hears a text", GIVE)


def _settings(part: Part, shapes: Shapes, prefix: str, path: Path) -> Settings:
    try:
        return part.settings(shapes)
    except (KeyError, IndexError) as error:
        raise InputError(path, f"lacks tensors of {prefix}* ({error.args[0]})", "fetch the whole file again") from error
    except InputError as error:
        raise InputError(path, f"{error.where} {error.problem}", GIVE) from error


def _check_fit(own: Mapping[str, Tensor], places: Mapping[str, Place], tensors: Mapping[str, Tensor], path: Path) -> None:
    again = "fetch the whole file again"
    _listed(path, "lacks {} tensors", {place.name for place in places.values()} - tensors.keys(), again)
    unlike = {place.name for name, place in places.items() if place.taken(tensors[place.name]).shape != own[name].shape}
    _listed(path, "holds {} tensors of another shape than AudioLDM's", unlike, GIVE)


def _scaling_factor(tensors: Mapping[str, Tensor], path: Path) -> float:
    if "scale_factor" not in tensors:
        raise InputError(path, "lacks scale_factor, the scale of its latents", "fetch the whole file again")
    return float(tensors["scale_factor"])


def _listed(path: Path, problem: str, names: Iterable[str], mend: str) -> None:
    """Refuse a file for some of its tensors, if there are such."""
    found = sorted(names)
    if found:
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise InputError(path, f"{problem.format(len(found))} ({', '.join(found[:NAMED])}{more})", mend)
