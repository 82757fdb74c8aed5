"""Recordings as metrics take them, and what a model's decoder makes of them."""

from collections.abc import Iterator

import torch

from audioldm_lit.audio.waveform import resample
from audioldm_lit.backbone import Backbone, VocoderName
from audioldm_lit.data.clips import ClipDataset
from audioldm_lit.evaluation.protocol import Protocol
from audioldm_lit.metrics.extractors.base import AudioBatch


def recordings(clips: ClipDataset, rank: int, ranks: int, device: torch.device) -> Iterator[AudioBatch]:
    """This process's share of recordings, one after the other.

    Args:
        clips: The recordings of all processes.
        rank: Number of this process.
        ranks: Number of processes.
        device: Where the waveforms go.
    """
    for index in range(rank, len(clips), ranks):
        item = clips[index]
        yield AudioBatch([item["id"]], item["waveform"][None].to(device), clips.sample_rate, [item["caption"]])


def reconstructed(batch: AudioBatch, backbone: Backbone, vocoder: VocoderName) -> AudioBatch:
    """Recordings after their way through VAE and vocoder, clip by clip, so that no bit depends on what it is batched with."""
    waveform = resample(batch.waveform, batch.sample_rate, backbone.sample_rate).to(backbone.device)
    made = torch.cat([backbone.reconstruct(clip[None], vocoder) for clip in waveform])
    return AudioBatch(batch.ids, made, backbone.sample_rate, batch.captions)


def give_pair(protocol: Protocol, preds: AudioBatch, target: AudioBatch, backbone: Backbone, vocoder: VocoderName) -> None:
    """Give a protocol generated clips and their recordings, which metrics of pairs see at once, and reconstructions where asked.

    Args:
        protocol: Is updated.
        preds: Generated clips.
        target: The recordings of the same ids.
        backbone: The model that generated, or one of the same VAE and vocoder.
        vocoder: What its latents were made sound with.
    """
    again = reconstructed(target, backbone, vocoder) if protocol.asks_for("reconstructed") else None
    protocol.update(preds=preds, target=target, reconstructed=again)
