"""Train the VAE: log-mel <-> latents, factor 4 in time and mel, no normalisation outside the network."""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from audioldm_lit.audio.log_mel import LogMel

from architecture import SAMPLE_RATE
from loop import adamw, autocast, train
from recordings import Clip, Mixer

MEAN, STD = -5.0, 3.5  # nats, of the log-mels of the recordings, roughly
CROP = 128  # frames a training example
BATCH = 8
KL_WEIGHT = 1e-4  # on the mean over latent elements, against an L1 in units of STD


@torch.no_grad()
def fold_normalisation(vae: AutoencoderKL) -> None:
    """Rescale the first and last convolution so that the untrained network sees and emits log-mels of unit scale."""
    first, last = vae.encoder.conv_in, vae.decoder.conv_out
    first.weight /= STD
    first.bias -= MEAN * first.weight.sum(dim=(1, 2, 3))
    last.weight *= STD
    last.bias.mul_(STD).add_(MEAN)


def log_mels(mixer: Mixer, front_end: LogMel, batch: int, frames: int) -> Tensor:
    """Draw log-mels (B, 1, F, M); a quarter of the short clips is zero-padded, which the UNet's data is not."""
    hop = front_end.hop_length
    windows = [mixer.window(mixer.clip(), frames * hop, padded=0.25) for _ in range(batch)]
    return front_end(torch.stack(windows))


def train_vae(vae: AutoencoderKL, clips: list[Clip], state_file: Path, minutes: float) -> int:
    """Train `vae` in place.

    Args:
        vae: Randomly initialised network with `fold_normalisation` applied.
        clips: Recordings to draw from.
        state_file: Resumable state.
        minutes: Budget of training time.

    Returns:
        Number of steps done.
    """
    vae.requires_grad_(True).train()
    front_end, mixer, optimizer = LogMel(SAMPLE_RATE), Mixer(clips, seed=torch.seed() % 2**32), adamw(vae, 1e-3)

    def step(_: int, fraction: float) -> dict[str, float]:
        # Twice the mel frames are drawn and cut, so that most crops do not start at the window's beginning.
        mel = log_mels(mixer, front_end, BATCH, 2 * CROP)
        start = int(mixer.rng.integers(CROP + 1))
        mel = mel[:, :, start : start + CROP]
        with autocast():
            posterior = vae.encode(mel).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            latents = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
            decoded = vae.decode(latents).sample
        reconstruction = F.l1_loss(decoded.float(), mel) / STD
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = reconstruction + KL_WEIGHT * kl
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        return {"l1_nats": STD * reconstruction.item(), "kl": kl.item()}

    return train(state_file, {"vae": vae}, step, {"optimizer": optimizer}, minutes)


@torch.no_grad()
def set_scaling_factor(vae: AutoencoderKL, clips: list[Clip]) -> None:
    """Set `scaling_factor` to one over the standard deviation of sampled latents, as latent diffusion defines it."""
    vae.eval()
    mel = log_mels(Mixer(clips, seed=0), LogMel(SAMPLE_RATE), 32, 512)
    latents = torch.cat([vae.encode(part).latent_dist.sample() for part in mel.split(4)])
    vae.register_to_config(scaling_factor=round(1.0 / latents.std().item(), 6))


@torch.no_grad()
def held_out_l1(vae: AutoencoderKL, clips: list[Clip]) -> float:
    """Mean absolute error in nats of log-mels of held-out recordings, decoded from the posterior's mean."""
    vae.eval()
    mel = log_mels(Mixer(clips, seed=0), LogMel(SAMPLE_RATE), 64, 256)
    return sum(F.l1_loss(vae.decode(vae.encode(m).latent_dist.mean).sample, m).item() for m in mel.split(8)) / 8
