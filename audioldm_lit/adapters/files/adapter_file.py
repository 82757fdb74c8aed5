"""An adapter as one safetensors file that says how it was made, which base it belongs to, and how it is sampled."""

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from audioldm_lit import __version__
from audioldm_lit.adapters.base import Adapter, inject, trainable
from audioldm_lit.adapters.files.bounds import bounded, check_sizes
from audioldm_lit.adapters.files.card import About
from audioldm_lit.adapters.files.making import SETTINGS_ERRORS, make
from audioldm_lit.backbone import SOUND_SIDE, Backbone
from audioldm_lit.console.command import command
from audioldm_lit.diffusion import Prediction, prediction_named
from audioldm_lit.errors import InputError
from audioldm_lit.networks.strict_loading import load_strictly
from audioldm_lit.storage.atomic_write import atomic_write
from audioldm_lit.storage.paths import accepts_strings
from audioldm_lit.storage.plain_files import parse_json

FORMAT = "audioldm_lit.adapter/1"
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)  # that weights may be stored in


def save_adapter(
    path: Path,
    adapter: Adapter,
    weights: Mapping[str, Tensor],
    base: str,
    prediction: Prediction,
    about: About | None = None,
    rounded: str | None = None,
    sampling: Mapping[str, Any] | None = None,
    decoder: Mapping[str, str] | None = None,
) -> None:
    """Write an adapter's weights.

    Args:
        path: File to write; it appears whole or not at all.
        adapter: How to inject.
        weights: Trained weights by their name in the backbone.
        base: Fingerprint of the UNet before injection.
        prediction: What the adapted UNet predicts.
        about: What the run was, where it is known.
        rounded: Fingerprint of that UNet's weights rounded to float16; without it, a copy of the base in half precision is refused.
        sampling: Settings of the `Sampler` that the adapter was made for, where it was made for one.
        decoder: What `decoder_origin` gave before injection, where the adapter works on the decoder.
    """
    metadata = {
        "format": FORMAT,
        "adapter": json.dumps(adapter.spec()),
        "base": base,
        "prediction": json.dumps(prediction.spec()),
        "version": __version__,
    }
    if about is not None:
        metadata["about"] = about.to_json()
    if rounded is not None:
        metadata["base_rounded"] = rounded
    if sampling:
        metadata["sampling"] = json.dumps(sampling)
    if decoder:
        metadata["decoder"] = json.dumps(decoder)
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(save({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, metadata))


@accepts_strings
def load_adapter(path: Path, backbone: Backbone) -> tuple[Adapter, Prediction]:
    """Inject an adapter from its file into a freshly loaded backbone.

    Returns:
        The adapter, and what the adapted UNet predicts.

    Raises:
        InputError: If the file is not one of ours, belongs to another base, or does not hold exactly the weights it should.
    """
    metadata = read_metadata(path)
    if metadata.get("format") != FORMAT:
        raise InputError(path, "is no adapter of this project", ours_of(path))
    try:
        base, spec, predicts = metadata["base"], parse_json(metadata["adapter"]), parse_json(metadata.get("prediction", "null"))
        older = metadata["prediction_type"] if predicts is None else ""
        decoder = dict(parse_json(metadata.get("decoder", "{}")))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, f"does not say how it was made ({error})", "fetch the file again") from error
    prediction = prediction_named(older, str(path)) if predicts is None else make(Prediction, predicts, path)
    check_origin(base, metadata.get("base_rounded"), backbone, str(path))
    check_decoder(decoder, backbone, str(path))
    weights = read_tensors(path)
    with bounded(path, weights, backbone):
        check_sizes({"adapter": spec, "prediction": predicts}, weights, path)
        adapter = make(Adapter, spec, path)
        try:
            added = inject(adapter, backbone)
            prediction.scheduler(backbone.scheduler)  # which makes one as it says
        except InputError as error:
            raise InputError(path, f"does not fit this model: {error.problem}", "fetch the file again") from error
        except SETTINGS_ERRORS as error:
            raise InputError(path, f"has settings that cannot be ({error!r})", "fetch the file again, it is damaged") from error
    load_weights(backbone, weights, str(path), added)
    return adapter, prediction


def trust(modules: Sequence[str]) -> None:
    """Import modules of adapter classes that are not this project's; adapter files may name them from now on.

    Raises:
        InputError: If one cannot be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                "--trust", f"{module} cannot be imported ({error})", "name the module with your adapter class"
            ) from error


def read_about(path: Path) -> About | None:
    """What an adapter file says of its run; None in files of the first versions."""
    metadata = read_metadata(path)
    return About.from_json(metadata["about"], str(path)) if "about" in metadata else None


def read_sampling(path: Path) -> dict[str, Any]:
    """Settings of the `Sampler` that an adapter file asks for; empty where it asks for none."""
    try:
        return dict(parse_json(read_metadata(path).get("sampling", "{}")))
    except (TypeError, ValueError) as error:
        raise InputError(path, f"does not say how it is sampled ({error})", "fetch the file again") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file; an `InputError` says if it is none."""
    with _opened(path) as file:
        return file.metadata() or {}


def read_parts(path: Path) -> frozenset[str]:
    """Parts of a backbone that a file has weights for, such as `unet` or `vocoder`."""
    with _opened(path) as file:
        return frozenset(name.partition(".")[0] for name in file.keys())  # noqa: SIM118  (not a dict)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file; an `InputError` says if it is none."""
    with _opened(path) as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    for name, weight in weights.items():
        if weight.dtype not in FLOATS:
            known = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATS)
            raise InputError(path, f"weight {name} is {str(weight.dtype).removeprefix('torch.')}", f"save it as one of {known}")
    return weights


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise InputError(path, f"cannot be read as an adapter ({error})", "give the adapter.safetensors of a run") from error


def check_origin(base: str, rounded: str | None, backbone: Backbone, origin: str) -> None:
    """Refuse weights that were trained on another UNet than a backbone's; one whose weights agree in float16 is no other.

    Args:
        base: Fingerprint of the UNet they were trained on.
        rounded: Fingerprint of its weights rounded to float16, where it is known.
        backbone: The backbone, without an adapter.
        origin: What an error names.
    """
    actual = backbone.fingerprint("unet")
    if base != actual and backbone.fingerprint("unet", rounded=True) not in (base, rounded):
        check_base(base, actual, origin)


def ours_of(source: Path) -> str:
    """How to mend that what was given is no file of ours; it may be an adapter that PEFT or diffusers saved."""
    converting = command("convert", "--source", source, "--to", "adapter", "--out", "FILE.safetensors")
    return f"give the adapter.safetensors of a run, or make such a file of an adapter of others: {converting}"


def check_base(expected: str, actual: str, origin: str) -> None:
    """Refuse weights that were trained on another UNet."""
    if expected != actual:
        raise InputError(
            origin,
            f"was trained on the base with UNet {expected}, this one is {actual}",
            "load the same base, with the same heads: --backbone and --heads, in fit --model.backbone and --model.heads",
        )


def decoder_origin(backbone: Backbone) -> dict[str, str]:
    """Fingerprints of VAE and vocoder, whose weights are rounded to float16: a model and its copy in half precision are no two."""
    return {part: backbone.fingerprint(part, rounded=True) for part in SOUND_SIDE}


def check_decoder(expected: Mapping[str, str], backbone: Backbone, origin: str) -> None:
    """Refuse weights that were trained on another decoder than a backbone's.

    Args:
        expected: What `decoder_origin` gave of the base; empty where the decoder was not trained.
        backbone: The backbone, without an adapter.
        origin: What an error names.
    """
    actual = decoder_origin(backbone) if expected else {}
    for part, known in actual.items():
        if expected.get(part) != known:
            problem = f"was trained on the {part} {expected.get(part)}, this base's is {known}"
            raise InputError(origin, problem, "load the same base")


def load_weights(backbone: Backbone, weights: Mapping[str, Tensor], origin: str, added: Iterable[str] = ()) -> None:
    """Copy weights into the injected adapter: exactly its trainable weights, and any that it has `added` frozen; all finite."""
    check_finite(weights, origin)
    held = backbone.state_dict(keep_vars=True)
    frozen = {name: held[name] for name in weights.keys() & set(added)}
    try:
        load_strictly({**trainable(backbone), **frozen}, weights)
    except ValueError as error:
        raise InputError(origin, f"is of another adapter, {error}", "use the adapter settings it was trained with") from error


def check_finite(weights: Mapping[str, Tensor], origin: str) -> None:
    """Refuse weights that are not finite, as after a training that diverged."""
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise InputError(origin, f"weight {name} holds NaN or infinity", "take an earlier checkpoint, or train at a lower rate")
