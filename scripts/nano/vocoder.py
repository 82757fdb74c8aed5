"""Train the vocoder: log-mel -> waveform, first on recordings, then also on what the VAE makes of them.

The loss compares magnitude spectra at several resolutions, as in Parallel WaveGAN (Yamamoto et al. 2020), and log-mels, as in
HiFi-GAN (Kong et al. 2020). There is no discriminator: within 900 steps one made the kernel distance of vocoded recordings worse.
"""

from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from audioldm_lit.backbone import Backbone

from loop import adamw, autocast, train
from recordings import Clip, Mixer

FRAMES = 64  # frames heard by the vocoder in one training example
MARGIN = 8  # frames left out of the loss at either end, where the VAE sees a cut
BATCH = 12
HALF = 0.85  # share of the time that is trained in half precision, where the CPU computes in it
RESOLUTIONS = (128, 256, 512, 1024, 2048)  # samples a Fourier window


def spectra(waveform: Tensor, size: int) -> Tensor:
    """Magnitudes (B, size / 2 + 1, F) of a waveform (B, T)."""
    window = torch.hann_window(size, device=waveform.device)
    transform = torch.stft(waveform, size, size // 4, window=window, return_complex=True)
    return (torch.view_as_real(transform).square().sum(-1) + 1e-9).sqrt()


def distance(made: Tensor, real: Tensor, resolutions: tuple[int, ...] = RESOLUTIONS) -> Tensor:
    """Spectral convergence plus mean log-magnitude error, averaged over resolutions; waveforms (B, T)."""
    total = torch.zeros(())
    for size in resolutions:
        a, b = spectra(made, size), spectra(real, size)
        # The floor of 1e-3 keeps the loss from matching the noise floor's phase-like detail bin by bin.
        log_error = F.l1_loss((a + 1e-3).log(), (b + 1e-3).log())
        total = total + torch.linalg.norm(a - b) / torch.linalg.norm(b) + log_error
    return total / len(resolutions)


def draw(backbone: Backbone, mixer: Mixer, batch: int, reconstructed: float) -> tuple[Tensor, Tensor]:
    """Log-mels (B, F, M) and their waveforms (B, T); with probability `reconstructed` the mels come from the VAE."""
    samples = FRAMES * backbone.log_mel.hop_length
    waveform = torch.stack([mixer.window(mixer.clip(), samples, padded=0.2) for _ in range(batch)])
    with torch.no_grad():
        mel = backbone.log_mel(waveform)
        if mixer.rng.random() < reconstructed:
            with autocast():
                mel = backbone.vae.decode(backbone.vae.encode(mel).latent_dist.sample()).sample
    return mel[:, 0].float(), waveform


def train_vocoder(backbone: Backbone, clips: list[Clip], state_file: Path, minutes: float) -> int:
    """Train the vocoder of `backbone` in place; returns the number of steps done.

    Args:
        backbone: Model with a trained VAE.
        clips: Recordings to draw from.
        state_file: Resumable state.
        minutes: Budget of training time.
    """
    vocoder, hop = backbone.vocoder.requires_grad_(True).train(), backbone.log_mel.hop_length
    mixer, optimizer = Mixer(clips, seed=torch.seed() % 2**32), adamw(vocoder, 1e-3, (0.8, 0.99))
    heard = slice(MARGIN * hop, (FRAMES - MARGIN) * hop)

    def step(_: int, fraction: float) -> dict[str, float]:
        # In the last part most examples are what generation will bring: mels that went through the VAE.
        mel, waveform = draw(backbone, mixer, BATCH, reconstructed=0.0 if fraction < 0.3 else 0.6)
        # A sample of eight bits cannot say what is quiet beside what is loud: the last part hears the waveform in full.
        with autocast() if fraction < HALF else nullcontext():
            made = vocoder(mel).float()
        made_mel = backbone.log_mel(made[:, heard])
        real_mel = backbone.log_mel(waveform[:, heard])
        spectral, mel_error = distance(made[:, heard], waveform[:, heard]), F.l1_loss(made_mel, real_mel)
        optimizer.zero_grad()
        (spectral + mel_error).backward()
        torch.nn.utils.clip_grad_norm_(vocoder.parameters(), 5.0)
        optimizer.step()
        return {"spectral": spectral.item(), "mel_nats": mel_error.item()}

    count = train(state_file, {"vocoder": vocoder}, step, {"optimizer": optimizer}, minutes)
    vocoder.eval()
    return count


@torch.no_grad()
def spectral_distance(backbone: Backbone, clips: list[Clip], reconstructed: float = 0.0) -> float:
    """The training distance on held-out recordings."""
    mixer, total = Mixer(clips, seed=0), 0.0
    for _ in range(8):
        mel, waveform = draw(backbone, mixer, BATCH, reconstructed)
        made = backbone.vocoder(mel)[:, : waveform.shape[1]]
        total += distance(made, waveform).item()
    return total / 8
