"""Features kept on disk, because the same clips are scored again and again, above all those of the reference."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from audioldm_lit.metrics.extractors.base import AudioBatch, Extractor
from audioldm_lit.storage.atomic_write import atomic_write


class Cached(Extractor):
    """An extractor that finds the features of a clip it has seen before.

    The key is a hash of the samples themselves, their rate, the caption and the extractor's passport, so nothing stale is ever
    used, whatever happens to files, weights or settings.

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
        key = hashlib.sha256(json.dumps(extractor.passport(), sort_keys=True).encode()).hexdigest()[:16]
        self.folder = folder / f"{extractor.name.split('/')[-1].replace(':', '-')}-{key}"

    def extract(self, batch: AudioBatch) -> dict[str, Tensor]:
        """Read what is known, extract the rest together."""
        paths = [self.folder / f"{key}.safetensors" for key in self._keys(batch)]
        known = [_load(path, batch.waveform.device) for path in paths]
        missing = [index for index, clip in enumerate(known) if clip is None]
        made: dict[int, dict[str, Tensor]] = {}
        if missing:
            captions = batch.captions and [batch.captions[index] for index in missing]
            part = AudioBatch([batch.ids[index] for index in missing], batch.waveform[missing], batch.sample_rate, captions)
            extracted = self.extractor.extract(part)
            for row, index in enumerate(missing):
                made[index] = {name: rows[row] for name, rows in extracted.items()}
                with atomic_write(paths[index]) as unfinished:
                    unfinished.write_bytes(save({name: value.cpu().contiguous() for name, value in made[index].items()}))
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


def _load(path: Path, device: torch.device) -> dict[str, Tensor] | None:
    """The features in a file; None where there is none or it was damaged, which is made again."""
    try:
        return load_file(path, device=str(device))
    except (OSError, SafetensorError):
        return None
