"""Reconstruction: the error of recordings after their way through the model's decoder, for sounds unlike those it was made for."""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.backbone import DECODER, Backbone
from audioldm_lit.errors import InputError
from audioldm_lit.objectives.base import Objective

RESOLUTIONS = (128, 256, 512, 1024, 2048)  # samples of a Fourier window, four hops long
FLOOR = 1e-3  # of magnitudes: the grain of what is nearly silent is nobody's to match
MARGIN = 2  # latent steps at either end that are not judged, because the decoder hears the sound cut off there
SHORTEST = 0.32  # seconds, of which the margins leave what the longest window takes


class Reconstruction(Objective):
    """Mean absolute error of log-mels, as in HiFi-GAN (Kong et al. 2020, arXiv 2010.05646, Eq. 4), and of log-magnitude spectra.

    The spectra are those of several resolutions (Yamamoto et al. 2020, arXiv 1910.11480, Eq. 5; their other term, a ratio, is left
    out because silence has none). Latents are the recordings' own, made sound by the VAE's decoder and the vocoder; the encoder
    stands still, so cached latents stay as they are, and the UNet has no part in a step. Goes with adapters of the decoder. The
    held-out loss is the same two errors on whole clips. There is no adversary, so what cannot be foretold is blurred: judge the
    result by sound.

    Args:
        seconds: Length of the part of each clip that a step makes sound of, drawn at random; at least 0.32. Longer parts take more
            memory.
    """

    trains = DECODER
    needs_waveform = True
    judged_by = ("mel", "spectra")

    def __init__(self, seconds: float = 1.28) -> None:
        super().__init__()
        if not seconds >= SHORTEST:
            raise InputError("model.objective.init_args.seconds", f"is {seconds}", f"give at least {SHORTEST}")
        self.seconds = seconds

    def prepare(self, backbone: Backbone, num_samples: int, folder: Path) -> None:
        """Refuse clips of which the margins would leave nothing."""
        duration = num_samples / backbone.sample_rate
        if duration < SHORTEST:
            raise InputError("data.init_args.duration", f"is {duration:g} s", f"give at least {SHORTEST} for model.objective")

    def forward(
        self,
        backbone: Backbone,
        scheduler: DDIMScheduler,
        latents: Tensor,
        cond: Tensor,
        generators: Sequence[torch.Generator],
        waveform: Tensor | None = None,
    ) -> Tensor:
        """Loss (B,) of every sample, given the recordings (B, T); see `Objective.forward`."""
        assert waveform is not None
        samples = backbone.mel_frames_per_latent * backbone.log_mel.hop_length  # of a latent step
        steps = min(latents.shape[2], round(self.seconds * backbone.sample_rate / samples))
        firsts = (seeding.uniform(generators) * (latents.shape[2] - steps + 1)).long().tolist()
        parts = torch.stack([clip[:, first : first + steps] for clip, first in zip(latents, firsts, strict=True)])
        recorded = torch.stack(
            [clip[first * samples : (first + steps) * samples] for clip, first in zip(waveform, firsts, strict=True)]
        )
        judged = slice(MARGIN * samples, (steps - MARGIN) * samples)
        return self._errors(backbone, backbone.sound(parts)[:, judged], recorded[:, judged]).sum(dim=1)

    @torch.no_grad()
    def held_out(self, backbone: Backbone, latents: Tensor, waveform: Tensor) -> Tensor:
        """Both errors (B, 2) of whole clips; see `Objective.held_out`."""
        return self._errors(backbone, backbone.sound(latents)[:, : waveform.shape[1]], waveform)

    def _errors(self, backbone: Backbone, made: Tensor, recorded: Tensor) -> Tensor:
        """Errors (B, 2) of log-mels and of spectra, in nats."""
        with torch.autocast(made.device.type, enabled=False):
            mel = (backbone.log_mel(made) - backbone.log_mel(recorded)).abs().mean(dim=(1, 2, 3))
            spectra = [(_log_spectrum(made, size) - _log_spectrum(recorded, size)).abs().mean(dim=(1, 2)) for size in RESOLUTIONS]
        return torch.stack([mel, torch.stack(spectra).mean(dim=0)], dim=1)


def _log_spectrum(waveform: Tensor, size: int) -> Tensor:
    """Natural log of magnitudes (B, size / 2 + 1, F) of waveforms (B, T)."""
    window = torch.hann_window(size, device=waveform.device)
    spectrum = torch.view_as_real(torch.stft(waveform, size, size // 4, window=window, return_complex=True))
    return ((spectrum.square().sum(dim=-1) + FLOOR**2).sqrt()).log()
