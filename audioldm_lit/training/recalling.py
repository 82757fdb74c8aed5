"""What a run remembers of its training clips where its conditioning recalls them, see `Recalled`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from audioldm_lit.adapters.base import Adapter, inject, trainable
from audioldm_lit.adapters.composed import Composed
from audioldm_lit.adapters.recall import Recall
from audioldm_lit.backbone import Backbone
from audioldm_lit.conditioning import Conditioning, Recalled
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.clips import Clip
from audioldm_lit.data.selection import few_shot
from audioldm_lit.errors import InputError
from audioldm_lit.training.encoding import encoded

SOUNDS, WORDS = "memory.sounds", "memory.words"  # names of a memory in a backbone
Adapted = tuple[Adapter, Mapping[str, Tensor]]  # an adapter, and what it adds frozen as another injection would give it


def check_recall(conditioning: Conditioning, backbone: Backbone, data: AudioDataModule) -> None:
    """Refuse what cannot be recalled, before anything is encoded."""
    if not isinstance(conditioning, Recalled) or "train" not in data.datasets:
        return
    # Not those of `datasets`, of which a rehearsal has a few alone.
    conditioning.check(_classes(few_shot(data.present("train"), data.seed, data.shots, data.num_train_clips)))
    for name in trainable(backbone):
        if name.startswith("text_encoder."):
            problem = f"replaces what texts are read as, and model.adapter trains {name}"
            raise InputError("model.conditioning", problem, "take one of the two")


def with_training_clips(
    adapter: Adapter, backbone: Backbone, anew: Mapping[str, Tensor], conditioning: Conditioning, data: AudioDataModule
) -> Adapted:
    """An adapter that from now on reads texts as its conditioning recalls training clips; the same where it recalls none."""
    if not isinstance(conditioning, Recalled):
        return adapter, anew
    train = encoded(data, "train")
    items = range(len(train.clips.clips))  # variants, which follow, are left out
    text = torch.stack([torch.stack([train.prompt_embeds[one] for one in train.clips.texts(item)]).mean(0) for item in items])
    audio = torch.stack([train[item]["audio_embeds"] for item in items])
    sounds, words = conditioning.remembered(text, audio, _classes(train.clips.clips))
    found = _remembering(adapter, backbone, anew, conditioning, len(sounds))
    held = backbone.state_dict()
    held[SOUNDS].copy_(sounds)
    if words is not None:
        held[WORDS].copy_(words)
    rank_zero_info(f"texts are read as training clips; the adapter file will hold {len(sounds)} embeddings of their sound")
    return found


def with_memory_of(
    checkpoint: Mapping[str, Any], adapter: Adapter, backbone: Backbone, anew: Mapping[str, Tensor], conditioning: Conditioning
) -> Adapted:
    """An adapter with room for what a checkpoint remembers; the same where it remembers nothing."""
    sounds = checkpoint.get("state_dict", {}).get(SOUNDS)
    if sounds is None or not isinstance(conditioning, Recalled):
        return adapter, anew
    return _remembering(adapter, backbone, anew, conditioning, len(sounds))


def _remembering(adapter: Adapter, backbone: Backbone, anew: Mapping[str, Tensor], recalls: Recalled, size: int) -> Adapted:
    """An adapter with an empty memory behind it, in place of an older one."""
    inner = adapter.adapters[0] if isinstance(adapter, Composed) and isinstance(adapter.adapters[-1], Recall) else adapter
    recall = Recall(size, recalls.neighbours, recalls.strength, recalls.by_words)
    added = {name: tensor.clone() for name, tensor in inject(recall, backbone).items()}
    return Composed([inner, recall]), {**anew, **added}


def _classes(clips: Sequence[Clip]) -> list[str]:
    """Class of each clip, its caption where there are no classes."""
    return [clip.label or clip.caption for clip in clips]
