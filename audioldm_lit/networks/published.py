"""What was so when the published AudioLDM were trained, and their converted folders do not say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from audioldm_lit.console.command import command
from audioldm_lit.errors import InputError
from audioldm_lit.storage.plain_files import read_json

MEASURED = "doctor.json"  # in a model's folder
Heads = Literal["as_saved", "original"]  # of attention: as the folder says, or as the original code has them
WIDE = 256  # channels of the first level, from which on a head has 64 channels and not 32
LEVELS = (1, 2, 3, 5)  # channels a level, in those of the first
FIRST = (128, 192, 256)  # of S, M and L
CONVERTED = 128  # `sample_size` in every converted folder, 512 / 4 of the converter and no length
TRAINED = 256  # latent steps that all of them were trained on: 1,024 frames, 10.24 s


def is_published(unet: Mapping[str, Any]) -> bool:
    """Whether a UNet has the levels of a published model."""
    return list(unet["block_out_channels"]) in [[first * factor for factor in LEVELS] for first in FIRST]


def trained_steps(unet: Mapping[str, Any]) -> int:
    """Latent steps in time that a UNet was trained on, by its settings.

    What `sample_size` says, but for a UNet of the levels of a published model with the converter's 128: it was trained on 256.
    """
    steps = int(unet["sample_size"])
    return TRAINED if steps == CONVERTED and is_published(unet) else steps


def original_heads(unet: Mapping[str, Any], where: str | Path) -> list[int]:
    """Heads of attention a level of the original code: 32 channels each, in models as wide as AudioLDM-L 64.

    Args:
        unet: Settings of the UNet.
        where: What an error names.

    Raises:
        InputError: If a level's channels cannot be parted so.
    """
    widths = unet["block_out_channels"]
    size = 64 if widths[0] >= WIDE else 32
    if any(width % size for width in widths):
        raise InputError(where, f"has levels of {widths} channels, which heads of {size} do not part", "take --heads as_saved")
    return [width // size for width in widths]


def saved_heads(unet: Mapping[str, Any]) -> list[int]:
    """Heads of attention a level as a UNet's settings have them; `attention_head_dim` to diffusers, which takes 8 by default."""
    levels, heads = len(unet["block_out_channels"]), unet.get("attention_head_dim", 8)
    return list(heads) if isinstance(heads, list | tuple) else [heads] * levels


def heads_settings(unet: Mapping[str, Any], heads: Heads, where: str | Path) -> dict[str, Any]:
    """What a UNet must be made with beside its own settings for the heads that are asked for; nothing where it has them already."""
    if heads == "as_saved":
        return {}
    original = original_heads(unet, where)
    attends = ["CrossAttn" in block for block in unet["down_block_types"]]  # a level without attention may say what it likes
    differs = any(there and ours != saved for there, ours, saved in zip(attends, original, saved_heads(unet), strict=True))
    return {"attention_head_dim": original} if differs else {}


def heads_remark(unet: Mapping[str, Any], model: Path, name: str | Path) -> str:
    """What there is to say where a published model is used with the heads of its folder; nothing where these are known to fit.

    Args:
        unet: Settings of its UNet.
        model: Its folder.
        name: What a user calls it.
    """
    if not is_published(unet) or not heads_settings(unet, "original", name):
        return ""
    if measured := measured_heads(model):
        return f"{name}: `doctor` has measured a lower loss with heads: original" if measured["better"] == "original" else ""
    both = f"its folder says {saved_heads(unet)} heads of attention, the original code {original_heads(unet, name)}"
    return f"{name}: {both}; `{command('doctor', '--model', name, '--data', 'DIR')}` measures which fit"


def measured_heads(model: Path) -> dict[str, Any]:
    """What `doctor` measured of a model's heads and left in its folder; empty where nothing is known."""
    file = model / MEASURED
    try:
        return dict(read_json(file)["heads"]) if file.is_file() else {}
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise InputError(file, f"cannot be read ({error!r})", "remove it") from error
