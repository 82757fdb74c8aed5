"""Recordings as metrics take them."""

from collections.abc import Iterator

import torch

from audioldm_lit.data.clips import ClipDataset
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
