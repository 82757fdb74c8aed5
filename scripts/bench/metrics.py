"""Time metrics against what they could cost and against other programs: `OMP_NUM_THREADS=1 python scripts/bench/metrics.py`.

Features are made up but shaped like a sound classifier's: non-negative, correlated, half zeros. All that is compared runs in one
process on the same threads, those of the variable; run it on an idle machine.
"""

import argparse
import importlib
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from types import ModuleType

import numpy as np
import torch
import torchaudio
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchmetrics.image.fid import _compute_fid

from audioldm_lit.metrics.base import Rows
from audioldm_lit.metrics.frechet import FrechetDistance, frechet_distance
from audioldm_lit.metrics.kernel import KAD
from audioldm_lit.storage.atomic_write import write_json

DIGITS = 40
BATCH = 256  # rows a step where sums are gathered as clips come


def features(count: int, dims: int, seed: int, spread: float = 1.0) -> Tensor:
    """Rows (N, D) float32 of one population, or of a wider one."""
    population, generator = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    latent = max(1, dims // 8)
    mixing = torch.randn(latent, dims, generator=population) / latent**0.5
    return torch.relu(spread * torch.randn(count, latent, generator=generator) @ mixing)


def timed(run: Callable[[], float | Tensor], repeats: int) -> tuple[float, float]:
    """Median seconds, and the value."""
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        value = float(run())
        seconds.append(perf_counter() - start)
    return median(seconds), value


def of_moments(formula: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A formula of two means and covariances as one of rows, in float64."""

    def distance(x: Tensor, y: Tensor) -> Tensor:
        x, y = x.double(), y.double()
        return formula(x.mean(dim=0), torch.cov(x.T), y.mean(dim=0), torch.cov(y.T))

    return distance


def with_scipy(x: Tensor, y: Tensor) -> float:
    """The usual formula: a square root of the product of the covariances."""
    linalg = needed("scipy.linalg")
    rows_x, rows_y = x.double().numpy(), y.double().numpy()
    first, second = np.cov(rows_x, rowvar=False), np.cov(rows_y, rowvar=False)
    shift = rows_x.mean(axis=0) - rows_y.mean(axis=0)
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2 * np.trace(linalg.sqrtm(first @ second).real))


def precise(x: Tensor, y: Tensor) -> float:
    """In 40 digits: the eigenvalues of S1 S2 other than 0 are those of F1 F2^T F2 F1^T (N, N), with F the centred rows."""
    mpmath = needed("mpmath")
    with mpmath.workdps(DIGITS):
        means, factors = [], []
        for rows in (x, y):
            columns = [[mpmath.mpf(number) for number in column] for column in rows.T.tolist()]
            means.append([mpmath.fsum(column) / len(rows) for column in columns])
            centred = [[number - mean for number in column] for column, mean in zip(columns, means[-1], strict=True)]
            scale = mpmath.sqrt(len(rows) - 1)
            factors.append([[number / scale for number in row] for row in zip(*centred, strict=True)])
        cross = mpmath.matrix([[mpmath.fdot(row, other) for other in factors[1]] for row in factors[0]])
        roots = mpmath.fsum(mpmath.sqrt(abs(root)) for root in mpmath.eigsy(cross * cross.T, eigvals_only=True))
        shift = mpmath.fsum((mean - other) ** 2 for mean, other in zip(*means, strict=True))
        traces = mpmath.fsum(number**2 for factor in factors for row in factor for number in row)
        return float(shift + traces - 2 * roots)


def floor(x: Tensor, y: Tensor) -> Tensor:
    """The least a distance of many rows takes: float64 sums as rows come, one Cholesky factor, one set of eigenvalues."""
    means, covariances = [], []
    for rows in (x, y):
        total, products = torch.zeros(rows.shape[1]).double(), torch.zeros(rows.shape[1], rows.shape[1]).double()
        for part in rows.split(BATCH):
            part = part.double()
            total += part.sum(dim=0)
            products.addmm_(part.T, part)
        means.append(total / len(rows))
        covariances.append((products - len(rows) * means[-1].outer(means[-1])) / (len(rows) - 1))
    lower = torch.linalg.cholesky(covariances[0])
    roots = torch.linalg.eigvalsh(lower.T @ covariances[1] @ lower).clamp(min=0).sqrt()
    return (means[0] - means[1]).square().sum() + covariances[0].trace() + covariances[1].trace() - 2 * roots.sum()


def few(options: argparse.Namespace) -> dict:
    """The Frechet distance of fewer clips than dimensions: every formula's time and error."""
    x, y = features(options.few, options.dims, 1, spread=1.1), features(options.few, options.dims, 2)
    exact = precise(x, y)
    routes: dict[str, tuple[Callable[[Tensor, Tensor], float | Tensor], int]] = {
        "ours": (frechet_distance, 10 * options.repeats),
        "torchmetrics": (of_moments(_compute_fid), options.repeats),
        "torchaudio": (of_moments(torchaudio.functional.frechet_distance), options.repeats),
        "scipy sqrtm": (with_scipy, 1),
    }
    figures: dict = {"clips": options.few, "dims": options.dims, f"value in {DIGITS} digits": exact, "routes": {}}
    for name, (route, repeats) in routes.items():
        seconds, value = timed(lambda route=route: route(x, y), repeats)
        figures["routes"][name] = {"seconds": seconds, "value": value, "relative error": abs(value / exact - 1)}
    figures["scipy over ours"] = figures["routes"]["scipy sqrtm"]["seconds"] / figures["routes"]["ours"]["seconds"]
    return figures


def many(options: argparse.Namespace) -> dict:
    """The Frechet distance of many clips against the floor, in turns; and the metric, which also finds its bias."""
    x, y = features(options.many, options.dims, 1, spread=1.1), features(options.many, options.dims, 2)
    ours, least = [], []
    for _ in range(options.repeats):
        ours.append(timed(lambda: frechet_distance(x, y), 1))
        least.append(timed(lambda: floor(x, y), 1))
    seconds, bound = median(timing[0] for timing in ours), median(timing[0] for timing in least)
    figures = {"clips": options.many, "dims": options.dims, "seconds": seconds, "floor seconds": bound}
    figures["ours over floor"] = seconds / bound
    figures["relative difference"] = abs(ours[0][1] / least[0][1] - 1)
    figures["metric seconds"] = timed(lambda: FrechetDistance().measure(clips(x), clips(y)).value, 1)[0]
    return figures


def kernel(options: argparse.Namespace) -> dict:
    """KAD with its interval, against scipy's distances and a mean over them."""
    x, y = features(options.kernel, options.dims, 1, spread=1.1), features(options.kernel, options.dims, 2)
    seconds, value = timed(lambda: KAD().measure(clips(x), clips(y)).value, options.repeats)
    estimate = KAD().measure(clips(x), clips(y))
    interval, _ = timed(lambda: estimate.interval()[0], options.repeats)
    reference_seconds, reference = timed(lambda: reference_kad(x.double().numpy(), y.double().numpy()), options.repeats)
    figures = {"clips": options.kernel, "dims": options.dims, "seconds": seconds, "scipy seconds": reference_seconds}
    figures |= {"ours over scipy": seconds / reference_seconds, "relative difference": abs(value / reference - 1)}
    return {**figures, "interval seconds": interval}


def reference_kad(x: np.ndarray, y: np.ndarray) -> float:
    """With scipy's pairwise distances: 100 times the unbiased squared MMD, bandwidth the reference's lower median distance."""
    distance = needed("scipy.spatial.distance")
    within_y = distance.pdist(y)
    bandwidth = np.partition(within_y, (len(within_y) - 1) // 2)[(len(within_y) - 1) // 2]
    parts = [np.exp(-(part**2) / (2 * bandwidth**2)).mean() for part in (distance.pdist(x), within_y, distance.cdist(x, y))]
    return 100 * (parts[0] + parts[1] - 2 * parts[2])


def clips(values: Tensor) -> Rows:
    """One row a clip."""
    index = torch.arange(len(values))
    return Rows(values, index, index)


def needed(module: str) -> ModuleType:
    """Import what only this comparison needs."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise SystemExit(f"{package} is what the metrics are compared with; pip install {package}.") from error


def machine() -> dict:
    """Where and with what this was measured."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    packages = ("audioldm_lit", "torch", "torchaudio", "torchmetrics", "numpy", "scipy", "mpmath")
    return {
        "machine": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def show(figures: dict) -> None:
    """Print the figures as tables of ratios."""
    few, many, kernel = figures["few"], figures["many"], figures["kernel"]
    title = f"Frechet distance, {few['clips']:,} clips of {few['dims']:,} numbers"
    formulas = Table("formula", "ms", "over ours", "relative error", title=title)
    for name, route in few["routes"].items():
        ratio = route["seconds"] / few["routes"]["ours"]["seconds"]
        formulas.add_row(name, f"{1000 * route['seconds']:,.2f}", f"{ratio:,.0f}", f"{route['relative error']:.0e}")
    rest = Table("metric", "s", "over", "s", "ratio", "difference")
    rows = (
        (f"Frechet, {many['clips']:,} clips", many["seconds"], "its floor", many["floor seconds"], many["relative difference"]),
        ("the same, debiased", many["metric seconds"], "without", many["seconds"], None),
        (f"KAD, {kernel['clips']:,} clips", kernel["seconds"], "scipy", kernel["scipy seconds"], kernel["relative difference"]),
        ("its interval", kernel["interval seconds"], "the value", kernel["seconds"], None),
    )
    for name, ours, beside, other, difference in rows:
        rest.add_row(
            name, f"{ours:.3f}", beside, f"{other:.3f}", f"{ours / other:.2f}", "" if difference is None else f"{difference:.0e}"
        )
    Console().print(formulas, rest, f"{figures['threads']} thread(s), {figures['machine']}")


def main() -> None:
    """Measure and print, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--dims", type=int, default=2048, help="numbers a row")
    parser.add_argument("--few", type=int, default=50, help="clips a side, fewer than dimensions")
    parser.add_argument("--many", type=int, default=10_000, help="clips a side, more than dimensions")
    parser.add_argument("--kernel", type=int, default=1000, help="clips a side for KAD")
    parser.add_argument("--repeats", type=int, default=3, help="times each is run, ten times as often where it takes milliseconds")
    options = parser.parse_args()
    figures = {**machine(), "few": few(options), "many": many(options), "kernel": kernel(options)}
    show(figures)
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
