"""How near a part of a model folder comes to the original's own network on the weights of the checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from audioldm_lit.networks.model_folder import load_network
from audioldm_lit.networks.original.checkpoint import read
from audioldm_lit.networks.original.content import PARTS, Content, Weights, prefix_of
from audioldm_lit.networks.original.part import Part


@torch.no_grad()
def differences(
    checkpoint: Path, folder: Path, content: Content, weights: Weights, unet: Mapping[str, Any] | None = None
) -> dict[str, tuple[float, float]]:
    """Largest absolute difference of both outputs by part, and its share of the original's largest value.

    Both networks compute in float32, the folder's as `from_pretrained` loads it, the original's as the checkpoint names it.

    Args:
        checkpoint: The checkpoint.
        folder: The model folder.
        content: What the checkpoint holds.
        weights: Which of the UNet's weights the folder holds.
        unet: Settings that the folder's UNet is loaded with instead of its own.
    """
    names = content.average if weights == "ema" else {}
    asked = {"unet": unet or {}}
    return {
        part.folder: _difference(part, checkpoint, folder / part.folder, content, names, asked.get(part.folder, {}))
        for part in PARTS
    }


def _difference(
    part: Part, checkpoint: Path, folder: Path, content: Content, names: Mapping[str, str], asked: Mapping[str, Any]
) -> tuple[float, float]:
    prefix, settings, tensors = prefix_of(part, content.clap), content.settings[part.folder], read(checkpoint)
    with torch.device("meta"):
        reference = part.reference(settings)
    whole = {name: f"{prefix}{name}" for name in reference.state_dict()}
    weights = {name: tensors[names.get(there, there)] for name, there in whole.items()}
    reference.load_state_dict({name: one.float() if one.is_floating_point() else one for name, one in weights.items()}, assign=True)
    ours = load_network(folder, part.network, **asked)
    absolute = relative = 0.0
    for actual, expected in part.compared(ours.eval(), reference.eval()):
        difference = (actual.double() - expected.double()).abs().max().item()
        absolute, relative = _worse(absolute, difference), _worse(relative, difference / max(expected.abs().max().item(), 1e-12))
    return absolute, relative


def _worse(one: float, other: float) -> float:
    """The larger; what is no number is worst."""
    return one if one > other or one != one else other
