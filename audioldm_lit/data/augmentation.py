"""Augmentation of training clips, as a pure function of clip, partner and key.

The transforms are audiomentations' own, named in YAML; this module makes them repeatable and gives them a fingerprint for
the cache. Letters in shapes: T samples.
"""

import hashlib
import json
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from audiomentations.core.transforms_interface import BaseWaveformTransform
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.data.mixing import Mix
from audioldm_lit.errors import InputError
from audioldm_lit.storage.spec import class_path, init_args

KEY = "data.init_args.augmentation.init_args"
FORMAT = "augmentation/1"  # what this file itself does to a clip
LIBRARIES = ("audiomentations", "python-stretch")  # the second is the first's engine for pitch and time
MEMORY_ONLY = {"lru_cache_size"}  # parameters that no sample depends on

_LOCK = threading.Lock()  # the library draws from global generators, so one clip at a time


class Augmentation:
    """Variants of every training clip, made and encoded once; validation and test clips are never touched.

    Clips come at peak 0.5 and are not normalised again: a gain changes the level that the model learns.

    Args:
        variants: Variants per clip beside the original.
        transforms: Transforms of the audiomentations library, by class path, applied in order after mixing. A result of another
            length is cut or padded with zeros at its end; one beyond peak 1 is scaled down to it.
        mix: Mixing with another training clip; null for none.
    """

    def __init__(self, variants: int = 4, transforms: Sequence[BaseWaveformTransform] = (), mix: Mix | None = None) -> None:
        if variants < 1:
            raise InputError(f"{KEY}.variants", f"is {variants}", "give at least 1, or leave the augmentation out")
        if not transforms and mix is None:
            raise InputError(f"{KEY}.transforms", "is empty and mix is null", "give one of them, or leave the augmentation out")
        self.variants = variants
        self.transforms = tuple(transforms)
        self.mix = mix
        parts = [FORMAT, [version(name) for name in LIBRARIES], _content(list(transforms)), mix and vars(mix)]
        self.fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        """Of everything a variant depends on beside clip, partner and key; the same in every process."""

    def partners(self, key: Sequence[object]) -> bool:
        """Whether the variant is a mixture, so that its partner must be read."""
        return self.mix is not None and self.mix.level(seeding.generator(*key, "mix")) is not None

    def caption(self, caption: str, partner: str, key: Sequence[object]) -> str:
        """Caption of a variant, without making it."""
        return self.mix.caption(caption, partner) if self.mix and self.partners(key) else caption

    def __call__(
        self, waveform: Tensor, caption: str, partner: tuple[Tensor, str], sample_rate: int, key: Sequence[object]
    ) -> tuple[Tensor, str]:
        """Make one variant.

        Args:
            waveform: The clip (T,), peak 0.5.
            caption: Its caption.
            partner: Another clip (T,) and its caption, used where the variant is a mixture.
            sample_rate: Hz.
            key: What the variant's random numbers belong to, such as (seed, clip id, number of the variant).

        Returns:
            Waveform (T,) float32 with peak at most 1, and caption.

        Raises:
            InputError: If a transform gives samples that are not finite, or draws random numbers of its own, so that the variant
                could not be made again.
        """
        if self.mix is not None:
            waveform, caption = self.mix((waveform, caption), partner, sample_rate, seeding.generator(*key, "mix"))
        for place, transform in enumerate(self.transforms):
            seed = seeding.number(*key, "transform", place)
            once, again = (_transformed(transform, waveform, sample_rate, seed) for _ in range(2))
            name = type(transform).__name__
            if not once.isfinite().all():
                raise InputError(
                    f"{KEY}.transforms[{place}]", f"{name} gives samples that are not finite", "make its settings milder"
                )
            # Twice, as it costs milliseconds once a variant: python-stretch draws from the system below half speed.
            if not torch.equal(once, again):
                raise InputError(f"{KEY}.transforms[{place}]", f"{name} cannot be repeated with these settings", "make them milder")
            waveform = F.pad(once, (0, len(waveform) - len(once)))  # also cuts
        return waveform / waveform.abs().max().clamp(min=1.0), caption


def _transformed(transform: BaseWaveformTransform, waveform: Tensor, sample_rate: int, seed: int) -> Tensor:
    with _global_random_state(seed):
        samples = transform(waveform.numpy().copy(), sample_rate)  # some transforms write into what they get
    return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))


@contextmanager
def _global_random_state(seed: int) -> Iterator[None]:
    """Seed the generators the library draws from, and put them back as they were."""
    with _LOCK:
        before = random.getstate(), np.random.get_state()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def _content(value: Any, path: bool = False) -> Any:
    """A parameter's value as JSON, without memory addresses; for a path, the bytes of the file."""
    if isinstance(value, list | tuple):
        return [_content(item, path) for item in value]
    if isinstance(value, BaseWaveformTransform):
        settings = init_args(value, MEMORY_ONLY, f"{KEY}.transforms")
        return [class_path(value), {name: _content(setting, name.endswith("path")) for name, setting in settings.items()}]
    if isinstance(value, Path) or path:
        files = sorted(file for file in (Path(value), *Path(value).rglob("*")) if file.is_file())
        return [str(value), [[str(file), hashlib.sha256(file.read_bytes()).hexdigest()] for file in files]]
    if isinstance(value, dict):
        return {name: _content(item) for name, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    named = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '<')}"
    if "<" in named:  # a lambda or a function in a function has no name of its own
        raise InputError(f"{KEY}.transforms", f"{value} cannot be recognised again", "give numbers, text or an importable name")
    return named
