"""Several clips of a prompt, of which the one that CLAP hears the prompt in is kept, as AudioLDM's own script does."""

from collections.abc import Container, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from audioldm_lit.inference.manifest import Entry
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.metrics.extractors.clap import CLAP

Keep = Literal["all", "best"]
Group = Sequence[Entry]  # clips of which one is kept


class Judge:
    """Scores clips against their prompts.

    Args:
        model: Folder or hub id of a CLAP, or of an AudioLDM that has both towers, see `CLAP`. One that did not condition the clips
            is the less biased judge.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.clap = CLAP(model)

    def spec(self) -> dict[str, Any]:
        """Who judged, as it goes into manifests."""
        return {"judge": self.model, "judge_sha256": self.clap.sha256}

    def scores(self, entries: Sequence[Entry], waveforms: Sequence[Tensor], sample_rate: int) -> list[float]:
        """Cosine in [-1, 1] of each clip (T,) and its prompt."""
        ids, prompts = zip(*((entry.file, entry.prompt) for entry in entries), strict=True)
        similarity = self.clap(AudioBatch(ids, torch.stack(list(waveforms)), sample_rate, prompts))["similarity"]
        return [float(score) for score in similarity.flatten()]


def groups(texts: Iterable[str], seed: int, num_candidates: int, keep: Keep) -> list[Group]:
    """Candidates of every text: together where the best of them is kept, else each by itself."""
    each: list[Group] = [[Entry(text, text, seed, candidate) for candidate in range(num_candidates)] for text in texts]
    return each if keep == "best" else [[entry] for candidates in each for entry in candidates]


def missing(groups: Sequence[Group], there: Container[Entry], batch_size: int) -> list[Sequence[Group]]:
    """Batches of groups in one of which no clip is there yet, whole.

    What is generated together is the same whatever is there already and however batches are shared out among processes, so that
    on one kind of machine every clip is the same bit for bit.

    Args:
        groups: Of one size.
        there: Which clips are there.
        batch_size: Clips generated at once.
    """
    step = max(1, batch_size // len(groups[0]))
    batches = [groups[start : start + step] for start in range(0, len(groups), step)]
    return [batch for batch in batches if not all(any(entry in there for entry in group) for group in batch)]
