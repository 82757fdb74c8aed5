"""The metric seam: values that belong to clips, gathered over processes without counting one twice."""

from abc import ABC
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from audioldm_lit import noise


class ClipMetric(Metric, ABC):
    """Base of metrics that keep one row a clip.

    Rows are gathered from all processes, dropped where a clip came twice (distributed loaders repeat a few to fill the last
    round), and sorted by clip, so that the value is the same for one process and for many.

    Subclasses implement `update(ids, preds, target)`, which calls `add`, and `compute()`, which calls `gathered`. In `test`,
    `preds` are generated waveforms (B, T), `target` the recordings (B, T), both at the model's sample rate.
    """

    full_state_update = False
    clip_ids: list[Tensor]
    rows: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("clip_ids", default=[], dist_reduce_fx="cat")
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def add(self, ids: Sequence[str], rows: Tensor) -> None:
        """Keep rows (B,) or (B, D) of the clips named `ids`."""
        numbers = [noise.number(one) for one in ids]
        self.clip_ids.append(torch.tensor(numbers, dtype=torch.int64, device=rows.device))
        self.rows.append(rows.detach())

    def gathered(self) -> Tensor:
        """Rows (N,) or (N, D) of every clip once, sorted by clip."""
        rows, ids = dim_zero_cat(self.rows), dim_zero_cat(self.clip_ids)
        ids, order = ids.sort(stable=True)
        first = torch.ones_like(ids, dtype=torch.bool)
        first[1:] = ids[1:] != ids[:-1]
        return rows[order][first]
