"""What a network computes, as one hash: its class, its settings and its weights."""

import hashlib
import inspect
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Settings on which no output depends: in what precision weights were stored, by what version, from what they were drawn.
SILENT = {"architectures", "dtype", "torch_dtype", "transformers_version", "initializer_factor", "initializer_range"}


def fingerprint(network: nn.Module, rounded: bool = False) -> str:
    """SHA-256 of a network's class and settings, and of the name, dtype, shape and bytes of every tensor.

    Weights alone do not say what is computed: those of attention with two heads fit attention with four. Settings at their
    default do not count, so that a release of diffusers or transformers that adds one changes no fingerprint.

    Args:
        network: The network.
        rounded: Whether weights are rounded to float16 first: a network and its copy in half precision then have one fingerprint,
            which is the copy's own.
    """
    given = network.state_dict().items()
    weights = ((name, _in_half(tensor) if rounded else tensor) for name, tensor in given)
    return _combined(network, (f"{name} {_digest(tensor)}" for name, tensor in weights))


def fingerprint_of_base(network: nn.Module) -> str:
    """The same of the base within a network of diffusers, whatever adapter stands around it.

    The fresh weights of an adapter do nothing yet and differ with the seed: left out is what trains and is not the base's. An
    adapter may have moved the base's weights to other names, so the names do not count.
    """
    with torch.device("meta"):
        own = type(network).from_config(network.config).state_dict().keys()  # type: ignore[attr-defined]  # diffusers' own
    weights = network.state_dict(keep_vars=True).items()
    return _combined(network, (_digest(weight) for name, weight in weights if name in own or not weight.requires_grad))


def _combined(network: nn.Module, weights: Iterable[str]) -> str:
    settings = json.dumps(_settings(network), sort_keys=True)
    return hashlib.sha256("\n".join([type(network).__name__, settings, *sorted(weights)]).encode()).hexdigest()


def _in_half(tensor: Tensor) -> Tensor:
    return tensor.half().to(tensor.dtype) if tensor.is_floating_point() else tensor


def _digest(tensor: Tensor) -> str:
    content = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode() + content.tobytes()).hexdigest()


def _settings(network: nn.Module) -> dict[str, Any]:
    """What a network of diffusers or transformers was made with, as far as it is not the default; of other networks nothing."""
    config = getattr(network, "config", {})
    if isinstance(config, dict):  # diffusers'
        given = config
        defaults = {name: one.default for name, one in inspect.signature(type(network).__init__).parameters.items()}
    else:
        given, defaults = config.to_dict(), type(config)().to_dict()
    counted = {name: value for name, value in given.items() if not name.startswith("_") and name not in SILENT}
    return {name: value for name, value in counted.items() if _plain(value) != _plain(defaults.get(name))}


def _plain(value: Any) -> str:
    """As JSON, in which a tuple is a list."""
    return json.dumps(value, sort_keys=True, default=str)
