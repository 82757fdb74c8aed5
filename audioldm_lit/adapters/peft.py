"""Any method of the peft package, LoRA first of all."""

from collections.abc import Sequence
from typing import Any

import peft
from peft.tuners.tuners_utils import BaseTunerLayer

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.adapters.targets import resolve
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError


class PeftAdapter(Adapter):
    """Adapt the UNet with a method of the peft package.

    Args:
        config: Name of peft's configuration class; `LoraConfig` (Hu et al. 2021, arXiv 2106.09685) also makes rsLoRA and DoRA.
        options: Arguments of that class, such as `r`, `lora_alpha`, `use_rslora`, `use_dora`.
        targets: Which layers: presets `attention`, `text_path`, `feed_forward`, `conv`, `all`, or regular expressions over
            the UNet's module names.
    """

    def __init__(
        self,
        config: str = "LoraConfig",
        options: dict[str, Any] | None = None,
        targets: Sequence[str] = ("all",),
    ) -> None:
        self.config = config
        self.options = options or {}
        self.targets = list(targets)
        if not targets:
            raise InputError("model.adapter.init_args.targets is empty; name at least one, e.g. attention.")
        self._peft_config([])  # a wrong name or option is said now, not after the data are read

    def inject(self, backbone: Backbone) -> None:
        """Wrap the target layers; only the adapter's own weights train."""
        peft_config = self._peft_config(resolve(self.targets, backbone.unet))
        try:
            peft.inject_adapter_in_model(peft_config, backbone.unet)
        except (TypeError, ValueError) as error:
            raise InputError(f"model.adapter: peft's {self.config} refuses these options and targets: {error}") from error
        backbone.unet.train(backbone.unet.training)  # new layers are born in train mode

    def merge(self, backbone: Backbone) -> None:
        """Add each layer's delta to its base weight and take the adapter's modules away."""
        for name, module in list(backbone.unet.named_modules()):
            if isinstance(module, BaseTunerLayer):
                module.merge()
                backbone.unet.set_submodule(name, module.get_base_layer())

    def _peft_config(self, names: list[str]) -> peft.PeftConfig:
        config_class = getattr(peft, self.config, None)
        if not (isinstance(config_class, type) and issubclass(config_class, peft.PeftConfig)):
            raise InputError(
                f"model.adapter.init_args.config is '{self.config}'; name a configuration class of peft, e.g. LoraConfig."
            )
        try:
            return config_class(target_modules=names, **self.options)
        except (TypeError, ValueError) as error:
            raise InputError(f"model.adapter.init_args.options do not fit peft's {self.config}: {error}") from error
