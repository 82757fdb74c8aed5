"""Low-rank updates at a lower rank than they were trained with, and what that loses."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from audioldm_lit.errors import InputError

Factors = tuple[Tensor, Tensor]  # `down` (r, inputs) and `up` (outputs, r) of an update up @ down, float64
Cut = Callable[[Factors, int], Factors]


class Lost(NamedTuple):
    """What a lower rank loses of an update.

    Attributes:
        lost: Frobenius norm of what is lost.
        whole: That of the whole update.
    """

    lost: float
    whole: float

    @property
    def share(self) -> float:
        """Share of the norm that is lost."""
        return self.lost / max(self.whole, 1e-300)


def nearest(factors: Factors, rank: int) -> Factors:
    """The update of a rank that is nearest in the Frobenius norm: the first singular values (Eckart and Young 1936)."""
    down, up = factors
    outer, inner = torch.linalg.qr(up), torch.linalg.qr(down.T)  # so that only an r x r matrix is decomposed
    u, s, vt = torch.linalg.svd(outer.R @ inner.R.T)
    root = s[:rank].sqrt()
    return root[:, None] * (vt[: len(root)] @ inner.Q.T), (outer.Q @ u[:, : len(root)]) * root


def first(factors: Factors, rank: int) -> Factors:
    """The first ranks, scaled by one over their number as the whole was: what DyLoRA has trained."""
    down, up = factors
    return down[:rank], up[:, :rank] * (len(down) / rank)


def lower(layers: Mapping[str, Factors], rank: int, cut: Cut) -> tuple[dict[str, Factors], dict[str, Lost]]:
    """Cut the updates of layers to a rank, and leave those alone that have no more.

    Returns:
        By layer its factors, and what is lost.

    Raises:
        InputError: If no layer has such a rank.
    """
    most = max(len(down) for down, _ in layers.values())
    if not 1 <= rank <= most:
        raise InputError("--rank", f"is {rank}, and the adapter was trained at rank {most}", f"give a number from 1 to {most}")
    made, lost = {}, {}
    for name, factors in layers.items():
        kept = min(rank, len(factors[0]))
        made[name] = _filled(cut(factors, kept), kept)
        (down, up), (less_down, less_up) = factors, made[name]
        away = _norm((torch.cat([down, less_down]), torch.cat([up, -less_up], dim=1)))
        lost[name] = Lost(away, _norm(factors))
    return made, lost


def overall(lost: Mapping[str, Lost]) -> float:
    """Share of the norm of all layers' updates together that is lost."""
    parts = torch.tensor(list(lost.values()), dtype=torch.float64).square().sum(dim=0).sqrt()
    return Lost(*parts.tolist()).share


def _filled(factors: Factors, rank: int) -> Factors:
    """With zeros up to a rank, which a layer of fewer inputs or outputs cannot fill."""
    down, up = factors
    lacking = rank - len(down)
    return torch.cat([down, down.new_zeros(lacking, down.shape[1])]), torch.cat([up, up.new_zeros(len(up), lacking)], dim=1)


def _norm(factors: Factors) -> float:
    """Frobenius norm of up @ down, without that matrix."""
    down, up = factors
    return float(torch.linalg.matrix_norm(torch.linalg.qr(up).R @ torch.linalg.qr(down.T).R.T))
