"""Clips that are made from a recording: all of it changed a little, or a part of it anew. Letters in shapes: T samples."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from audioldm_lit.audio.loudness import SILENCE
from audioldm_lit.audio.waveform import PEAK, read
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError

CHANGE = 0.6  # strength where no part is named
Noisy = Callable[[Tensor], Tensor]  # clean latents -> with the noise of a step


class Edit(ABC):
    """What of a clip is given, as the sampler's loop asks for it."""

    @abstractmethod
    def steps(self, timesteps: Tensor, last: int) -> Tensor:
        """Of the sampler's timesteps, falling, those that are walked; `last` is the timestep of pure noise."""

    @abstractmethod
    def hold(self, latents: Tensor, noisy: Noisy, first: bool) -> Tensor:
        """Latents (B, C, F/4, M/4) with what is given put in, before each step, the `first` included, and once more at the end."""


class Free(Edit):
    """Nothing is given: sound from text alone."""

    def steps(self, timesteps: Tensor, last: int) -> Tensor:
        """All."""
        return timesteps

    def hold(self, latents: Tensor, noisy: Noisy, first: bool) -> Tensor:
        """The latents as they are."""
        return latents


FREE: Edit = Free()


@dataclass(frozen=True, eq=False)
class Recording(Edit):
    """A recording is given.

    Sampling begins at the recording with noise up to `strength` (SDEdit, Meng et al. 2022, arXiv 2108.01073). What is not `free`
    is put back at every step, with that step's noise (RePaint, Lugmayr et al. 2022, arXiv 2201.09865, Eq. 8, without resampling).

    Attributes:
        latents: Of the recording, (1, C, F/4, M/4).
        free: Where sound is generated, (1, 1, F/4, M/4), 1 there and 0 where the recording stays.
        strength: Share of the timesteps in (0, 1] that are walked; at 1 what is free begins as pure noise.
    """

    latents: Tensor
    free: Tensor
    strength: float

    def steps(self, timesteps: Tensor, last: int) -> Tensor:
        """Those up to the strength."""
        return timesteps[timesteps <= self.strength * last]

    def hold(self, latents: Tensor, noisy: Noisy, first: bool) -> Tensor:
        """The recording where it stays, and to begin with everywhere, unless the strength is 1."""
        given = noisy(self.latents.expand_as(latents))
        if first and self.strength < 1:
            return given
        return self.free * latents + (1 - self.free) * given

    @classmethod
    def encode(
        cls,
        backbone: Backbone,
        waveform: Tensor,
        strength: float,
        span: tuple[float, float] | None = None,
        band: tuple[float, float] | None = None,
    ) -> "Recording":
        """Make the edit of a sound.

        Args:
            backbone: The model.
            waveform: The recording (T,), at the model's rate and with peak 0.5, as it was trained.
            strength: See above.
            span: Seconds of start and end between which sound is generated, to latent steps outwards; at all times where not given.
            band: Hz between which sound is generated, to latent steps outwards; all where not given.

        Raises:
            InputError: If span or band lies outside.
        """
        shape, step = backbone.latent_shape(len(waveform)), backbone.mel_frames_per_latent * backbone.log_mel.hop_length
        padded = F.pad(waveform, (0, shape[1] * step - len(waveform)))
        free = torch.zeros(1, 1, *shape[1:], device=backbone.device)
        times = slice(None) if span is None else _times(*span, len(waveform) / backbone.sample_rate, step / backbone.sample_rate)
        rows = slice(None) if band is None else _rows(backbone, *band)
        free[:, :, times, rows] = 1
        return cls(backbone.encode_latents(padded[None].to(backbone.device)), free, strength)


@dataclass(frozen=True)
class EditSetting:
    """A recording to edit, as a user names it.

    Args:
        audio: The file; nothing is edited where not given.
        strength: See `Recording`; by default `CHANGE`, and 1 where span or band is given.
        span: See `Recording.encode`.
        band: See `Recording.encode`.
    """

    audio: Path | None = None
    strength: float | None = None
    span: tuple[float, float] | None = None
    band: tuple[float, float] | None = None

    def check(self) -> None:
        """Raise `InputError` for what goes with no recording."""
        given = {"--strength": self.strength, "--span": self.span, "--band": self.band}
        alone = [option for option, value in given.items() if value is not None]
        if self.audio is None and alone:
            raise InputError(alone[0], "says how a recording is edited, and none is given", "give --audio FILE")
        if not 0 < self.amount <= 1:
            raise InputError("--strength", f"is {self.amount:g}", "give a number above 0 and up to 1")
        if self.audio is not None and self.amount == 1 and self.span is None and self.band is None:
            raise InputError("--strength", "of 1 keeps nothing of the recording", "give less, or --span or --band")

    @property
    def amount(self) -> float:
        """The strength."""
        return self.strength if self.strength is not None else CHANGE if self.span is None and self.band is None else 1.0

    def spec(self) -> dict[str, Any]:
        """The edit as it goes into manifests; nothing where there is none."""
        if self.audio is None:
            return {}
        with self.audio.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        how = {"strength": self.amount, "span": self.span, "band": self.band}
        return {"audio": {"file": str(self.audio), "sha256": sha256, **how}}

    def prepared(self, backbone: Backbone, duration: float | None) -> tuple[Edit, int, float]:
        """Read the recording; returns the edit, the length of clips in samples and the factor that brings them to its level.

        Args:
            backbone: The model.
            duration: Seconds; by default the recording's, or what the model was made for.

        Raises:
            InputError: If the recording cannot be read or is silent, or span or band lies outside.
        """
        num_samples = None if duration is None else round(duration * backbone.sample_rate)
        if self.audio is None:
            return FREE, num_samples or round(backbone.window * backbone.sample_rate), 1.0
        waveform = read(self.audio, backbone.sample_rate)[:num_samples]
        waveform = waveform - waveform.mean(dtype=torch.float64).float()
        peak = float(waveform.abs().max())
        if peak < SILENCE:
            raise InputError(self.audio, "holds no sound in the length that is generated", "give another, or another --duration")
        given = F.pad(waveform * (PEAK / peak), (0, (num_samples or len(waveform)) - len(waveform)))
        return Recording.encode(backbone, given, self.amount, self.span, self.band), len(given), peak / PEAK


def _times(start: float, end: float, seconds: float, step: float) -> slice:
    """Latent steps of a span, each of `step` seconds."""
    if not 0 <= start < min(end, seconds):
        raise InputError("--span", f"is [{start:g}, {end:g}]", f"give two times from 0 to {seconds:g} s, the earlier one first")
    return slice(math.floor(start / step), math.ceil(end / step))


def _rows(backbone: Backbone, low: float, high: float) -> slice:
    """Latent rows of a band: those of every mel bin whose centre lies in it."""
    filters = backbone.log_mel.mel.mel_scale.fb  # (frequencies, M)
    frequencies = torch.linspace(0, backbone.sample_rate / 2, len(filters), device=filters.device)
    centres = (filters * frequencies[:, None]).sum(0) / filters.sum(0)
    bins = ((centres >= low) & (centres <= high)).nonzero().flatten().tolist()
    if not bins:
        mend = f"give two frequencies up to {backbone.sample_rate / 2:g} Hz, the lower one first and not too near the other"
        raise InputError("--band", f"is [{low:g}, {high:g}]", mend)
    size = backbone.mel_frames_per_latent
    return slice(bins[0] // size, bins[-1] // size + 1)
