"""What a checkpoint holds beside Lightning's own: what was trained, and which base, adapter and data it belongs to."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.adapters.files.adapter_file import check_base
from audioldm_lit.backbone import SOUND_SIDE
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.errors import InputError
from audioldm_lit.training.ema import EMA
from audioldm_lit.training.encoding import encoded

KEY = "audioldm_lit"
KINDS: dict[str, Any] = {  # of what is kept under it
    "base": str,
    "adapter": dict,
    "adapter_state": object,
    "base_losses": list,
    "trained_on": dict,
    "ema": dict | None,
}
ORIGIN = "--ckpt_path"  # what messages call it


def origin_of(base: str, decoder: Mapping[str, str], trained: Iterable[str]) -> str:
    """What checkpoints belong to: the fingerprint of the base's UNet, and where weights of its decoder train, those of that too."""
    inside = any(name.partition(".")[0] in SOUND_SIDE for name in trained)
    return ", ".join([base, *(f"{part} {known}" for part, known in decoder.items() if inside)])


def trained_on(data: AudioDataModule) -> dict[str, Any]:
    """What a resumed run must find as it was: the clips of every split, how they are varied, and the order they are drawn in."""
    clips: dict[str, str] = {split: encoded(data, split).fingerprint() for split in data.datasets}
    varied = {"augmentation": data.augmentation, "phrasing": data.phrasing}
    return {**clips, **{name: part and part.fingerprint for name, part in varied.items()}, "seed": data.seed}


def content(
    base: str, adapter: Adapter, base_losses: list[float], data: dict[str, Any], ema: EMA | None, objective: dict[str, Any]
) -> dict[str, Any]:
    """What is kept under `KEY`.

    Args:
        base: What `origin_of` gave.
        adapter: The adapter.
        base_losses: The base's held-out loss by timestep, or by its other parts.
        data: What `trained_on` gave.
        ema: The moving average of the trained weights, where there is one.
        objective: Weights and state of the objective.
    """
    return {
        "base": base,
        "adapter": adapter.spec(),
        "adapter_state": adapter.state(),
        "base_losses": base_losses,
        "trained_on": data,
        "ema": ema and ema.state(),
        "objective": objective,
    }


def checked_content(checkpoint: dict[str, Any], base: str, adapter: Adapter, data: dict[str, Any] | None) -> dict[str, Any]:
    """What is kept under `KEY`, if it belongs here.

    Args:
        checkpoint: As it was read.
        base: What `origin_of` gives.
        adapter: The adapter.
        data: What `trained_on` gives; None where the data may differ, as outside `fit`.

    Raises:
        InputError: If the checkpoint is none of this project, or belongs to another base, adapter or data.
    """
    ours = checkpoint.get(KEY)
    if not (isinstance(ours, dict) and ours.keys() >= KINDS.keys() and all(isinstance(ours[name], KINDS[name]) for name in KINDS)):
        raise InputError(ORIGIN, "is no checkpoint of this project", "give one that `fit` wrote, unchanged")
    check_base(ours["base"], base, ORIGIN)
    if ours["adapter"] != adapter.spec():
        raise InputError(ORIGIN, f"was trained with {ours['adapter']}, model.adapter is {adapter.spec()}", "use the same")
    changed = [name for name, value in ours["trained_on"].items() if data is not None and value != data.get(name)]
    if changed:
        raise InputError(
            ORIGIN,
            f"was trained on other data, `{changed[0]}` differs from what `data` gives now",
            "restore it, or begin a new run",
        )
    return ours


def averaged_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights by name, with the moving average of those that train where there is one."""
    ema = checkpoint[KEY]["ema"]
    return {**checkpoint["state_dict"], **(ema["average"] if ema else {})}
