"""Train the vocoder: log-mel -> waveform, first on recordings, then against an adversary, in the end also on what the VAE makes.

The losses compare magnitude spectra at several resolutions, as in Parallel WaveGAN (Yamamoto et al. 2020), log-mels and, once
the adversary plays, its features, as in HiFi-GAN (Kong et al. 2020).
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from audioldm_lit.backbone import Backbone

from adversary import Adversary, STFTDiscriminator
from loop import adamw, autocast, read_state, restore, train
from recordings import Clip, Mixer

FRAMES = 64  # frames heard by the vocoder in one training example
MARGIN = 8  # frames left out of the loss at either end, where the VAE sees a cut
BATCH = 12
RATE, JUDGES_RATE = 8e-4, 4e-4
JUDGED = 0.2  # share of the time after which the adversary plays
DECEIT, FEATURES = 0.5, 1 / 3  # weights of the adversary's two losses
THROUGH_VAE = 0.6  # share of the time after which half of the mels come from the VAE: earlier they only blur what is learnt
RESOLUTIONS = (128, 256, 512, 1024, 2048)  # samples a Fourier window
JUDGES = (256, 800, 2048)  # the same, of the adversary's judges


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
    waveform = torch.stack([mixer.window(mixer.clip(), samples, padded=0.2) for _ in range(batch)]).to(backbone.device)
    with torch.no_grad():
        mel = backbone.log_mel(waveform)
        if mixer.rng.random() < reconstructed:
            with autocast(backbone.device):
                mel = backbone.vae.decode(backbone.vae.encode(mel).latent_dist.sample()).sample
    return mel[:, 0].float(), waveform


def train_vocoder(backbone: Backbone, clips: list[Clip], state_file: Path, minutes: float) -> int:
    """Train the vocoder of `backbone` in place; returns the number of steps done.

    Args:
        backbone: Model; its VAE is read again from the state folder when its mels are first asked for.
        clips: Recordings to draw from.
        state_file: Resumable state.
        minutes: Budget of training time.
    """
    vocoder, hop = backbone.vocoder.requires_grad_(True).train(), backbone.log_mel.hop_length
    judges, device = Adversary([STFTDiscriminator(size) for size in JUDGES]).to(backbone.device), backbone.device
    mixer, optimizer = Mixer(clips, seed=torch.seed() % 2**32), adamw(vocoder, RATE, (0.8, 0.99))
    judges_optimizer = adamw(judges, JUDGES_RATE, (0.8, 0.99))
    heard = slice(MARGIN * hop, (FRAMES - MARGIN) * hop)
    vae_file = state_file.with_name("vae.pt")

    def follow_vae(_: int) -> None:
        if vae_file.is_file():  # it may still be training beside this stage
            restore(backbone.vae, read_state(vae_file), "vae", vae_file)

    def step(count: int, fraction: float) -> dict[str, float]:
        mel, waveform = draw(backbone, mixer, BATCH, reconstructed=0.5 if fraction >= THROUGH_VAE else 0.0)
        real = waveform[:, heard]
        with autocast(device):
            made = vocoder(mel).float()[:, heard]
        spectral, mel_error = distance(made, real), F.l1_loss(backbone.log_mel(made), backbone.log_mel(real))
        loss, shown = spectral + mel_error, {"spectral": spectral.item(), "mel_nats": mel_error.item()}
        if fraction >= JUDGED:
            with autocast(device):
                judged = judges.loss(count, real, made)
            judges_optimizer.zero_grad()
            judged.backward()
            judges_optimizer.step()
            with autocast(device):
                deceit, features = judges.fooled(count, real, made)
            loss = loss + DECEIT * deceit + FEATURES * features
            shown |= {"judged": judged.item(), "features": features.item()}
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vocoder.parameters(), 5.0)
        optimizer.step()
        return shown

    follow_vae(0)
    owners = {"vocoder": vocoder, "judges": judges}
    optimizers = {"optimizer": optimizer, "judges_optimizer": judges_optimizer}
    count = train(state_file, owners, step, optimizers, minutes, on_save=follow_vae)
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
