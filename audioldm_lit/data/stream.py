"""The order of training: one endless shuffled stream, the same for any number of processes and after resuming."""

from collections.abc import Iterator

from torch.utils.data import DistributedSampler

from audioldm_lit import seeding


class TrainingStream(DistributedSampler):
    """An endless shuffled stream of clips, cut into batches; few-shot training is counted in steps, not in epochs.

    Position p of the stream is clip p mod n of the permutation of pass p // n, so the stream depends on the seed alone: two ranks
    with half the batch each see the batches that one process sees, a resumed run continues at its step, and a data set smaller
    than a batch simply repeats.

    Args:
        num_clips: n, clips in the training set.
        batch_size: Clips per step on all ranks together.
        num_batches: Batches in the whole run.
        first_batch: Where a resumed run continues.
        rank: This process.
        num_replicas: Number of processes.
        seed: Seed of the order.
        variants: v, items a clip, clip c being items c, n + c, 2 n + c and so on; every time a clip comes, one is drawn.
        choices: How many ways there are to choose a text, the k-th of item i being index k v n + i; drawn for itself alone.
    """

    def __init__(
        self,
        num_clips: int,
        batch_size: int,
        num_batches: int,
        first_batch: int,
        rank: int,
        num_replicas: int,
        seed: int,
        variants: int = 1,
        choices: int = 1,
    ) -> None:
        # Of the data set it asks for the length alone.
        super().__init__(range(num_clips), num_replicas, rank, seed=seed)  # type: ignore[arg-type]
        self.num_clips = num_clips
        self.variants = variants
        self.choices = choices
        self.positions = range(first_batch * batch_size + rank, num_batches * batch_size, num_replicas)
        self.length = num_batches * batch_size // num_replicas

    def __len__(self) -> int:
        """Clips of the whole run on this rank, those before `first_batch` included (Lightning counts them as fetched)."""
        return self.length

    def __iter__(self) -> Iterator[int]:
        """Yield indices of items."""
        current, order = -1, []
        for position in self.positions:
            turn, place = divmod(position, self.num_clips)
            if turn != current:
                current = turn
                order = sorted(range(self.num_clips), key=lambda index: seeding.number(self.seed, "order", turn, index))
            clip = order[place]
            variant = seeding.number(self.seed, "variant", turn, clip) % self.variants
            choice = seeding.number(self.seed, "text", turn, clip) % self.choices
            yield (choice * self.variants + variant) * self.num_clips + clip
