"""CLAP: one space for sound and text (Wu et al. 2023, arXiv 2211.06687), through transformers.

Scores of two CLAP models are not comparable, so the model is part of the extractor's name. Letters in shapes: W windows of a clip.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    ClapAudioModelWithProjection,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    ClapTextModelWithProjection,
    RobertaTokenizer,
)
from transformers.utils import logging

from audioldm_lit.assets.finding import again, find_clap
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.extractors.base import Extractor
from audioldm_lit.networks.fingerprinting import fingerprint
from audioldm_lit.networks.strict_loading import load_pretrained

logging.disable_progress_bar()
AT_ONCE = 8  # windows, to bound memory
TAIL = 0.1  # of a window: what is left of a clip after its last whole window counts from here on


class CLAP(Extractor):
    """CLAP embeddings of sound, of text, and their cosine.

    Features: `embedding` (B, 1, D) of norm 1; where the batch has captions also `text` (B, 1, D) of norm 1 and `similarity`
    (B, 1, 1), their cosine in [-1, 1].

    CLAP hears one window, usually 10 s. A shorter clip is repeated to fill it, as the model's own front end does. A longer one is
    cut into windows without overlap, the last ending where the clip ends; where that would add less than a tenth of a window, it
    is left out. The clip's embedding is the mean of its windows', scaled to norm 1. The model's own random crop is never used.

    Args:
        model: A folder with a CLAP, a folder with an AudioLDM that has both towers, or the hub id of a CLAP that is already in the
            local hub cache (`assets fetch clap-htsat-unfused`); no connection is made.

    Raises:
        InputError: If no such model is there or it is incomplete.
    """

    network: ClapModel
    features = ("embedding", "text", "similarity")
    min_samples = 1

    def __init__(self, model: str = "laion/clap-htsat-unfused") -> None:
        self.name = f"clap:{model}"
        folder = find_clap(model)
        try:
            network, processor = (_towers if (folder / "audio_encoder").is_dir() else _whole)(folder)
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].strip(".")
            raise InputError(folder, f"no CLAP can be loaded ({reason})", again(folder)) from error
        self.network = network.requires_grad_(False).eval()
        self.front_end = processor.feature_extractor
        self.tokenizer = processor.tokenizer
        self.sample_rate = self.front_end.sampling_rate
        self.window = self.front_end.nb_max_samples
        parts = network.audio_model, network.audio_projection, network.text_model, network.text_projection
        self.sha256 = hashlib.sha256(" ".join(map(fingerprint, parts)).encode()).hexdigest()

    def embed(self, waveform: Tensor, captions: Sequence[str] | None) -> dict[str, Tensor]:
        """Waveform (B, T) at the model's rate -> `embedding`, and with captions `text` and `similarity`."""
        embedding = torch.stack([self._hear(clip) for clip in waveform])[:, None]  # (B, 1, D)
        if captions is None:
            return {"embedding": embedding}
        text = torch.stack([self._read(caption) for caption in captions])[:, None]  # (B, 1, D)
        return {"embedding": embedding, "text": text, "similarity": (embedding * text).sum(-1, keepdim=True)}

    def passport(self) -> dict[str, Any]:
        """Everything its features depend on, as plain values."""
        window = f"{self.window / self.sample_rate:g} s"
        settings = ("fft_window_size", "hop_length", "feature_size", "frequency_min", "frequency_max", "truncation", "padding")
        return super().passport() | {
            "front_end": "-".join(str(getattr(self.front_end, name)) for name in settings),
            "windows": f"{window} without overlap, the last ends with the clip if it adds {TAIL:g} of one; mean of unit embeddings",
        }

    def starts(self, num_samples: int) -> list[int]:
        """First sample of every window of a clip of `num_samples`."""
        count = max(1, math.ceil(num_samples / self.window - TAIL))
        return [max(0, min(i * self.window, num_samples - self.window)) for i in range(count)]

    def _hear(self, clip: Tensor) -> Tensor:
        """One clip (T,) -> embedding (D,) of norm 1."""
        windows = [clip[start : start + self.window].cpu().numpy() for start in self.starts(len(clip))]
        log_mel = self.front_end(windows, sampling_rate=self.sample_rate, return_tensors="pt").input_features  # (W, C, F, M)
        # The front end of models with fusion marks a random clip as longer than its window; none is.
        rows = [
            self.network.get_audio_features(some, is_longer=torch.zeros(len(some), 1, dtype=torch.bool)).pooler_output
            for some in log_mel.float().to(clip.device).split(AT_ONCE)
        ]
        return F.normalize(torch.cat(rows).mean(0), dim=0)

    def _read(self, caption: str) -> Tensor:
        """One caption -> embedding (D,) of norm 1."""
        tokens = self.tokenizer(caption, truncation=True, return_tensors="pt").to(self.network.device)
        return self.network.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output[0]


def _whole(model: Path) -> tuple[ClapModel, ClapProcessor]:
    """A CLAP in a folder or a hub id of its own."""
    return load_pretrained(ClapModel, model), ClapProcessor.from_pretrained(model, local_files_only=True)


def _towers(model: Path) -> tuple[ClapModel, ClapProcessor]:
    """The CLAP inside an AudioLDM: each tower in a sub-folder."""
    audio = load_pretrained(ClapAudioModelWithProjection, model, subfolder="audio_encoder")
    text = load_pretrained(ClapTextModelWithProjection, model, subfolder="text_encoder")
    config = ClapConfig(
        text_config=text.config.to_dict(), audio_config=audio.config.to_dict(), projection_dim=text.config.projection_dim
    )
    scales = {name: torch.zeros(()) for name in ("logit_scale_a", "logit_scale_t")}  # of its training loss, not saved
    state = {**audio.state_dict(), **text.state_dict(), **scales}
    front_end = ClapFeatureExtractor.from_pretrained(model, subfolder="feature_extractor", local_files_only=True)
    tokenizer = RobertaTokenizer.from_pretrained(model, subfolder="tokenizer", local_files_only=True)
    return ClapModel.from_pretrained(None, config=config, state_dict=state), ClapProcessor(front_end, tokenizer)
