"""Train both CLAP towers: text and sound of one recording close together, those of different labels apart.

The loss is CLIP's symmetric cross-entropy; every batch holds each label once, so that no other example of a batch is secretly
a right answer. The extractor's pictures of a few thousand windows are made once and varied at every step, with SpecAugment's
masks (Park et al. 2019, arXiv 1904.08779), levels and starts: with an hour of recordings the towers would learn them by heart.
"""

from collections import defaultdict
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

BATCH = 64  # labels: every other one is a wrong answer to tell apart
WINDOWS, WINDOWS_A_LABEL = 1500, 10  # pictures drawn by weight, and beside them for every label
RATE = 1e-3  # peak learning rate
TEMPERATURE = 0.07
LEVEL = 6.0  # dB either way
MASKED_BINS, MASKED_FRAMES = 12, 100  # longest mask in mel bins and in frames


def pictures(backbone: Backbone, mixer: Mixer, clips: list[Clip]) -> Tensor:
    """The extractor's features (N, 1, F, M) of one window a clip."""
    rate, length = backbone.feature_extractor.sampling_rate, backbone.feature_extractor.nb_max_samples
    heard = [mixer.window(clip, WINDOW, padded=0.3)[:length].numpy() for clip in clips]
    return backbone.feature_extractor(heard, sampling_rate=rate, return_tensors="pt").input_features


def varied(features: Tensor, rng: np.random.Generator) -> Tensor:
    """Features (B, 1, F, M) in dB with another level, another start and one masked band and span each."""
    frames, bins = features.shape[2:]
    result = features + torch.from_numpy(rng.uniform(-LEVEL, LEVEL, (len(features), 1, 1, 1))).float()
    for picture in result:
        picture.copy_(picture.roll(int(rng.integers(frames)), dims=1))
        width, span = int(rng.integers(MASKED_BINS + 1)), int(rng.integers(MASKED_FRAMES + 1))
        low, start = int(rng.integers(bins - width + 1)), int(rng.integers(frames - span + 1))
        mean = picture.mean()
        picture[:, :, low : low + width] = mean
        picture[:, start : start + span] = mean
    return result


def embed(backbone: Backbone, features: Tensor, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Normalised audio and text embeddings, each (B, D)."""
    device = backbone.device
    tokens = backbone.tokenizer(texts, padding=True, return_tensors="pt").to(device)
    with autocast(device):
        sound = backbone.audio_encoder(features.to(device)).audio_embeds
        text = backbone.text_encoder(tokens["input_ids"], attention_mask=tokens["attention_mask"]).text_embeds
    return F.normalize(sound.float(), dim=-1), F.normalize(text.float(), dim=-1)


def train_clap(backbone: Backbone, clips: list[Clip], state_file: Path, minutes: float) -> int:
    """Train both towers of `backbone` in place; returns the number of steps done.

    Args:
        backbone: Model whose text and audio towers to train.
        clips: Recordings to draw from.
        state_file: Resumable state.
        minutes: Budget of training time.
    """
    towers = nn.ModuleDict({"text": backbone.text_encoder, "audio": backbone.audio_encoder}).requires_grad_(True).train()
    mixer, optimizer = Mixer(clips, seed=torch.seed() % 2**32), adamw(towers, RATE)
    drawn = [mixer.clip() for _ in range(WINDOWS)] + [mixer.clip(label) for label in mixer.labels * WINDOWS_A_LABEL]
    parts = [
        pictures(backbone, mixer, drawn[first : first + 8])
        for first in tqdm(range(0, len(drawn), 8), desc="pictures", mininterval=20)
    ]
    bank, rows = torch.cat(parts).half(), defaultdict(list)
    for row, clip in enumerate(drawn):
        rows[clip.label].append(row)

    def step(_: int, fraction: float) -> dict[str, float]:
        chosen = [int(mixer.rng.choice(rows[label])) for label in mixer.distinct_labels(BATCH)]
        sound, text = embed(backbone, varied(bank[chosen].float(), mixer.rng), [mixer.caption(drawn[row]) for row in chosen])
        logits = sound @ text.T / TEMPERATURE  # (B, B)
        target = torch.arange(len(chosen), device=backbone.device)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
        optimizer.step()
        return {"loss": loss.item(), "right": (logits.argmax(1) == target).float().mean().item()}

    count = train(state_file, {"towers": towers}, step, {"optimizer": optimizer}, minutes)
    towers.eval()
    return count


@torch.no_grad()
def retrieval(backbone: Backbone, clips: list[Clip], number: int = 16, rounds: int = 8) -> float:
    """Share of held-out sounds whose own caption is nearest among `number` different labels (chance 1 / `number`)."""
    mixer, right = Mixer(clips, seed=0), 0
    number = min(number, len(mixer.labels))
    for _ in range(rounds):
        asked = [mixer.clip(label) for label in mixer.distinct_labels(number)]
        sound, text = embed(backbone, pictures(backbone, mixer, asked), [mixer.caption(clip) for clip in asked])
        right += int(((sound @ text.T).argmax(1).cpu() == torch.arange(number)).sum())
    return right / (number * rounds)
