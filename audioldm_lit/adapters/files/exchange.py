"""Adapters in the layouts of PEFT and diffusers.

Each is read by its own project's loader, so the comparison after a conversion shows what a user of that project gets.
"""

import json
import re
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import Tensor

from audioldm_lit.adapters.base import trainable
from audioldm_lit.adapters.files.adapter_file import FORMAT, check_finite, check_origin, read_metadata, read_tensors
from audioldm_lit.adapters.files.card import About
from audioldm_lit.adapters.files.diffusers_internals import LORA_FILE, LORA_METADATA_KEY
from audioldm_lit.adapters.files.layout import LIBRARY_ERRORS, Adapted, Source, card_beside, fingerprints, first_line
from audioldm_lit.adapters.files.making import make
from audioldm_lit.adapters.files.peft_settings import adapter_for, check_settings
from audioldm_lit.adapters.peft_internals import CONFIG_FILE, NAME, WEIGHTS_FILE, injected_config
from audioldm_lit.adapters.targets import resolve
from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import Prediction, prediction_named, prediction_of
from audioldm_lit.errors import InputError
from audioldm_lit.networks.strict_loading import misfit
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.storage.plain_files import parse_json

ORIGIN = "audioldm_lit"  # metadata key under which a converted file says on what it stands


class PeftLayout(Source):
    """A layout of weights as peft names them, with peft's configuration."""

    prefix: str  # that may stand before the names

    @abstractmethod
    def file(self, path: Path) -> Path:
        """The weights."""

    @abstractmethod
    def settings(self, path: Path) -> Mapping[str, Any]:
        """The configuration; empty where none is kept."""

    @abstractmethod
    def inject(self, path: Path, backbone: Backbone) -> None:
        """Call the library's own loader."""

    def read(self, path: Path, backbone: Backbone) -> Adapted:
        """Load with the library's own loader, and insist that it took every weight."""
        file, where = self.file(path), str(path)
        weights = {name.removeprefix(self.prefix): weight for name, weight in read_tensors(file).items()}
        check_finite(weights, where)
        check_settings(self.settings(path), where)
        base, names = fingerprints(backbone), frozenset(backbone.state_dict())
        layers = resolve([".*", "norm"], backbone.unet)
        origin = _parsed(read_metadata(file).get(ORIGIN, "{}"), where)
        check_origin(origin.get("base", base[0]), origin.get("base_rounded"), backbone, where)
        try:
            self.inject(path, backbone)
            taken = peft.get_peft_model_state_dict(backbone.unet, adapter_name=NAME, save_embedding_layers=False)
        except LIBRARY_ERRORS as error:
            raise InputError(where, f"cannot be loaded on this UNet ({first_line(error)})", "check --backbone") from error
        fault = misfit(taken, weights)
        if fault:
            raise InputError(where, f"is of another UNet, {fault}", "check --backbone")
        tuned = {name: module for name, module in backbone.unet.named_modules() if isinstance(module, BaseTunerLayer)}
        for layer in tuned.values():
            layer.set_adapter(NAME)  # makes its weights trainable, which loaders of finished adapters do not
        backbone.unet.train(backbone.unet.training)  # new layers are born in train mode
        config = injected_config(backbone.unet)
        assert config is not None
        adapter = adapter_for(config, list(tuned), layers, where)
        about = About.from_json(origin["about"], where) if origin.get("about") else None
        prediction = prediction_of(backbone.scheduler)
        if "prediction" in origin:
            prediction = make(Prediction, origin["prediction"], file)
        elif "prediction_type" in origin:  # of older files
            prediction = prediction_named(origin["prediction_type"], where)
        return Adapted(backbone, adapter, *base, names, prediction, about, bool(origin), origin.get("sampling", {}))


class PeftFolder(PeftLayout):
    """`adapter_config.json` and `adapter_model.safetensors`, for `peft.PeftModel.from_pretrained(unet, folder)`."""

    prefix = "base_model.model."

    def holds(self, path: Path) -> bool:
        """Whether the folder has a peft configuration."""
        return (path / CONFIG_FILE).is_file()

    def file(self, path: Path) -> Path:
        """The weights; pickled ones, which may hold a program, are refused."""
        file = path / WEIGHTS_FILE
        if not file.is_file():
            raise InputError(file, "no such file", "save the adapter as safetensors, pickled weights are not read")
        return file

    def settings(self, path: Path) -> Mapping[str, Any]:
        """Content of `adapter_config.json`."""
        return _parsed((path / CONFIG_FILE).read_bytes(), str(path / CONFIG_FILE))

    def inject(self, path: Path, backbone: Backbone) -> None:
        """Load with peft."""
        peft.PeftModel.from_pretrained(backbone.unet, path, adapter_name=NAME, torch_device=str(backbone.device))

    def write(self, path: Path, adapted: Adapted) -> None:
        """Write what peft's own `save_pretrained` does, and which base it belongs to."""
        settings, weights = _peft_state(adapted)
        path.mkdir()
        write_json(path / CONFIG_FILE, dict(sorted(settings.items())))
        named = {self.prefix + name: weight for name, weight in weights.items()}
        save_file(named, path / WEIGHTS_FILE, {"format": "pt", ORIGIN: _origin(adapted)})
        card_beside(path, adapted)


class DiffusersFolder(PeftLayout):
    """`pytorch_lora_weights.safetensors`, for `unet.load_lora_adapter(folder, prefix=None, use_safetensors=True)`."""

    prefix = "unet."  # of files saved from a pipeline
    methods = ("LoraConfig", "LoKrConfig")  # that its loader can set up

    def holds(self, path: Path) -> bool:
        """Whether it is such a folder, or a safetensors file that is not of this project."""
        file = self.file(path)
        return file.is_file() and file.suffix == ".safetensors" and read_metadata(file).get("format") != FORMAT

    def file(self, path: Path) -> Path:
        """The file itself, or the one in the folder."""
        return path / LORA_FILE if path.is_dir() else path

    def settings(self, path: Path) -> Mapping[str, Any]:
        """The configuration in the file's metadata, which older files lack; diffusers then goes by names and shapes."""
        kept = _parsed(read_metadata(self.file(path)).get(LORA_METADATA_KEY, "{}"), str(path))
        return {name.removeprefix(self.prefix): value for name, value in kept.items()}

    def inject(self, path: Path, backbone: Backbone) -> None:
        """Load with diffusers."""
        file = self.file(path)
        names = read_tensors(file)
        odd = [
            name for name in names if not re.fullmatch(r"(?!base_model\.).*\.(lora_(A|B|magnitude_vector)|lokr_\w+)(\..*)?", name)
        ]
        if odd:  # diffusers would translate some other names, and leave out their scales
            raise InputError(
                file,
                f"'{odd[0]}' is no name that diffusers gives",
                "save it with unet.save_lora_adapter, or give the folder of a PEFT adapter",
            )
        prefix = self.prefix[:-1] if all(name.startswith(self.prefix) for name in names) else None
        backbone.unet.load_lora_adapter(str(file.parent), weight_name=file.name, prefix=prefix, adapter_name=NAME)

    def write(self, path: Path, adapted: Adapted) -> None:
        """Write what diffusers' own `save_lora_adapter` does, and which base it belongs to."""
        settings, weights = _peft_state(adapted)
        method = type(injected_config(adapted.backbone.unet)).__name__
        if method not in self.methods:
            raise InputError(
                "--to diffusers",
                f"its loader knows {' and '.join(self.methods)}, this adapter is of peft's {method}",
                "use --to peft or --to merged",
            )
        path.mkdir()
        metadata = {"format": "pt", LORA_METADATA_KEY: json.dumps(settings), ORIGIN: _origin(adapted)}
        save_file(weights, path / LORA_FILE, metadata)
        card_beside(path, adapted)


def _peft_state(adapted: Adapted) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights of an adapter as peft saves them."""
    unet = adapted.backbone.unet
    config = injected_config(unet)
    if not adapted.prediction.word:
        raise InputError(
            "--to", f"the adapter predicts {adapted.prediction}, which diffusers does not know", "keep the adapter file"
        )
    if config is None:
        raise InputError(
            "--to", f"{type(adapted.adapter).__name__} is no method of peft, which both layouts are made for", "use --to merged"
        )
    settings = {name: sorted(value) if isinstance(value, set) else value for name, value in config.to_dict().items()}
    outside = [name for name in trainable(adapted.backbone) if not name.startswith("unet.")]
    if outside:
        problem = f"the adapter has {len(outside)} weights outside of the UNet, such as {outside[0]}, for which both have no place"
        raise InputError("--to", problem, "use --to merged, or keep the adapter file")
    weights = peft.get_peft_model_state_dict(unet, adapter_name=NAME, save_embedding_layers=False)
    return settings | {"inference_mode": True}, {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}


def _origin(adapted: Adapted) -> str:
    about = adapted.about and adapted.about.to_json()
    bases = {"base": adapted.base, "base_rounded": adapted.rounded}
    return json.dumps({**bases, "prediction": adapted.prediction.spec(), "sampling": adapted.sampling, "about": about})


def _parsed(text: str | bytes, where: str) -> dict[str, Any]:
    try:
        return dict(parse_json(text))
    except (TypeError, ValueError) as error:
        raise InputError(where, f"its configuration cannot be read ({error})", "save the adapter again") from error
