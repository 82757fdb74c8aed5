"""Post-hoc EMA: how far an average of the weights reaches back is chosen after training.

Training stores a few power-function averages now and then; any other is nearly a linear combination of these. Karras et al. 2023,
"Analyzing and Improving the Training Dynamics of Diffusion Models" (arXiv 2312.02696), section 3.2 and appendix C.5.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import atomic_write
from audioldm_lit.storage.plain_files import parse_json
from audioldm_lit.training.ema import gamma_of

FORMAT = "audioldm_lit.averages/1"
SIGMA_RELS = (0.05, 0.1, 0.15, 0.2, 0.25)  # within the range in which the paper finds the reconstruction good, appendix C.5


@dataclass(frozen=True)
class Snapshot:
    """A stored average.

    Attributes:
        path: File that holds it.
        sigma_rel: Relative standard deviation of its profile.
        step: Optimizer step that it ends with.
    """

    path: Path
    sigma_rel: float
    step: int

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        prefix = f"{self.sigma_rel}/"
        with safe_open(self.path, framework="pt") as file:
            return {key.removeprefix(prefix): file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118


@dataclass(frozen=True)
class Candidate:
    """An average that was tried.

    Attributes:
        sigma_rel: Relative standard deviation of the profile that was asked for.
        step: Optimizer step that the average ends with.
        profile_error: Distance of the reconstructed profile from that one, as a share of its norm.
        loss: Held-out loss.
    """

    sigma_rel: float
    step: int
    profile_error: float
    loss: float


def write_snapshots(path: Path, step: int, averages: Mapping[float, Mapping[str, Tensor]]) -> None:
    """Write the averages of one step, by their sigma_rel, to one file; it appears whole or not at all."""
    named = {f"{profile}/{name}": weight for profile, average in averages.items() for name, weight in average.items()}
    metadata = {"format": FORMAT, "step": str(step), "sigma_rels": json.dumps(list(averages))}
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(save({name: weight.detach().cpu().contiguous() for name, weight in named.items()}, metadata))


def read_snapshots(paths: Iterable[Path]) -> list[Snapshot]:
    """List what files hold; the weights stay on disk until they are asked for.

    Raises:
        InputError: If a file is not one of ours.
    """
    snapshots: list[Snapshot] = []
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise InputError(path, f"cannot be read as averages of a run ({error})", "remove it") from error
        if metadata.get("format") != FORMAT:
            raise InputError(path, "holds no averages of a run", "remove it")
        snapshots += [Snapshot(path, sigma_rel, int(metadata["step"])) for sigma_rel in parse_json(metadata["sigma_rels"])]
    return snapshots


def coefficients(snapshots: Sequence[Snapshot], sigma_rel: float, step: int) -> tuple[Tensor, float]:
    """The linear combination of snapshots whose profile is nearest to another one.

    Args:
        snapshots: N, of different profiles or steps.
        sigma_rel: Relative standard deviation of the profile that is wanted.
        step: Optimizer step that it ends with.

    Returns:
        Coefficients (N,) in float64, of sum one, and the L2 distance of the two profiles as a share of the wanted one's norm.
    """
    times = torch.tensor([snapshot.step / step for snapshot in snapshots], dtype=torch.float64)
    gammas = torch.tensor([gamma_of(snapshot.sigma_rel) for snapshot in snapshots], dtype=torch.float64)
    end, gamma = torch.ones((), dtype=torch.float64), torch.tensor(gamma_of(sigma_rel), dtype=torch.float64)
    gram = _inner(times[:, None], gammas[:, None], times, gammas)  # A, Eq. 142
    projections = _inner(times, gammas, end, gamma)  # b, Eq. 143
    # A x = b (Eq. 141) with a Lagrange multiplier for sum(x) = 1. The paper solves without: of its hundreds of snapshots the sum is
    # one by itself. Of four it can be 0.82, and the weights would shrink by as much.
    count = len(snapshots)
    system = torch.ones(count + 1, count + 1, dtype=torch.float64)
    system[:count, :count], system[count, count] = gram, 0
    solution = torch.linalg.lstsq(system, torch.cat([projections, end[None]])[:, None], driver="gelsd").solution
    x, norm = solution[:count, 0], _inner(end, gamma, end, gamma)
    squared_distance = x @ gram @ x - 2 * x @ projections + norm
    return x, float((squared_distance.clamp(min=0) / norm).sqrt())


def _inner(t_a: Tensor, gamma_a: Tensor, t_b: Tensor, gamma_b: Tensor) -> Tensor:
    """Inner products of power profiles, the integral of p_a(t) p_b(t) over t; tensors that broadcast. Eq. 151."""
    sooner, later = torch.minimum(t_a, t_b), torch.maximum(t_a, t_b)
    gamma_of_later = torch.where(t_a < t_b, gamma_b, gamma_a)
    return (gamma_a + 1) * (gamma_b + 1) * (sooner / later) ** gamma_of_later / ((gamma_a + gamma_b + 1) * later)


def reconstruct(snapshots: Sequence[Snapshot], sigma_rel: float, step: int) -> dict[str, Tensor]:
    """An average that was not tracked, put together from those that were.

    Args:
        snapshots: What training stored.
        sigma_rel: Relative standard deviation of its profile, above 0 and below 12^(-1/2).
        step: Optimizer step that it ends with.

    Returns:
        Averaged weights in float32 by name. They are exact, up to rounding, where a snapshot has this profile and step.
    """
    shares, _ = coefficients(snapshots, sigma_rel, step)
    sums: dict[str, Tensor] = {}
    for share, snapshot in zip(shares.tolist(), snapshots, strict=True):
        for name, weight in snapshot.weights().items():
            sums[name] = weight.double().mul_(share) if name not in sums else sums[name].add_(weight.double(), alpha=share)
    return {name: weight.float() for name, weight in sums.items()}


def choose(
    snapshots: Sequence[Snapshot],
    sigma_rels: Sequence[float],
    steps: Sequence[int],
    loss: Callable[[dict[str, Tensor]], float],
) -> tuple[list[Candidate], dict[str, Tensor]]:
    """Try averages of several lengths at several steps.

    The lowest of many losses is optimistic: judge the chosen average on clips that played no part in the choice.

    Args:
        snapshots: What training stored.
        sigma_rels: Relative standard deviations to try.
        steps: Optimizer steps to try each of them at.
        loss: Held-out loss of weights by name.

    Returns:
        What was tried, the lowest loss first, and the weights of the first.
    """
    candidates: list[Candidate] = []
    chosen: dict[str, Tensor] = {}
    for step, sigma_rel in product(steps, sigma_rels):
        weights = reconstruct(snapshots, sigma_rel, step)
        _, profile_error = coefficients(snapshots, sigma_rel, step)
        candidates.append(Candidate(sigma_rel, step, profile_error, loss(weights)))
        if min(candidates, key=_loss) is candidates[-1]:
            chosen = weights
    return sorted(candidates, key=_loss), chosen


def _loss(candidate: Candidate) -> float:
    return math.inf if math.isnan(candidate.loss) else candidate.loss
