"""A map of a data set: its recordings as points of a plane, alike ones near each other."""

import torch
from torch import Tensor


def project(vectors: Tensor) -> tuple[Tensor, float]:
    """Vectors on the two directions in which they differ most (principal component analysis).

    Args:
        vectors: (N, D), one a recording.

    Returns:
        Places (N, 2) in [-1, 1], the first direction wide; and the share in [0, 1] of all differences that they show. Zeros where
        there is nothing to tell apart.
    """
    centred = vectors.double() - vectors.double().mean(dim=0)
    total = float(centred.square().sum())
    if len(vectors) < 3 or total < 1e-12:
        return torch.zeros(len(vectors), 2), 0.0
    covariance = centred.T @ centred
    power, directions = torch.linalg.eigh(covariance)  # ascending
    directions = directions[:, [-1, -2]]
    # An eigenvector has no sign of its own: the largest number of each is made positive, so that a map looks the same every time.
    directions = directions * directions.gather(0, directions.abs().argmax(dim=0, keepdim=True)).sign()
    places = centred @ directions
    return (places / places.abs().max()).float(), float(power[-2:].sum() / total)
