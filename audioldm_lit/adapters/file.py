"""An adapter as one safetensors file that says how it was made and on what it stands."""

import importlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from audioldm_lit import __version__
from audioldm_lit.adapters.base import Adapter, trainable
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError
from audioldm_lit.folders import whole


def save_adapter(path: Path, adapter: Adapter, weights: dict[str, Tensor], base: str, prediction_type: str) -> None:
    """Write an adapter's weights.

    Args:
        path: File to write; it appears whole or not at all.
        adapter: How to inject.
        weights: Trained weights by their name in the backbone.
        base: Fingerprint of the UNet before injection.
        prediction_type: What the adapted UNet predicts.
    """
    metadata = {
        "format": "audioldm_lit.adapter/1",
        "adapter": json.dumps(adapter.spec()),
        "base": base,
        "prediction_type": prediction_type,
        "version": __version__,
    }
    with whole(path) as unfinished:
        unfinished.write_bytes(save({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, metadata))


def load_adapter(path: Path, backbone: Backbone) -> tuple[Adapter, str]:
    """Inject an adapter from its file into a freshly loaded backbone.

    Returns:
        The adapter, and what the adapted UNet predicts (`epsilon` or `v_prediction`).

    Raises:
        InputError: If the file is none of ours, stands on another base, or does not hold exactly the weights it should.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as an adapter ({error}); give the adapter.safetensors of a run.") from error
    if metadata.get("format") != "audioldm_lit.adapter/1":
        raise InputError(f"{path}: is no adapter of this project; give the adapter.safetensors of a run.")
    check_base(metadata["base"], backbone.fingerprint("unet"), str(path))
    spec = json.loads(metadata["adapter"])
    adapter = _make(spec["class_path"], path)(**spec["init_args"])
    adapter.inject(backbone)
    load_weights(backbone, weights, str(path))
    return adapter, metadata["prediction_type"]


def check_base(expected: str, actual: str, origin: str) -> None:
    """Refuse weights that were trained on another UNet."""
    if expected != actual:
        raise InputError(f"{origin}: was trained on the base with UNet {expected}, this one is {actual}; load the same base model.")


def load_weights(backbone: Backbone, weights: dict[str, Tensor], origin: str) -> None:
    """Copy weights into the injected adapter; every trainable weight must be there, and nothing else."""
    own = trainable(backbone)
    missing, unexpected = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or unexpected:
        raise InputError(
            f"{origin}: is of another adapter: {len(missing)} weights are missing {missing[:2]} and {len(unexpected)} are "
            f"unexpected {unexpected[:2]}; use the adapter settings it was trained with."
        )
    for name, weight in own.items():
        if weight.shape != weights[name].shape:
            raise InputError(
                f"{origin}: weight {name} is {tuple(weights[name].shape)}, this adapter's is {tuple(weight.shape)}; "
                "use the adapter settings it was trained with."
            )
        weight.data.copy_(weights[name])


def _make(class_path: str, path: Path) -> type[Adapter]:
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: needs the adapter class {class_path}, which cannot be imported; put its file beside.") from error
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise InputError(f"{path}: names {class_path}, which is no Adapter; the file is damaged.")
    return found
