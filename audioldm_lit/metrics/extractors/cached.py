"""Features kept on disk, because the same clips are scored again and again, above all those of the reference."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from audioldm_lit.console.stages import say
from audioldm_lit.metrics.extractors.base import AudioBatch, Extractor
from audioldm_lit.storage.atomic_write import atomic_write, clear_unfinished
from audioldm_lit.storage.digest import row_digest

FORMAT = "features/2"


class Cached(Extractor):
    """An extractor that finds the features of a clip it has seen before.

    The key is a hash of the samples themselves, their rate, the caption and the extractor's passport, so nothing stale is ever
    used, whatever happens to files, weights or settings. A file is believed if it has the hash that was written with it.

    Args:
        extractor: What makes the features.
        folder: Where they are kept, one file a clip.
    """

    def __init__(self, extractor: Extractor, folder: Path) -> None:
        self.extractor = extractor
        self.features = extractor.features
        self.name = extractor.name
        self.sample_rate = extractor.sample_rate
        self.min_samples = extractor.min_samples
        key = hashlib.sha256(f"{FORMAT} {json.dumps(extractor.passport(), sort_keys=True)}".encode()).hexdigest()[:16]
        self.folder = folder / f"{extractor.name.split('/')[-1].replace(':', '-')}-{key}"
        clear_unfinished(self.folder)

    def extract(self, batch: AudioBatch) -> dict[str, Tensor]:
        """Read what is known, extract the rest together."""
        keys = self._keys(batch)
        paths = [self.folder / f"{key}.safetensors" for key in keys]
        known = [_load(path, key, batch.waveform.device) for path, key in zip(paths, keys, strict=True)]
        missing = [index for index, clip in enumerate(known) if clip is None]
        if damaged := sum(paths[index].exists() for index in missing):
            say(f"{self.folder}: {damaged} of its files are damaged and are made again")
        made: dict[int, dict[str, Tensor]] = {}
        if missing:
            captions = batch.captions and [batch.captions[index] for index in missing]
            part = AudioBatch([batch.ids[index] for index in missing], batch.waveform[missing], batch.sample_rate, captions)
            extracted = self.extractor.extract(part)
            for number, index in enumerate(missing):
                made[index] = {name: rows[number] for name, rows in extracted.items()}
                row = {name: value.cpu().contiguous() for name, value in made[index].items()}
                with atomic_write(paths[index]) as unfinished:
                    unfinished.write_bytes(save(row, metadata={"sha256": row_digest(keys[index], row)}))
        clips = [made[index] if clip is None else clip for index, clip in enumerate(known)]
        return {name: torch.stack([clip[name] for clip in clips]) for name in clips[0]}

    def embed(self, waveform: Tensor, captions: Sequence[str] | None) -> dict[str, Tensor]:
        """As the extractor does."""
        return self.extractor.embed(waveform, captions)

    def passport(self) -> dict[str, Any]:
        """The extractor's."""
        return self.extractor.passport()

    @staticmethod
    def _keys(batch: AudioBatch) -> list[str]:
        captions = batch.captions or [""] * len(batch.ids)
        samples = batch.waveform.float().cpu().contiguous().numpy()
        return [
            hashlib.sha256(f"{batch.sample_rate} {caption}\x1f".encode() + waveform.tobytes()).hexdigest()
            for waveform, caption in zip(samples, captions, strict=True)
        ]


def _load(path: Path, key: str, device: torch.device) -> dict[str, Tensor] | None:
    """The features in a file; None where there is none or it is damaged, which is made again."""
    try:
        with safe_open(path, "pt") as file:
            digest = (file.metadata() or {}).get("sha256")
            row = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (OSError, SafetensorError):
        return None
    return {name: value.to(device) for name, value in row.items()} if digest == row_digest(key, row) else None
