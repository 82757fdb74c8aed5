"""Train the UNet: predict the noise in latents, given the CLAP embedding of the sound or of its caption.

Latents of a few thousand windows are encoded once: the VAE would otherwise cost as much as the training step itself.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from audioldm_lit.backbone import Backbone

from architecture import WINDOW
from loop import adamw, autocast, train
from recordings import Clip, Mixer

WINDOWS = 1600  # in the bank; each is also cropped at random, so one is hardly ever seen twice alike
BATCH = 16
CROP = 64  # latent steps of most examples, half the native length
UNCONDITIONAL = 0.1  # probability in [0, 1] of the empty prompt's embedding, AudioLDM's own
DECAY = 0.999  # of the average of weights that is released
RATE = 5e-4  # peak learning rate


@torch.no_grad()
def scale_condition(unet: nn.Module) -> None:
    """Let an untrained UNet hear its condition: a unit vector of D numbers is small beside the time embedding, D ** 0.5 is not."""
    unet.class_embedding.weight *= unet.class_embedding.in_features**0.5


@dataclass(frozen=True)
class Bank:
    """Encoded windows: posterior `mean` and `std` (N, C, F/4, M/4), audio embeddings (N, D), and the clip of each."""

    mean: Tensor
    std: Tensor
    sound: Tensor
    clips: list[Clip]


@torch.no_grad()
def encode(backbone: Backbone, mixer: Mixer, number: int) -> Bank:
    """Draw `number` windows and encode them."""
    means, stds, sounds, clips = [], [], [], []
    for _ in tqdm(range(number // 8), desc="encoding", mininterval=20):
        drawn = [mixer.clip() for _ in range(8)]
        waveform = torch.stack([mixer.window(clip, WINDOW) for clip in drawn]).to(backbone.device)
        with autocast(backbone.device):
            mean, std = backbone.encode_posterior(waveform)
            sounds.append(backbone.encode_audio(waveform).cpu())
        means.append(mean.half().cpu())
        stds.append(std.half().cpu())
        clips += drawn
    return Bank(torch.cat(means), torch.cat(stds), torch.cat(sounds), clips)


def conditions(backbone: Backbone, bank: Bank, rows: np.ndarray, mixer: Mixer, audio: float, empty: Tensor) -> Tensor:
    """Embeddings (B, D): of the sound with probability `audio`, else of a caption; now and then of the empty prompt."""
    text = backbone.encode_text([mixer.caption(bank.clips[row]) for row in rows])
    by_sound = torch.from_numpy(mixer.rng.random(len(rows)) < audio)[:, None]
    dropped = torch.from_numpy(mixer.rng.random(len(rows)) < UNCONDITIONAL)[:, None]
    by_sound, dropped, sound = (values.to(text.device) for values in (by_sound, dropped, bank.sound[rows]))
    return torch.where(dropped, empty, torch.where(by_sound, sound, text))


def noise_loss(backbone: Backbone, unet: nn.Module, latents: Tensor, cond: Tensor, times: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the predicted noise; latents (B, C, F/4, M/4)."""
    noisy = backbone.scheduler.add_noise(latents, noise, times)
    with autocast(latents.device):
        predicted = unet(noisy, times, encoder_hidden_states=None, class_labels=cond, return_dict=False)[0]
    return F.mse_loss(predicted.float(), noise)


def train_unet(backbone: Backbone, clips: list[Clip], state_file: Path, minutes: float, audio: float = 0.4) -> int:
    """Train the UNet of `backbone`, which ends with the average of its weights; returns the number of steps done.

    Args:
        backbone: Model with trained VAE and CLAP.
        clips: Recordings to draw from.
        state_file: Resumable state.
        minutes: Budget of training time.
        audio: Share of examples conditioned on the sound's own embedding, in [0, 1].
    """
    unet, mixer = backbone.unet.requires_grad_(True).train(), Mixer(clips, seed=torch.seed() % 2**32)
    average = copy.deepcopy(unet).requires_grad_(False)
    optimizer = adamw(unet, RATE)
    bank, empty = encode(backbone, mixer, WINDOWS), backbone.encode_text([""])

    def step(count: int, fraction: float) -> dict[str, float]:
        # Every eighth step at full length and half the batch: the model must know how long a sound goes on.
        full = count % 8 == 7
        rows = mixer.rng.integers(len(bank.clips), size=BATCH // 2 if full else BATCH)
        start = 0 if full else int(mixer.rng.integers(bank.mean.shape[2] - CROP + 1))
        part = slice(start, None if full else start + CROP)
        mean, std = (values[rows, :, part].to(backbone.device).float() for values in (bank.mean, bank.std))
        latents = mean + std * torch.randn_like(mean)
        cond = conditions(backbone, bank, rows, mixer, audio, empty)
        times = torch.randint(0, backbone.scheduler.config.num_train_timesteps, (len(rows),), device=backbone.device)
        loss = noise_loss(backbone, unet, latents, cond, times, torch.randn_like(latents))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        # Young averages forget fast, or the random first weights would stay in them.
        decay = min(DECAY, (1 + count) / (10 + count))
        for kept, new in zip(average.parameters(), unet.parameters(), strict=True):
            kept.lerp_(new.detach(), 1 - decay)
        return {"noise": loss.item()}

    count = train(state_file, {"unet": unet, "average": average}, step, {"optimizer": optimizer}, minutes)
    unet.load_state_dict(average.state_dict())
    backbone.requires_grad_(False).eval()
    return count


@torch.no_grad()
def validation_loss(backbone: Backbone, clips: list[Clip], audio: float = 0.0) -> float:
    """Noise loss on held-out recordings at full length, with fixed noise and times spread evenly."""
    mixer, noise = Mixer(clips, seed=0), torch.Generator().manual_seed(0)
    bank, total = encode(backbone, mixer, 64), 0.0
    empty = backbone.encode_text([""])
    for first in range(0, 64, 8):
        rows = np.arange(first, first + 8)
        latents = bank.mean[rows].to(backbone.device).float()
        cond = conditions(backbone, bank, rows, mixer, audio, empty)
        times = torch.linspace(20, 980, 8).long().to(backbone.device)
        noises = torch.randn(latents.shape, generator=noise).to(backbone.device)
        total += noise_loss(backbone, backbone.unet, latents, cond, times, noises).item()
    return total / 8
