"""Train the VAE: log-mel <-> latents, factor 4 in time and mel, no normalisation outside the network.

An L1 alone makes smooth pictures, and smooth pictures sound dull. So in a second part the decoder is trained on against an
adversary, as AudioLDM's is (Liu et al. 2023, arXiv 2301.12503). The encoder stands still by then: the latents no longer change, and
the UNet can be trained on them at the same time.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from audioldm_lit.audio.log_mel import LogMel

from adversary import Adversary, Discriminator
from architecture import SAMPLE_RATE
from loop import adamw, autocast, train
from recordings import Clip, Mixer

MEAN, STD = -5.0, 3.5  # nats, of the log-mels of the recordings, roughly
CROP = 128  # frames a training example
BATCH = 8
KL_WEIGHT = 1e-4  # on the mean over latent elements, against an L1 in units of STD
RATE, JUDGE_RATE = 1e-3, 4e-4
JUDGED = 0.6  # share of the time after which the encoder stands still and the decoder's adversary plays


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
    return front_end(torch.stack(windows).to(front_end.mel.mel_scale.fb.device))


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
    vae.requires_grad_(True).train().to(memory_format=torch.channels_last)
    device, mixer, optimizer = vae.device, Mixer(clips, seed=torch.seed() % 2**32), adamw(vae, RATE)
    front_end, judge = LogMel(SAMPLE_RATE).to(device), Adversary([Discriminator(1, stride=(2, 2))]).to(device)
    judge_optimizer = adamw(judge, JUDGE_RATE, (0.8, 0.99))

    def step(_: int, fraction: float) -> dict[str, float]:
        judged = fraction >= JUDGED
        vae.encoder.requires_grad_(not judged)
        vae.quant_conv.requires_grad_(not judged)
        mel = crop(mixer, front_end)
        with autocast(device):
            posterior = vae.encode(mel).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            decoded = vae.decode(mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)).sample.float()
        reconstruction = F.l1_loss(decoded, mel) / STD
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        shown = {"l1_nats": STD * reconstruction.item(), "kl": kl.item()}
        optimizer.zero_grad()
        if judged:
            direction, figures = both_ways(judge, judge_optimizer, mel, decoded, reconstruction)
            decoded.backward(direction)
            shown |= figures
        else:
            (reconstruction + KL_WEIGHT * kl).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        return shown

    owners, optimizers = {"vae": vae, "judge": judge}, {"optimizer": optimizer, "judge_optimizer": judge_optimizer}
    return train(state_file, owners, step, optimizers, minutes)


def crop(mixer: Mixer, front_end: LogMel) -> Tensor:
    """A batch of log-mels (B, 1, CROP, M). Twice the frames are drawn, so that most crops do not start where a window does."""
    mel, start = log_mels(mixer, front_end, BATCH, 2 * CROP), int(mixer.rng.integers(CROP + 1))
    return mel[:, :, start : start + CROP]


def both_ways(
    judge: Adversary, optimizer: torch.optim.Optimizer, mel: Tensor, decoded: Tensor, reconstruction: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Train the judge, and weigh what it and the L1 ask of the decoder.

    Both gradients by the decoded picture get the same length, as EnCodec's balancer does it (Defossez et al. 2022): no weight has
    to be found, and neither loss drowns the other.

    Args:
        judge: Adversary of one judge.
        optimizer: The judge's.
        mel: Recordings' log-mels (B, 1, F, M).
        decoded: The same from the decoder.
        reconstruction: Loss of `decoded`.

    Returns:
        Gradient by `decoded` (B, 1, F, M), and losses to show.
    """
    real, made = (mel - MEAN) / STD, (decoded - MEAN) / STD
    with autocast(mel.device):
        judged = judge.loss(0, real, made)
    optimizer.zero_grad()
    judged.backward()
    optimizer.step()
    with autocast(mel.device):
        deceit, features = judge.fooled(0, real, made)
    (near,) = torch.autograd.grad(reconstruction, decoded)
    (real_looking,) = torch.autograd.grad(deceit + features, decoded)
    direction = near + real_looking * (near.norm() / real_looking.norm().clamp(min=1e-12))
    return direction, {"judged": judged.item(), "features": features.item()}


@torch.no_grad()
def set_scaling_factor(vae: AutoencoderKL, clips: list[Clip]) -> None:
    """Set `scaling_factor` to one over the standard deviation of sampled latents, as latent diffusion defines it."""
    vae.eval()
    mel = log_mels(Mixer(clips, seed=0), LogMel(SAMPLE_RATE).to(vae.device), 32, 512)
    latents = torch.cat([vae.encode(part).latent_dist.sample() for part in mel.split(4)])
    vae.register_to_config(scaling_factor=round(1.0 / latents.std().item(), 6))


@torch.no_grad()
def held_out_l1(vae: AutoencoderKL, clips: list[Clip]) -> float:
    """Mean absolute error in nats of log-mels of held-out recordings, decoded from the posterior's mean."""
    vae.eval()
    mel = log_mels(Mixer(clips, seed=0), LogMel(SAMPLE_RATE).to(vae.device), 64, 256)
    return sum(F.l1_loss(vae.decode(vae.encode(m).latent_dist.mean).sample, m).item() for m in mel.split(8)) / 8
