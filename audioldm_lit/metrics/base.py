"""The metric seam: an extractor's rows for the clips of each side, and a pure function of those rows.

Rows are gathered from all processes, dropped where a clip came twice (distributed loaders repeat some to fill the last round),
refused where two clips have one id, and sorted by clip, so that a value is the same, bit for bit, on one process and on many.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.plot import plot_single_or_multi_val

from audioldm_lit import seeding
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.metrics.extractors.base import AudioBatch, Extractor
from audioldm_lit.seams import check_call
from audioldm_lit.storage.gather import gather

STATES = ("ids", "places", "rows")  # of every side: each row's clip, its place in the clip, itself
SAME = 0.05  # of a row's norm: a clip that came twice, in another batch and perhaps bfloat16, stays within it


@dataclass(frozen=True, eq=False)
class Rows:
    """Feature rows of a set of clips, sorted by clip.

    Attributes:
        values: (R, D), as extracted.
        clip: (R,) index of each row's clip, 0 to N - 1, ascending.
        ids: (N,) number of each clip's name (`seeding.number`), ascending.
    """

    values: Tensor
    clip: Tensor
    ids: Tensor

    @property
    def num_clips(self) -> int:
        """N."""
        return len(self.ids)

    def take(self, clips: Tensor) -> "Rows":
        """The rows of some clips, given by indices in any order or by a mask (N,); the result is sorted by clip."""
        mask = torch.zeros(self.num_clips, dtype=torch.bool, device=self.ids.device)
        mask[clips] = True
        kept = mask[self.clip]
        index = mask.cumsum(0) - 1
        return Rows(self.values[kept], index[self.clip[kept]], self.ids[mask])

    def named(self, names: Sequence[str]) -> "Rows":
        """The rows of the clips with these names."""
        numbers = torch.tensor([seeding.number(name) for name in names], dtype=torch.int64, device=self.ids.device)
        return self.take(torch.isin(self.ids, numbers))

    def mean(self) -> Tensor:
        """(N, D) float64: each clip's mean row."""
        sums = torch.zeros(self.num_clips, self.values.shape[1], dtype=torch.float64, device=self.values.device)
        return sums.index_add_(0, self.clip, self.values.double()) / self.clip.bincount(minlength=self.num_clips)[:, None]


class ClipMetric(Metric, ABC):
    """Base of every metric: rows for each side's clips, and `measure`, a pure function of them.

    A subclass implements `measure`; it is either given an extractor, or implements `update` and calls `add` there. `update` accepts
    batches of clips: `preds`, generated, `target`, recorded, `train`, the recordings that were trained on, and `reconstructed`, the
    `target` through the VAE and the vocoder of the model that generated; any may be absent.

    Args:
        extractor: What turns clips into rows.
        features: Which of the extractor's features are the rows.
        **kwargs: See `torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    sides: tuple[str, ...] = ("preds", "target")  # what `measure` is given, in this order
    floor = False  # whether recordings against recordings give a lower end to read the value by

    def __init__(self, extractor: Extractor | None = None, features: str = "embedding", **kwargs: Any) -> None:
        super().__init__(dist_sync_fn=_gather_state, sync_on_compute=False, **kwargs)  # `gathered` does it
        check_call(self.measure, type(self).__name__, *self.sides)
        if extractor is not None and features not in extractor.features:
            known = ", ".join(extractor.features)
            raise InputError(type(self).__name__, f"the extractor {extractor.name} has no features '{features}'", f"use {known}")
        self.extractor = extractor
        self.features = features
        self.names: dict[int, str] = {}  # of this process's clips by number, for errors
        self.counts: dict[str, int] = {}  # clips that came without ids, by side
        for side in self.sides:
            for state in STATES:
                self.add_state(f"{side}_{state}", default=[], dist_reduce_fx="cat")

    def update(
        self,
        preds: AudioBatch | Tensor | None = None,
        target: AudioBatch | Tensor | None = None,
        train: AudioBatch | Tensor | None = None,
        reconstructed: AudioBatch | Tensor | None = None,
        sample_rate: int | None = None,
    ) -> None:
        """Extract and keep the rows of the clips of each side that the metric has.

        Tensors are given without ids: the n-th clip of one side is the pair of the n-th of another. With a `sample_rate` in Hz they
        are waveforms (B, T), else features, (B, D), one a clip, or (B, R, D), R a clip.

        Raises:
            InputError: If a waveform finds no extractor, or features are not finite.
        """
        given = {"preds": preds, "target": target, "train": train, "reconstructed": reconstructed}
        for side in self.sides:
            if isinstance(features := given[side], Tensor) and sample_rate is None and self.extractor is None:
                self._keep(side, features)
            elif (batch := self.batch(side, given[side], sample_rate)) is not None:
                # A clip without caption has no similarity to one; NaN is refused in the end, a missing row would go unnoticed.
                nothing = batch.waveform.new_full((len(batch.ids), 1), torch.nan)
                if self.extractor is None:
                    raise InputError(type(self).__name__, "has no extractor", "give it one")
                self.add(side, batch.ids, self.extractor(batch).get(self.features, nothing))

    def batch(self, side: str, given: AudioBatch | Tensor | None, sample_rate: int | None) -> AudioBatch | None:
        """What `update` was given for a side as a batch: waveforms (B, T) get ids, numbers in the order in which they come."""
        if not isinstance(given, Tensor):
            return given
        if sample_rate is None:
            raise InputError(
                f"`{side}`", "is a tensor without a sample rate, and this metric hears sound", "give sample_rate in Hz"
            )
        if given.ndim != 2:
            raise InputError(f"`{side}`", f"has the shape {tuple(given.shape)}", "give waveforms (B, T)")
        return AudioBatch(self._numbered(side, len(given)), given, sample_rate)

    def _keep(self, side: str, features: Tensor) -> None:
        """Keep features that came as they are."""
        if features.ndim not in (2, 3):
            raise InputError(f"`{side}`", f"has the shape {tuple(features.shape)}", "give features (B, D) or (B, R, D)")
        broken = int((~features.flatten(1).isfinite().all(dim=1)).sum())
        if broken:
            raise InputError(f"`{side}`", f"{broken} of {len(features)} rows hold NaN or infinity", "leave these clips out")
        self.add(side, self._numbered(side, len(features)), features)

    def _numbered(self, side: str, count: int) -> list[str]:
        """Ids of so many clips more."""
        first = self.counts.get(side, 0)
        self.counts[side] = first + count
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        return [f"{number} of process {rank}" for number in range(first, first + count)]

    def reset(self) -> None:
        """Forget all clips; those without ids are numbered on, the same on every side, as torchmetrics resets within `forward`."""
        super().reset()
        self.counts = dict.fromkeys(self.sides, max(self.counts.values(), default=0))

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw a value, or several, with matplotlib; see `torchmetrics.Metric.plot`."""
        drawn = self.compute() if val is None else val
        return plot_single_or_multi_val(drawn, ax, higher_is_better=self.higher_is_better, name=type(self).__name__)

    def add(self, side: str, ids: Sequence[str], rows: Tensor) -> None:
        """Keep rows of the clips named `ids`: (B,) or (B, D), one a clip, or (B, R, D), R a clip."""
        rows = rows.detach()
        if rows.ndim == 0 or len(rows) != len(ids):
            problem = f"adds rows of shape {tuple(rows.shape)} for {len(ids)} clips"
            raise InputError(type(self).__name__, problem, "add as many as there are ids")
        if rows.ndim < 3:
            rows = rows.reshape(len(ids), 1, -1)
        named = [seeding.number(name) for name in ids]
        self.names.update(zip(named, ids, strict=True))
        numbers = torch.tensor(named, dtype=torch.int64, device=rows.device)
        places = torch.arange(rows.shape[1], device=rows.device)
        getattr(self, f"{side}_ids").append(numbers.repeat_interleave(len(places)))
        getattr(self, f"{side}_places").append(places.repeat(len(ids)))
        getattr(self, f"{side}_rows").append(rows.flatten(0, 1))

    def gathered(self) -> list[Rows]:
        """The rows of every side, of all processes.

        Raises:
            InputError: If a side has no clips, two clips have one id, or an extractor's features are not finite.
        """
        with self.sync_context(_gather_state):
            states = {side: [_joined(getattr(self, f"{side}_{state}")) for state in STATES] for side in self.sides}
        return [self._rows(side, *state) for side, state in states.items()]

    def _rows(self, side: str, ids: Tensor, places: Tensor, rows: Tensor) -> Rows:
        if not len(ids):
            raise InputError(type(self).__name__, f"was given no clips as `{side}`", "give it some")
        order = places.sort(stable=True).indices
        order = order[ids[order].sort(stable=True).indices]  # by clip, then by place in the clip, then by rank
        ids, places, rows = ids[order], places[order], rows[order]
        first = torch.ones_like(ids, dtype=torch.bool)
        first[1:] = (ids[1:] != ids[:-1]) | (places[1:] != places[:-1])
        self._refuse_namesakes(side, ids, first, rows)
        names, clip = ids[first].unique_consecutive(return_inverse=True)
        whole = Rows(rows[first].cpu(), clip.cpu(), names.cpu())  # float64, and sums in one order, whatever the device
        lacking = int((~whole.mean().isfinite().all(dim=1)).sum()) if self.extractor is not None else 0
        if lacking:
            problem = f"{lacking} of {whole.num_clips} clips have no {self.features}, as they have no caption or are broken"
            raise InputError(f"`{side}`", problem, "give them captions, or leave them out")
        return whole

    def _refuse_namesakes(self, side: str, ids: Tensor, first: Tensor, rows: Tensor) -> None:
        """Refuse rows of one clip and place that are not the same; every process sees all rows, so all come to the same end."""
        kept = rows[first][first.cumsum(0) - 1]
        apart = (rows - kept).norm(dim=1) > SAME * torch.maximum(rows.norm(dim=1), kept.norm(dim=1))
        if apart.any():
            numbers = ids[apart].unique().tolist()
            names = {number: name for known in gather(self.names) for number, name in known.items()}
            more = f" and {len(numbers) - 1} more ids" if len(numbers) > 1 else ""
            raise InputError(
                f"`{side}`", f"different clips share the id '{names[numbers[0]]}'{more}", "give each clip an id of its own"
            )

    def value(self, *sides: Any, **_: Any) -> float:  # `Any`, because a subclass gives each of its sides a name
        """The value alone, where that is cheaper than `measure`."""
        return self.measure(*sides).value

    @abstractmethod
    def measure(self, *sides: Any, **_: Any) -> Estimate:
        """The value and each clip's influence on it, from the `Rows` of each of `sides`; a pure function."""

    def compute(self) -> Tensor:
        """The value alone, a float64 scalar."""
        return torch.tensor(self.value(*self.gathered()), dtype=torch.float64)


def paired(preds: Rows, target: Rows) -> tuple[Tensor, Tensor]:
    """Mean rows (N, D) of generated clips and of the recordings of the same ids, in the same order.

    Raises:
        InputError: If a generated clip has no recording of its id.
    """
    alone = ~torch.isin(preds.ids, target.ids)
    if alone.any():
        raise unpaired(int(alone.sum()), preds.num_clips)
    return preds.mean(), target.mean()[torch.searchsorted(target.ids, preds.ids)]


def unpaired(alone: int, whole: int) -> InputError:
    """The error for generated clips without a recording, so many of all."""
    return InputError("ids", f"{alone} of {whole} generated clips have no recording of the same id", "name each as its recording")


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """A state as one tensor, whether or not it was gathered; empty if nothing was added."""
    return state if isinstance(state, Tensor) else torch.cat(state) if state else torch.empty(0)


def _gather_state(state: Tensor, group: Any = None) -> list[Tensor]:
    """A state of all processes, in order of rank; any may be empty.

    torchmetrics' own gathering expects the same dtype and shape from a process without clips, and waits forever or fails.
    """
    return [part.to(state.device) for part in gather(state.cpu(), group) if len(part)] or [state]
