"""A model as Lightning's users load one: from its checkpoint alone, without a trainer."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from lightning import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from audioldm_lit.errors import InputError
from audioldm_lit.inference.generation import Generation, generate_clips
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.storage.names import expanded
from audioldm_lit.storage.spec import class_path, init_args
from audioldm_lit.training.checkpoint import KEY
from audioldm_lit.training.checkpoint_file import read_checkpoint
from audioldm_lit.training.lightning_internals import attached
from audioldm_lit.training.optimization import ObjectiveTraining

OBJECTS = ("objective", "conditioning", "sampler")  # settings that are kept by class and arguments
VALUES = ("heads", "warmup_steps", "val_timesteps", "seed")


class Restorable(LightningModule):
    """A module whose checkpoints hold its hyper-parameters, as plain data, and that generates without a trainer."""

    adapter: Any
    backbone: Any
    ema: Any
    objective: Any
    objective_training: ObjectiveTraining
    sampler: Any
    unconditional: Tensor

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, map_location: Any = None, **settings: Any) -> Self:  # type: ignore[override]
        """Make the module of a checkpoint again, with the averaged weights where there are any, in eval mode.

        The objective has its weights and buffers back, but for what only its `prepare` makes, which a training calls.

        Args:
            checkpoint_path: A file that `fit` wrote.
            map_location: Device; the CPU where not given.
            **settings: Arguments of the class that replace those of the checkpoint, such as `sampler`, or `backbone` where the base
                lies elsewhere now.

        Raises:
            InputError: If it is no checkpoint of this project, belongs to another base, or needs a class that is not imported.
        """
        path = expanded(checkpoint_path)
        checkpoint = read_checkpoint(path)
        known = dict(checkpoint.get(cls.CHECKPOINT_HYPER_PARAMS_KEY) or {})
        if not known:
            raise InputError(path, "is of a version that kept no hyper-parameters", "load its adapter.safetensors instead")
        known["adapter"] = checkpoint[KEY]["adapter"]
        kept = {name: value for name, value in known.items() if name not in settings}
        module = cls(**{name: _made(value, path) for name, value in kept.items()}, **settings)
        module.on_load_checkpoint(checkpoint)
        if "objective" not in settings:
            module.objective_training.restore_weights(checkpoint[KEY].get("objective"), str(path))
        return module.to(map_location or "cpu").eval()

    @torch.no_grad()
    def read(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings (B, D) of prompts, as the adapter reads them."""
        embeds: Tensor = self.adapter.prompt_embeds(self.backbone, prompts, self.backbone.encode_text(prompts))
        return embeds

    @torch.no_grad()
    def generate_from(self, prompts: str | Sequence[str], seconds: float | None = None) -> Tensor:
        """Generate a waveform (B, T) for each prompt, with the module's seed and sampler.

        Args:
            prompts: What to hear.
            seconds: Length, any; that of the data of a running trainer, or else the model's own, where not given.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        cond = self.read(texts)
        samples = round((seconds or self.backbone.window) * self.backbone.sample_rate)
        window = self.backbone.latent_shape(round(self.backbone.window * self.backbone.sample_rate))[1]
        generation = Generation(self.backbone, self.sampler, self.unconditional, samples, self.objective.prediction, window=window)
        return torch.stack([waveform for _, waveform in generate_clips(generation, self.entries(texts, texts), cond)])

    def entries(self, ids: Sequence[str], prompts: Sequence[str]) -> list[Entry]:
        """What is generated for prompts with this module's seed."""
        return [Entry(name, prompt, self.hparams["seed"], 0) for name, prompt in zip(ids, prompts, strict=True)]


def hyper_parameters(module: Restorable) -> dict[str, Any]:
    """What a module is made of besides its adapter, as plain data; optimizer, metrics and folders are a run's.

    Raises:
        InputError: If an object does not keep its arguments, so that no checkpoint could make it again.
    """
    objects = {name: _plain(getattr(module, name), f"model.{name}") for name in OBJECTS}
    ema = {"ema_decay": module.ema.decay if module.ema else None}
    return {"backbone": str(module.backbone_name), **{name: getattr(module, name) for name in VALUES}, **ema, **objects}


def fitting(module: LightningModule) -> bool:
    """Whether a trainer fits a module just now."""
    trainer = attached(module)
    return trainer is not None and trainer.state.fn == TrainerFn.FITTING


def _plain(value: Any, where: str) -> Any:
    """A setting as plain data: objects by class and arguments; `where` is its key."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, where) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, where) for inner in value]
    try:
        return {"class_path": class_path(value), "init_args": _plain(init_args(value, where=where), where)}
    except ValueError:  # of built-in classes, whose arguments cannot be read
        return {"class_path": class_path(value)}


def _made(value: Any, path: Path) -> Any:
    """What `_plain` wrote down, made again; a file is no reason to import somebody else's code."""
    if isinstance(value, list):
        return [_made(inner, path) for inner in value]
    if not isinstance(value, Mapping) or "class_path" not in value:
        return value
    named = str(value["class_path"])
    module, _, name = named.rpartition(".")
    if module not in sys.modules and not module.startswith("audioldm_lit."):
        raise InputError(path, f"needs {named}, a class of somebody else's", f"import {module} first, if you know where it is from")
    try:
        settings = {key: _made(inner, path) for key, inner in value["init_args"].items()}
        return getattr(importlib.import_module(module), name)(**settings)
    except (ImportError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            path, f"cannot make {named} again ({error!r})", "give the object itself to load_from_checkpoint"
        ) from error
