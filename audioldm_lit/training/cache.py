"""Latents and embeddings on disk, so that training touches neither VAE nor CLAP.

A row's key is a hash of everything it depends on: the file's bytes and how they are fitted and augmented, the encoders' weights,
the front end and the storage format. Change any of them and a new row is made; nothing stale can be read. A damaged row is
encoded again.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from audioldm_lit.audio.loudness import SilentError
from audioldm_lit.backbone import Backbone
from audioldm_lit.console.stages import say, track
from audioldm_lit.data.clips import ClipDataset, ItemDataset
from audioldm_lit.errors import InputError
from audioldm_lit.storage.prefetch import prefetch
from audioldm_lit.storage.shards import Shards

FORMAT = "latents-float16/2"  # posterior mean and standard deviation; float16 keeps three digits more than the VAE is exact to
ROWS = 1024  # a shard: 134 MB of latents of 10.24 s
SECONDS = 60  # of encoding that an interruption may cost


class EncodedDataset(ItemDataset):
    """A clip data set after the encoders.

    Args:
        clips: The clips; read again only where `waveforms`.
        keys: Key of each item's row in `latents`.
        latents: Rows with `mean`, `std` and, where wanted, `audio_embeds`.
        prompt_embeds: Text embedding (D,) of each text that a caption may be given as.
        waveforms: Whether items also carry the recording, for metrics that compare with it.
    """

    def __init__(
        self, clips: ClipDataset, keys: Sequence[str], latents: Shards, prompt_embeds: Mapping[str, Tensor], waveforms: bool
    ) -> None:
        self.clips = clips
        self.keys = keys
        self.latents = latents
        self.prompt_embeds = prompt_embeds
        self.waveforms = waveforms

    def __len__(self) -> int:
        """Number of items."""
        return len(self.clips)

    @property
    def choices(self) -> int:
        """How many ways there are to choose an item's text, see `ClipDataset`."""
        return self.clips.choices

    def contents(self) -> dict[str, dict[str, Any]]:
        """Caption, other captions if any, and hash of the audio of each clip, by its id; variants are left out."""
        clips = zip(self.clips.clips, self.keys, strict=False)  # variants follow the clips
        return {
            clip.id: {"caption": clip.caption, "audio_sha256": key, **({"others": clip.others} if clip.others else {})}
            for clip, key in clips
        }

    def fingerprint(self) -> str:
        """SHA-256 of all contents: equal for data sets of the same clips."""
        return _hash(json.dumps(self.contents(), sort_keys=True))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Item with `id`, `caption`, `prompt_embeds` (D,), `mean` and `std` (C, F/4, M/4), and `audio_embeds` (D,) where cached."""
        caption, index = self.clips.text(index), index % len(self)
        encoded = {name: value.float() for name, value in self.latents[self.keys[index]].items()}
        item = {"id": self.clips.id(index), "caption": caption, "prompt_embeds": self.prompt_embeds[caption], **encoded}
        return {**item, "waveform": self.clips.waveform(index)} if self.waveforms else item


class Cache:
    """Encodes data sets and remembers the result.

    Args:
        folder: Where encoded clips are kept; made when needed.
        backbone: The encoders, in float32.
        audio_embeds: Whether CLAP audio embeddings are wanted.
        vae: Fingerprint of the VAE before an adapter worked on its decoder, of which no latent knows; by default as it is.
    """

    def __init__(self, folder: Path, backbone: Backbone, audio_embeds: bool, vae: str | None = None) -> None:
        self.backbone = backbone
        self.audio_embeds = audio_embeds
        encoders = [FORMAT, backbone.log_mel.fingerprint, vae or backbone.fingerprint("vae")]
        if audio_embeds:
            backbone.require_audio_encoder()
            encoders.append(backbone.fingerprint("audio_encoder"))
        self.latents = Shards(folder / f"latents-{_hash(' '.join(encoders))[:16]}")
        self.texts = Shards(folder / f"text-{_hash('text/3 ' + backbone.fingerprint('text_encoder'))[:16]}")
        self._keys: dict[ClipDataset, list[str]] = {}

    def fill(self, clips: ClipDataset, rank: int = 0, num_ranks: int = 1) -> None:
        """Encode what is not cached yet.

        Args:
            clips: The data set.
            rank: This process encodes every `num_ranks`-th item and text; the caller waits for the others.
            num_ranks: Number of processes that encode.

        Raises:
            InputError: If a clip cannot be read or encodes to values that are not finite, or clips are silent.
        """
        # The share goes by the item, not by what is missing: another process is filling the cache at this moment.
        share = range(rank, len(clips), num_ranks)
        keys = self.keys(clips)
        items = {keys[index]: index for index in share}
        missing = {key: items[key] for key in self.latents.missing(items)}
        silent: list[SilentError] = []
        _write(self.latents, self._rows(clips, missing, silent), len(missing), "clips")
        _refuse(silent)
        if clips.one_channel:
            say(f"opposite polarity: the channels cancel each other, and one is taken, of {listed(sorted(clips.one_channel))}")
        texts = {_hash(text): text for text in _texts(clips)[rank::num_ranks]}
        unknown = self.texts.missing(texts)
        _write(self.texts, ((key, self._encode_text(texts[key])) for key in unknown), len(unknown), "captions")

    def read(self, clips: ClipDataset, waveforms: bool = False) -> EncodedDataset:
        """The encoded data set, once all processes have filled the cache; `waveforms` adds the recordings to its items."""
        self.latents.refresh()
        self.texts.refresh()
        embeds = {text: self.texts[_hash(text)]["prompt_embeds"] for text in _texts(clips)}
        return EncodedDataset(clips, self.keys(clips), self.latents, embeds, waveforms)

    def missing(self, clips: ClipDataset) -> tuple[int, int]:
        """How many items and how many texts of a data set are not encoded yet."""
        return len(self.latents.missing(self.keys(clips))), len(self.texts.missing({_hash(text) for text in _texts(clips)}))

    def keys(self, clips: ClipDataset) -> list[str]:
        """Key of every item; each file is read once."""
        if clips not in self._keys:
            keys = prefetch(clips.content_key, range(len(clips)))
            self._keys[clips] = list(track(keys, f"reading {len(clips)} clips", len(clips)))
        return self._keys[clips]

    def _rows(
        self, clips: ClipDataset, missing: Mapping[str, int], silent: list[SilentError]
    ) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Encoded clips by their keys; once a silent one is found, the rest are read alone, so that all silent ones are named."""

        def read(index: int) -> Tensor | SilentError:
            try:
                return clips.waveform(index)
            except SilentError as error:
                return error

        for key, waveform in zip(missing, prefetch(read, missing.values()), strict=True):
            if isinstance(waveform, SilentError):
                silent.append(waveform)
            elif not silent and key not in self.latents:  # another run may have encoded it meanwhile
                yield key, self._encode_clip(clips.where(missing[key]), waveform)

    def _encode_clip(self, where: str, waveform: Tensor) -> dict[str, Tensor]:
        waveform = waveform[None].to(self.backbone.device)  # (1, T): clip by clip, batches would move the last bits
        mean, std = self.backbone.encode_posterior(waveform)
        encoded = {"mean": mean[0].half(), "std": std[0].half()}
        return _finite(
            {**encoded, "audio_embeds": self.backbone.encode_audio(waveform)[0]} if self.audio_embeds else encoded, where
        )

    def _encode_text(self, caption: str) -> dict[str, Tensor]:
        return _finite({"prompt_embeds": self.backbone.encode_text([caption])[0]}, f"caption '{caption}'")


def _refuse(silent: Sequence[SilentError]) -> None:
    """Refuse silent clips, all in one sentence."""
    if len(silent) == 1:
        raise silent[0]
    if silent:
        problem = "are silent: as mono and without their offset, nothing reaches -60 dB of full scale"
        raise SilentError(
            listed([error.where for error in silent]), problem, "record them again, or leave them out, as prepare --fix does"
        )


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, the first five of many."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _texts(clips: ClipDataset) -> list[str]:
    """Each text of a data set once."""
    return sorted({text for item in range(len(clips)) for text in clips.texts(item)})


def _hash(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _finite(encoded: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    if not all(value.isfinite().all() for value in encoded.values()):
        raise InputError(where, "encodes to values that are not finite", "remove it from the data set")
    return encoded


def _write(store: Shards, rows: Iterable[tuple[str, dict[str, Tensor]]], count: int, what: str) -> None:
    """Write rows as they come, a shard at a time; what was encoded before an error or an interruption is kept."""
    done: dict[str, dict[str, Tensor]] = {}
    began = time.monotonic()
    try:
        for key, row in track(rows, f"encoding {count} {what}", count):
            done[key] = row
            if len(done) == ROWS or time.monotonic() - began > SECONDS:
                store.write(done)
                done, began = {}, time.monotonic()
    finally:
        if done:
            store.write(done)
