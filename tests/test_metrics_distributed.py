"""Metrics on two processes: the same numbers, bit for bit, as on one."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from audioldm_lit.metrics.base import ClipMetric
from audioldm_lit.metrics.divergence import KLDivergence
from audioldm_lit.metrics.extractors.base import AudioBatch, Extractor
from audioldm_lit.metrics.frechet import FrechetDistance
from audioldm_lit.metrics.inception import InceptionScore
from audioldm_lit.metrics.kernel import KAD

RATE = 16_000
CLIPS = 60
# Which clips come to each process, batch by batch; 0 to 19 come twice, as where a loader fills its last round.
SHARES = {
    "uneven batches": ([range(7), range(7, 8), range(8, 40)], [range(40, 60), range(20)]),
    "an empty process": ([range(60)], []),
    "the other one empty": ([], [range(31), range(31, 60)]),
    "interleaved": ([range(0, 60, 2), [1]], [range(1, 60, 2)]),
}


class Levels(Extractor):
    """Level and roughness of every tenth of a clip, computed clip by clip."""

    features = ("embedding", "logits")
    name = "levels"
    sample_rate = RATE
    min_samples = 800

    def embed(self, waveform, captions):
        tenths = [one.reshape(10, -1) for one in waveform]
        rows = torch.stack([torch.stack([one.std(dim=1), one.diff(dim=1).abs().mean(dim=1)], dim=1) for one in tenths])
        return {"embedding": rows, "logits": 20 * rows}


def metrics() -> dict[str, ClipMetric]:
    levels = Levels()
    return {
        "frechet": FrechetDistance(levels),
        "kad": KAD(levels),
        "inception": InceptionScore(levels),
        "ten splits": InceptionScore(levels, splits=10),
        "kl": KLDivergence(levels),
    }


def clips(side: int, numbers: list[int]) -> AudioBatch:
    waveforms = [(0.1 + i / 100) * torch.randn(1600, generator=torch.Generator().manual_seed(2 * i + side)) for i in numbers]
    return AudioBatch([f"clip {i}" for i in numbers], torch.stack(waveforms), RATE)


def results(batches: list) -> dict[str, dict[str, Tensor]]:
    """Value and rows of every metric; rows are asked for before and after the value."""
    found = {}
    for name, metric in metrics().items():
        for numbers in batches:
            metric.update(clips(0, list(numbers)), clips(1, list(numbers)))
        before = metric.gathered()
        figures = {"value": metric.compute(), "measured": torch.tensor(metric.measure(*before).value, dtype=torch.float64)}
        for when, sides in (("before", before), ("after", metric.gathered())):
            for side, rows in zip(metric.sides, sides, strict=True):
                figures |= {f"{when} {side} {part}": getattr(rows, part) for part in ("values", "clip", "ids")}
        found[name] = figures
    return found


def work(rank: int, folder: Path) -> None:
    torch.save({name: results(list(share[rank])) for name, share in SHARES.items()}, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def together(ranks, tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("together")
    ranks(work, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict:
    return results([range(CLIPS)])


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("rank", range(2))
def test_every_process_gets_bit_for_bit_what_one_alone_gets(together, alone, share, rank):
    for name, figures in alone.items():
        for part, tensor in figures.items():
            assert torch.equal(together[rank][share][name][part], tensor), (name, part)


def test_one_process_gives_what_it_was_given(alone):
    assert len(alone["frechet"]["before preds ids"]) == CLIPS
    assert len(alone["frechet"]["before preds values"]) == 10 * CLIPS
    for figures in alone.values():
        assert figures["value"].isfinite()
        assert torch.equal(figures["value"], figures["measured"])
