"""The one door to what peft has and does not document, each touch with its reason; `tests/test_internals.py` tries them all.

Documented are configurations, `inject_adapter_in_model`, `get_peft_model_state_dict`, `PeftModel` and `BaseTunerLayer`.
"""

from collections.abc import Mapping
from typing import Any

import peft
from peft.tuners.adalora import RankAllocator
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from torch import Tensor, nn

CONFIG_FILE, WEIGHTS_FILE = CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME  # in a folder that peft saved, which we write as it does
NAME = "default"  # of an adapter within peft's layers
# Warnings about layers that are measured here anyway.
HARMLESS = "Unsupported layer type|Failed to load the CUDA extension|Setting boft_n_butterfly_factor"
AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # what AdaLoRA's allocator remembers from step to step


def config_class(peft_type: object) -> type[peft.PeftConfig] | None:
    """The configuration class of a method as a saved configuration names it; None where the installed peft has no such method."""
    known = {str(name.value): cls for name, cls in peft.PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    return known.get(str(peft_type))


def injected_config(network: nn.Module, name: str = NAME) -> peft.PeftConfig | None:
    """The configuration that a network's adapter was injected with: peft, like diffusers, leaves it on the network."""
    return getattr(network, "peft_config", {}).get(name)


def forget_adapters(network: nn.Module) -> None:
    """Take away the mark of a network with adapters: what has been folded is an ordinary network, and is saved as one."""
    del network.peft_config


def low_rank_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """The matrices of LoRA and its relatives by their name, in which `.lora_A.`, `.lora_B.` or `.lora_E.` says which one it is."""
    return {name: weight for name, weight in network.named_parameters() if ".lora_" in name}


def down_projections(network: nn.Module) -> list[nn.Module]:
    """The layers A of LoRA: from a layer's input to its ranks."""
    return [module.get_submodule(NAME) for name, module in network.named_modules() if name.endswith(".lora_A")]


def low_rank_factors(network: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """By layer, `down` (r, inputs) and `up` (outputs, r) of what LoRA adds to its weight, up @ down, in float64."""
    found = {}
    for name, layer in network.named_modules():
        if isinstance(layer, LoraLayer):
            down, up = (part[NAME].get_parameter("weight").detach().double().flatten(1) for part in (layer.lora_A, layer.lora_B))
            found[name] = down, layer.scaling[NAME] * up
    return found


def base_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """By layer that is adapted, the base's own weight."""
    wrapped = {name: module for name, module in network.named_modules() if isinstance(module, BaseTunerLayer)}
    return {name: module.get_base_layer().get_parameter("weight") for name, module in wrapped.items()}


def fill_factors(network: nn.Module, factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """The way back: put such factors into layers of the same rank."""
    for name, (down, up) in factors.items():
        layer: Any = network.get_submodule(name)
        for part, value in ((layer.lora_A, down), (layer.lora_B, up / layer.scaling[NAME])):
            part[NAME].weight.data.copy_(value.view_as(part[NAME].weight))


def magnitudes(network: nn.Module) -> dict[str, nn.Parameter]:
    """What DoRA keeps of a layer beside those: the length of each row of its weight."""
    return {name: weight for name, weight in network.named_parameters() if ".lora_magnitude_vector." in name}


class Ranks(RankAllocator):
    """AdaLoRA's allocator, which peft keeps for its own model class and gives no way to save; `update_and_allocate` is its step."""

    def __init__(self, network: nn.Module, config: peft.AdaLoraConfig) -> None:
        super().__init__(network, config, NAME)

    @property
    def averages(self) -> dict[str, dict[str, Tensor]]:
        """Importance and its averages, by the weights' names."""
        return {key: getattr(self, key) for key in AVERAGES}

    @averages.setter
    def averages(self, values: dict[str, dict[str, Any]]) -> None:
        for key in AVERAGES:
            setattr(self, key, values[key])
