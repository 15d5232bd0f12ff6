"""Covers of a set of features: which of them stand for the others.

Features are sorted into cubic cells whose side is the resolution; of each cell the member with the smallest first feature
represents the rest. Cells and choice depend on the features alone and not on their order, so a permutation of the set permutes
the cover, up to members with equal features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.checks import check_tensor
from spheregeo.constants import made


def feature_cover(features: Tensor, epsilon: float, *, scale: float | None = None) -> Tensor:
    """Return for each member of a set the index of its representative.

    Args:
        features: sets of points in a space of q features, such as invariant descriptors of poses.
        epsilon: side of a cell, in units of ``scale``; members of a cell differ by less in every feature. 0 leaves every member
            its own representative.
        scale: unit of ``epsilon``, equal for all sets; None takes the root mean square of the features of each set.

    Shape: (B, n, q) -> (B, n) int64, indices within the set.
    Raises: ValueError for features of another shape and a negative or infinite epsilon.

    Example:
        >>> feature_cover(torch.tensor([[[1.0], [3.0], [1.01], [-2.0]]]), 0.1)
        tensor([[0, 1, 0, 3]])
    """
    check_tensor(features, "features")
    if features.ndim != 3 or not features.shape[2]:
        raise ValueError(
            f"features has shape {tuple(features.shape)}; expected (B, n, q) with q of at least 1"
        )
    check_epsilon(epsilon)
    batch, n, q = features.shape
    itself = torch.arange(n, device=features.device).expand(batch, n)
    if epsilon == 0 or n == 0:
        return itself.contiguous()
    values = features.detach().to(torch.float64 if features.dtype == torch.float64 else torch.float32)
    unit = values.square().mean((1, 2), keepdim=True).sqrt() if scale is None else values.new_tensor(scale)
    cells = torch.round(values / (epsilon * unit).clamp_min(torch.finfo(values.dtype).tiny)).clamp(
        -(2.0**60), 2.0**60
    )
    # one number for q: sums of products with large odd numbers meet by chance once in 2^63
    keys = (
        cells.to(torch.int64) * made(("multipliers", q), lambda: torch.tensor(_multipliers(q)), features)
    ).sum(2)
    by_value = values[..., 0].argsort(dim=1, stable=True)
    order = by_value.gather(1, keys.gather(1, by_value).argsort(dim=1, stable=True))
    placed = keys.gather(1, order)
    begins = torch.cat([placed.new_ones(batch, 1, dtype=torch.bool), placed[:, 1:] != placed[:, :-1]], 1)
    first = torch.where(begins, itself, 0).cummax(1).values
    return torch.zeros_like(order).scatter(1, order, order.gather(1, first))


def check_epsilon(epsilon: float) -> float:
    """Return the resolution of a cover. Raises: ValueError unless it is finite and at least 0."""
    if not 0 <= epsilon < float("inf"):
        raise ValueError(f"epsilon is {epsilon}; expected a finite number of at least 0")
    return float(epsilon)


def _multipliers(q: int) -> list[int]:
    """Odd numbers below 2^62 of a linear congruential sequence (Knuth's MMIX)."""
    found, state = [], 1
    for _ in range(q):
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64
        found.append(state >> 2 | 1)
    return found
