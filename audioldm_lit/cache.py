"""Latents and embeddings on disk, so that training touches neither VAE nor CLAP.

One safetensors file a clip, named by a hash of everything it depends on: the file's bytes and how they are fitted, the encoders'
weights, the front end and the storage format. Change any and another file is made; nothing stale can be read.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import track
from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import Dataset

from audioldm_lit.backbone import Backbone
from audioldm_lit.data.clips import ClipDataset
from audioldm_lit.errors import InputError
from audioldm_lit.folders import whole

FORMAT = "latents-float16/1"  # posterior mean and standard deviation; float16 keeps three digits more than the VAE is exact to


class EncodedDataset(Dataset):
    """A clip data set after the encoders.

    Args:
        clips: The clips; read again only where `waveforms`.
        paths: The cached file of each clip.
        prompt_embeds: Text embedding (D,) of each caption.
        waveforms: Whether items also carry the recording, for metrics that compare with it.
    """

    def __init__(self, clips: ClipDataset, paths: Sequence[Path], prompt_embeds: dict[str, Tensor], waveforms: bool) -> None:
        self.clips = clips
        self.paths = paths
        self.prompt_embeds = prompt_embeds
        self.waveforms = waveforms

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Item with `id`, `caption`, `prompt_embeds` (D,), `mean` and `std` (C, F/4, M/4), and `audio_embeds` (D,) where cached."""
        clip = self.clips.clips[index]
        encoded = {name: value.float() for name, value in load_file(self.paths[index]).items()}
        item = {"id": clip.id, "caption": clip.caption, "prompt_embeds": self.prompt_embeds[clip.caption], **encoded}
        return {**item, "waveform": self.clips[index]["waveform"]} if self.waveforms else item


class Cache:
    """Encodes data sets and remembers the result.

    Args:
        folder: Where encoded clips are kept; made when needed.
        backbone: The encoders, in float32.
        audio_embeds: Whether CLAP audio embeddings are wanted.
    """

    def __init__(self, folder: Path, backbone: Backbone, audio_embeds: bool) -> None:
        self.folder = folder
        self.backbone = backbone
        self.audio_embeds = audio_embeds
        encoders = [FORMAT, backbone.log_mel.fingerprint, backbone.fingerprint("vae"), str(backbone.vae.config.scaling_factor)]
        if audio_embeds:
            backbone.require_audio_encoder()
            encoders.append(backbone.fingerprint("audio_encoder"))
        self.encoders = " ".join(encoders)
        self.text_encoder = f"text/1 {backbone.fingerprint('text_encoder')}"

    def encode(self, clips: ClipDataset, rank: int = 0, num_ranks: int = 1, waveforms: bool = False) -> EncodedDataset:
        """Encode what is not cached yet.

        Args:
            clips: The data set.
            rank: This process sees to every `num_ranks`-th clip; the caller waits for the others.
            num_ranks: Number of processes that encode.
            waveforms: Whether items shall also carry the recording.

        Raises:
            InputError: If a clip cannot be read or encodes to values that are not finite.
        """
        paths = [self._path(f"{self.encoders} {clips.content_key(index)}") for index in range(len(clips))]
        # The share goes by the clip, not by what is missing: another process is filling the cache at this moment.
        missing = [index for index in range(rank, len(paths), num_ranks) if not paths[index].is_file()]
        for index in track(missing, description=f"encoding {len(missing)} clips", transient=True, disable=not missing or rank > 0):
            self._keep(paths[index], self._encode_clip(clips, index), str(clips.clips[index].path))
        captions = sorted({clip.caption for clip in clips.clips})
        return EncodedDataset(clips, paths, {caption: self.encode_text(caption) for caption in captions}, waveforms)

    def encode_text(self, caption: str) -> Tensor:
        """Text embedding (D,) of a caption."""
        path = self._path(f"{self.text_encoder} {caption}")
        if not path.is_file():
            self._keep(path, {"prompt_embeds": self.backbone.encode_text([caption])[0]}, f"caption '{caption}'")
        return load_file(path)["prompt_embeds"]

    def _path(self, content: str) -> Path:
        key = hashlib.sha256(content.encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.safetensors"

    def _encode_clip(self, clips: ClipDataset, index: int) -> dict[str, Tensor]:
        waveform = clips[index]["waveform"][None].to(self.backbone.device)  # (1, T)
        mean, std = self.backbone.encode_posterior(waveform)
        encoded = {"mean": mean[0].half(), "std": std[0].half()}
        return {**encoded, "audio_embeds": self.backbone.encode_audio(waveform)[0]} if self.audio_embeds else encoded

    def _keep(self, path: Path, encoded: dict[str, Tensor], origin: str) -> None:
        """Write a cached file; several processes may write the same one."""
        if not all(value.isfinite().all() for value in encoded.values()):
            raise InputError(f"{origin}: encodes to values that are not finite; remove it from the data set.")
        with whole(path) as unfinished:
            unfinished.write_bytes(save({name: value.cpu().contiguous() for name, value in encoded.items()}))
