"""Train both CLAP towers: text and sound of one recording close together, those of different labels apart.

The loss is CLIP's symmetric cross-entropy; every batch holds each label once, so that no other example of a batch is secretly
a right answer.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audioldm_lit.backbone import Backbone

from architecture import WINDOW
from loop import adamw, autocast, train
from recordings import Clip, Mixer

BATCH = 24  # labels
TEMPERATURE = 0.07


def draw(mixer: Mixer, backbone: Backbone, labels: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """Extractor's features (B, 1, F, M) and tokens of one window a label."""
    clips = [mixer.clip(label) for label in labels]
    rate = backbone.feature_extractor.sampling_rate
    heard = [mixer.window(c, WINDOW, padded=0.3)[: backbone.feature_extractor.nb_max_samples].numpy() for c in clips]
    features = backbone.feature_extractor(heard, sampling_rate=rate, return_tensors="pt").input_features
    return features, backbone.tokenizer([mixer.caption(c) for c in clips], padding=True, return_tensors="pt")


def embed(backbone: Backbone, features: Tensor, tokens: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Normalised audio and text embeddings, each (B, D)."""
    with autocast():
        sound = backbone.audio_encoder(features).audio_embeds
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
    mixer, optimizer = Mixer(clips, seed=torch.seed() % 2**32), adamw(towers, 1e-3)

    def step(_: int, fraction: float) -> dict[str, float]:
        sound, text = embed(backbone, *draw(mixer, backbone, mixer.distinct_labels(BATCH)))
        logits = sound @ text.T / TEMPERATURE  # (B, B)
        target = torch.arange(BATCH)
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
        sound, text = embed(backbone, *draw(mixer, backbone, mixer.distinct_labels(number)))
        right += int(((sound @ text.T).argmax(1) == torch.arange(number)).sum())
    return right / (number * rounds)
