"""Batches of a data set, read in this process or in others."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from audioldm_lit.data.clips import ItemDataset
from audioldm_lit.errors import InputError


def batches(dataset: ItemDataset, sampler: Sampler[int], batch_size: int, num_workers: int) -> "Batches":
    """A loader of a data set's items, stacked, that raises wrong input with all its fields whichever process met it."""
    return Batches(
        _Reading(dataset),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=_stacked,
    )


class Batches(DataLoader[Any]):
    """A loader whose items may be errors: PyTorch makes what a reader process raises anew from one text, without its fields."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # PyTorch promises a private class here
        """Yield batches; raise an error where one comes instead."""
        return map(_raised, super().__iter__())


class _Reading(Dataset[Any]):
    """Items of a data set; the error where one cannot be read."""

    def __init__(self, dataset: ItemDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except InputError as error:
            return error


def _stacked(items: list[Any]) -> Any:
    return next((item for item in items if isinstance(item, InputError)), None) or default_collate(items)


def _raised(batch: Any) -> Any:
    if isinstance(batch, InputError):
        raise batch
    return batch
