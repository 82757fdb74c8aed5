"""Random numbers that depend on what they are for, not on when they are drawn.

Every random number of training, validation and sampling comes from a CPU generator seeded by a key such as
(seed, prompt id, candidate id). The same clip therefore gets the same noise whatever the batch size, the number of ranks or the
device, a resumed run continues exactly, and listening to samples during training cannot change the training.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def number(*key: object) -> int:
    """A 63-bit number that depends on the key alone, on every machine and in every process."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*key: object) -> torch.Generator:
    """A CPU generator seeded by the key."""
    return torch.Generator().manual_seed(number(*key))


class Placed(torch.Generator):
    """A generator that knows its place in the stream of training samples, for draws that should be spread evenly along it.

    Attributes:
        seed_of_stream: Seed of the whole stream.
        place: 0 for the first sample of the run.
    """

    seed_of_stream: int
    place: int


def placed(seed: int, place: int) -> Placed:
    """The generator of one place in a run's stream of training samples."""
    made = Placed()
    made.manual_seed(number(seed, "train", place))
    made.seed_of_stream, made.place = seed, place
    return made


def normal(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normal noise (B, *shape): row i from generator i."""
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])


def uniform(generators: Sequence[torch.Generator]) -> Tensor:
    """Uniform numbers (B,) in [0, 1): number i from generator i."""
    return torch.stack([torch.rand((), generator=generator) for generator in generators])
