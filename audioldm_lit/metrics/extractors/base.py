"""What every feature extractor has in common: one rule for rate, padding and precision, and a passport."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audioldm_lit.audio.waveform import resample


@dataclass(frozen=True, eq=False)
class AudioBatch:
    """Clips of one length.

    Attributes:
        ids: Name of each clip; clips are paired and counted by it.
        waveform: (B, T) float32 in [-1, 1].
        sample_rate: Hz.
        captions: Text of each clip, for metrics that compare sound with text.
    """

    ids: Sequence[str]
    waveform: Tensor
    sample_rate: int
    captions: Sequence[str] | None = None


class Extractor(ABC):
    """A frozen network or formula that turns clips into named rows of features.

    Not an `nn.Module`, so its network is in no checkpoint, meets no optimizer and never leaves eval mode. It follows the clips to
    their device.

    Attributes:
        features: Names of what it makes.
        revision: Raised whenever `embed` changes, so that older features on disk are not used.
        name: As printed in results: `aisfx`, `vggish` ...
        sample_rate: Hz that `embed` works at; clips of another rate are resampled.
        min_samples: Shortest clip at that rate that gives a row; shorter ones are padded with zeros at their end.
        network: The network, frozen, in float32; an empty module where there is none.
        sha256: Of the file of weights; empty where there is none.
    """

    features: tuple[str, ...] = ("embedding",)
    revision = 1
    name: str
    sample_rate: int
    min_samples: int
    network: nn.Module = nn.Module()
    sha256: str = ""

    def __call__(self, batch: AudioBatch) -> dict[str, Tensor]:
        """Features of a batch by name, each (B, R, D) float32: R rows a clip of D numbers.

        Features are kept as long as their batch exists, because several metrics ask for them.
        """
        if batch not in self.known:
            self.known[batch] = self.extract(batch)
        return self.known[batch]

    def __getstate__(self) -> dict[str, Any]:
        """All but the features that are kept as long as their batches, which stay where they are."""
        return {name: value for name, value in vars(self).items() if name != "known"}

    @cached_property
    def known(self) -> WeakKeyDictionary[AudioBatch, dict[str, Tensor]]:
        """Features of the batches that still exist."""
        return WeakKeyDictionary()

    def extract(self, batch: AudioBatch) -> dict[str, Tensor]:
        """Bring a batch to the network's rate and least length and embed it."""
        waveform = resample(batch.waveform.float(), batch.sample_rate, self.sample_rate)
        waveform = F.pad(waveform, (0, max(0, self.min_samples - waveform.shape[1])))
        self.network.to(waveform.device)
        # Scores must not hang on the precision the model under test runs in.
        with torch.no_grad(), torch.autocast(waveform.device.type, enabled=False):
            return self.embed(waveform, batch.captions)

    @abstractmethod
    def embed(self, waveform: Tensor, captions: Sequence[str] | None) -> dict[str, Tensor]:
        """Waveform (B, T) at `sample_rate`, T at least `min_samples` -> features by name, each (B, R, D)."""

    def passport(self) -> dict[str, Any]:
        """Everything its features depend on, as plain values."""
        return {
            "extractor": self.name,
            "revision": self.revision,
            "weights_sha256": self.sha256,
            "sample_rate": self.sample_rate,
            "min_samples": self.min_samples,
            "padding": "zeros at the end",
        }
