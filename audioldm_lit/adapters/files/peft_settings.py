"""Configurations that peft wrote elsewhere, and the adapter here that does the same."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

import peft

from audioldm_lit.adapters.adalora import AdaLoRA
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.peft_internals import config_class
from audioldm_lit.adapters.targets import PRESETS
from audioldm_lit.errors import InputError

# Fields that say nothing of the output; that choose the modules, which are taken from the loaded UNet instead; and that train what
# an adapter here does not hold.
BOOKKEEPING = {"auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version", "revision", "task_type"}
MODULES = {"exclude_modules", "layers_pattern", "layers_to_transform", "target_modules"}
STARTS = (False, "gaussian", "lycoris")  # random starts, which the loaded weights replace
UNSUPPORTED = {"bias", "layer_replication", "modules_to_save", "target_parameters", "trainable_token_indices"}


def adapter_for(config: peft.PeftConfig, tuned: Sequence[str], layers: Sequence[str], where: str) -> PeftAdapter:
    """The adapter that does the same.

    Args:
        config: Configuration that a library loaded.
        tuned: Modules on which it then put an adapter.
        layers: All modules that an adapter here may wrap.
        where: File, for messages.

    Raises:
        InputError: If a module is none of them, or the method is refused here.
    """
    odd = sorted(set(tuned) - set(layers))
    if odd:
        raise InputError(where, f"adapts {odd[0]}, which is no linear, convolution or normalisation layer", "merge it with peft")
    options = {
        name: value
        for name, value in _changed(config.to_dict(), type(config)).items()
        if name not in BOOKKEEPING | MODULES and not (name.startswith("init_") and value in STARTS)
    }
    presets = [
        name for name, pattern in PRESETS.items() if {layer for layer in layers if re.fullmatch(pattern, layer)} == set(tuned)
    ]
    targets = presets[:1] or [re.escape(name) for name in tuned]
    if isinstance(config, peft.AdaLoraConfig):
        return AdaLoRA(options, targets)
    return PeftAdapter(type(config).__name__, options, targets)


def check_settings(settings: Mapping[str, Any], where: str) -> None:
    """Refuse, by name, settings that would be ignored; those at the method's default do no harm.

    Args:
        settings: Content of a peft configuration file; none where a file has no settings.
        where: That file, for messages.

    Raises:
        InputError: If a setting is unknown to the installed peft or not supported here.
    """
    if not settings:
        return
    config = config_class(settings.get("peft_type"))
    if config is None:
        raise InputError(
            where, f"is of the method {settings.get('peft_type')}, which the installed peft does not know", "update peft"
        )
    known = {field.name for field in fields(config)}
    unsupported = UNSUPPORTED | ({"rank_pattern"} if issubclass(config, peft.AdaLoraConfig) else set())  # changes shapes on loading
    for name, value in _changed(settings, config).items():
        if name not in known:
            raise InputError(where, f"sets {name} to {value!r}, which the installed peft's {config.__name__} lacks", "update peft")
        if name in unsupported:
            raise InputError(where, f"sets {name} to {value!r}, which adapters here do not hold", "merge it with peft instead")


def _changed(settings: Mapping[str, Any], config: type[peft.PeftConfig]) -> dict[str, Any]:
    """Settings that differ from the method's defaults; one that the method does not know counts where it is set at all."""
    defaults = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory() for field in fields(config)
    }
    return {name: value for name, value in settings.items() if (value or defaults.get(name)) and value != defaults.get(name)}
