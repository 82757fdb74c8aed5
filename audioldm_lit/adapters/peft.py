"""Any method of the peft package, LoRA first of all."""

import copy
import re
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.adapters.peft_internals import HARMLESS, fill_factors, forget_adapters, low_rank_factors, magnitudes
from audioldm_lit.adapters.resizing import Factors, Lost, lower, nearest
from audioldm_lit.adapters.targets import resolve
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError

TOLERANCE = 1e-4  # of a layer's largest output: methods that are right stay below 3e-6 in float32
PEFT_ERRORS = (TypeError, ValueError, KeyError, AttributeError, RuntimeError)  # how peft says no


class Refusal(NamedTuple):
    """A setting that peft accepts, or refuses without saying why, and that trying it on a layer does not reveal as wrong.

    Attributes:
        config: Regular expression over the configuration class.
        option: One of that class's options; empty where the class is wrong whatever its options.
        value: Regular expression over the option's value; an option that is not given reads `None`.
        layers: Kind of layer it goes wrong on.
        problem: What is wrong.
        mend: What to do about it.
    """

    config: str
    option: str
    value: str
    layers: type[nn.Module]
    problem: str
    mend: str


SHARED = "VeraConfig|PveraConfig|VBLoRAConfig|UniLoraConfig|TinyLoraConfig|FrodConfig"
ANY = nn.Module  # whatever the layer
REFUSALS = (
    Refusal("AdaLoraConfig", "", ".*", ANY, "needs its ranks allocated", "use class_path audioldm_lit.adapters.adalora.AdaLoRA"),
    Refusal(SHARED, "", ".*", ANY, "shares weights between layers, which peft cannot inject here", "choose another method"),
    Refusal("IA3Config", "feedforward_modules", "None", ANY, "needs the layers to scale at their input", r"give '.*\.ff\.net\.2'"),
    Refusal("LoraConfig", "init_lora_weights", "pissa|olora|orthogonal|mica", nn.Conv2d, "is for linear layers", "target those"),
    Refusal("LoraConfig", "init_lora_weights", "pissa_niter.*", ANY, "is random, the adapter file cannot repeat it", "use pissa"),
    Refusal("LoraConfig", "init_lora_weights", "eva|lora_ga", ANY, "is an ordinary start unless peft sees data", "leave it out"),
    Refusal("BOFTConfig", "boft_n_butterfly_factor", "(?!None|1$).*", ANY, "is 1 without peft's CUDA build", "take 1 everywhere"),
    Refusal(".*", "modules_to_save", "(?!None).*", ANY, "leaves copies that cannot be merged", "name these layers in targets"),
)  # fmt: skip


class PeftAdapter(Adapter):
    """Adapt the UNet with a method of the peft package.

    Whatever the method, every target must be wrapped and train, must start as the base, and must merge: this is tried on each
    kind of layer, because several methods of peft fail on some.

    Args:
        config: Name of peft's configuration class; `LoraConfig` (Hu et al. 2021, arXiv 2106.09685) also makes rsLoRA and DoRA.
        options: Arguments of that class, such as `r`, `lora_alpha`, `use_rslora`, `use_dora`.
        targets: Which layers: presets `attention`, `text_path`, `feed_forward`, `conv`, `all` (these four), `norm`, or regular
            expressions over the UNet's module names.
    """

    refusals: ClassVar[Sequence[Refusal]] = REFUSALS

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
            raise InputError("model.adapter.init_args.targets", "is empty", "name at least one, e.g. attention")
        self._peft_config([])  # a wrong name or option is said now, not after the data are read

    @torch.no_grad()
    def inject(self, backbone: Backbone) -> None:
        """Wrap the target layers; only the adapter's own weights train.

        Raises:
            InputError: If the method does not fit the layers.
        """
        unet = backbone.unet
        layers = {name: unet.get_submodule(name) for name in self.layers(unet)}
        self._refuse(layers)
        before = {name: layer(_example(layer)) for name, layer in layers.items()}  # some methods change the base's weights
        self.wrap(unet)
        measured = set()
        for name, output in before.items():
            layer = unet.get_submodule(name)
            kind = (type(layer), *((part, weight.shape, weight.requires_grad) for part, weight in layer.named_parameters()))
            fault = None if kind in measured else _fault(layer, output)
            if fault:
                raise InputError(
                    "model.adapter",
                    f"peft's {self.config} with {self.options} on {name} {fault}",
                    "leave such layers out of targets, or change the options",
                )
            measured.add(kind)

    def layers(self, unet: nn.Module) -> list[str]:
        """Names of the target layers."""
        return resolve(self.targets, unet)

    def options_of(self, layers: Sequence[str]) -> dict[str, Any]:
        """Options by which peft wraps layers."""
        return self.options

    def wrap(self, unet: nn.Module) -> None:
        """Wrap them, untried."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", HARMLESS)
                peft.inject_adapter_in_model(self._peft_config(self.layers(unet)), unet)
        except PEFT_ERRORS as error:
            problem = f"peft's {self.config} refuses these options and targets ({_sentence(error)})"
            raise InputError("model.adapter", problem, "change them") from error
        unet.train(unet.training)  # new layers are born in train mode

    def merge(self, backbone: Backbone) -> None:
        """Add each layer's delta to its base weight and take the adapter's modules away."""
        for module in backbone.unet.modules():
            if isinstance(module, BaseTunerLayer):
                module.merge()
        self.take_away(backbone)

    def take_away(self, backbone: Backbone) -> None:
        """Leave the base's own modules, frozen, with the weights that they have now."""
        for name, module in list(backbone.unet.named_modules()):
            if isinstance(module, BaseTunerLayer):
                backbone.unet.set_submodule(name, module.get_base_layer())
        forget_adapters(backbone.unet)
        backbone.unet.requires_grad_(False)

    def cut(self, factors: Factors, rank: int) -> Factors:
        """How `resize` lowers the rank of a layer's update."""
        return nearest(factors, rank)

    @torch.no_grad()
    def resize(self, backbone: Backbone, rank: int) -> tuple[Adapter, dict[str, Lost]]:
        """Of LoRA, rsLoRA and DoRA, whose magnitudes stay: another in its place, see `Adapter`."""
        if not issubclass(getattr(peft, self.config), peft.LoraConfig) or issubclass(
            getattr(peft, self.config), peft.AdaLoraConfig
        ):
            return super().resize(backbone, rank)
        made, lost = lower(low_rank_factors(backbone.unet), rank, self.cut)
        lengths = {name: weight.clone() for name, weight in magnitudes(backbone.unet).items()}
        self.take_away(backbone)
        whole = made.keys() == set(resolve(self.targets, backbone.unet))
        targets = self.targets if whole else [re.escape(name) for name in made]
        lower_ranks = {re.escape(name): len(down) for name, (down, _) in made.items() if len(down) < rank}
        scales = {"lora_alpha": rank, "rank_pattern": lower_ranks, "alpha_pattern": lower_ranks}  # all of them 1
        smaller = PeftAdapter(options={"r": rank, **scales, "use_dora": bool(lengths)}, targets=targets)
        smaller.inject(backbone)
        fill_factors(backbone.unet, made)
        for name, weight in magnitudes(backbone.unet).items():
            weight.copy_(lengths[name])
        return smaller, lost

    def _peft_config(self, names: list[str]) -> peft.PeftConfig:
        config_class = getattr(peft, self.config, None)
        if not (isinstance(config_class, type) and issubclass(config_class, peft.PeftConfig)):
            raise InputError(
                "model.adapter.init_args.config", f"is '{self.config}'", "name a configuration class of peft, e.g. LoraConfig"
            )
        try:
            return config_class(**{"target_modules": names, **self.options_of(names)})
        except (TypeError, ValueError) as error:
            problem = f"do not fit peft's {self.config} ({_sentence(error)})"
            raise InputError("model.adapter.init_args.options", problem, "give arguments that it has") from error

    def _refuse(self, layers: dict[str, nn.Module]) -> None:
        for refusal in self.refusals:
            value = str(self.options.get(refusal.option))
            hit = next((name for name, layer in layers.items() if isinstance(layer, refusal.layers)), None)
            if hit and re.fullmatch(refusal.config, self.config) and re.fullmatch(refusal.value, value):
                setting = f" with {refusal.option}: {value}" * bool(refusal.option)
                raise InputError("model.adapter", f"peft's {self.config}{setting} on {hit} {refusal.problem}", refusal.mend)


def _example(layer: nn.Module) -> Tensor:
    """Two random inputs, the same each time, for a linear (2, C), convolution (2, C, 8, 8) or normalisation layer (2, C)."""
    weight = layer.get_parameter("weight")
    channels = weight.shape[0] if weight.ndim == 1 else weight.shape[1]
    size = (8, 8) if weight.ndim == 4 else ()
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0)).to(weight)


def _fault(layer: nn.Module, before: Tensor) -> str | None:
    """What is wrong with a wrapped layer, if anything, given the base layer's output on its example."""
    if not isinstance(layer, BaseTunerLayer):
        return "is skipped"
    trial = copy.deepcopy(layer).eval()  # without dropout
    weights = [weight for weight in trial.parameters() if weight.requires_grad]
    if not weights:
        return "has nothing to train"
    example = _example(trial.get_base_layer())
    try:
        if not _error(trial(example), before) <= TOLERANCE:  # also where it is no number
            return "does not start as the base (for some methods `init_weights: true` does)"
        generator = torch.Generator().manual_seed(1)
        for weight in weights:
            weight.add_(0.02 * torch.randn(weight.shape, generator=generator).to(weight))
        moved = trial(example)
        trial.merge()
        error = _error(trial.get_base_layer()(example), moved)
    except PEFT_ERRORS as refused:
        return f"cannot be used and merged ({_sentence(refused)})"
    return None if error <= TOLERANCE else f"cannot be merged exactly (error {error:.0e})"


def _error(output: Tensor, expected: Tensor) -> float:
    return float((output - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())
