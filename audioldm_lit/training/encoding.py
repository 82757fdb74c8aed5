"""From recordings to what training reads, by all processes together."""

from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.clips import ClipDataset, Split
from audioldm_lit.errors import InputError
from audioldm_lit.storage.gather import gather
from audioldm_lit.training.cache import Cache, EncodedDataset


def encode(data: AudioDataModule, cache: Cache, rank: int, ranks: int, waveforms: bool = False) -> None:
    """Swap every data set of `data` for its encoded one; every process calls it and has its share.

    Args:
        data: The data, set up.
        cache: Where encoded clips are kept.
        rank: Number of this process.
        ranks: Number of processes.
        waveforms: Whether items also carry the recording.

    Raises:
        InputError: In every process, what one of them finds wrong.
    """
    recordings = {split: clips for split, clips in data.datasets.items() if isinstance(clips, ClipDataset)}
    problem = None
    try:
        for clips in recordings.values():
            cache.fill(clips, rank, ranks)
    except InputError as error:
        problem = error
    for found in filter(None, gather(problem)):  # waits for all, so that no process reads what another has not yet encoded
        raise found
    for split, clips in recordings.items():
        data.datasets[split] = cache.read(clips, waveforms)


def encoded(data: AudioDataModule, split: Split) -> EncodedDataset:
    """What `encode` has made of a split."""
    dataset = data.datasets[split]
    assert isinstance(dataset, EncodedDataset)
    return dataset
