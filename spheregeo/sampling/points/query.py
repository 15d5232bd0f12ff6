r"""What is searched for, and the rule that decides equal distances.

Rotating float32 coordinates moves points by some 1e-7 of the extent R of their graph. Two distances count as equal when

    |d - d'| <= min(tau, d / 1024),     tau = u 2^ceil(log2 1.2 R),     u = 2^-19 (float32) or 2^-34 (float64)

and chains of such pairs are one class. R is the largest distance from the centroid, so tau does not depend on where the
graph stands nor how it is turned; the power of two keeps its last digits out, and 1.2 keeps clouds of size 1 away from the
step. d / 1024 keeps distances apart where points are far denser than the extent suggests. The cutoff is inclusive by the
same measure. Distances are float64, by differences.

Points may have any number of coordinates. Those of float16 and bfloat16 count as exact float32 numbers: u is that of float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RELATIVE = 2.0**-10
UNITS = {torch.float64: 2.0**-34}  # of others that of float32
UNIT = 2.0**-19


@dataclass(frozen=True)
class Query:
    """Sources within ``reach`` of each target, at most ``limit`` of them, in the order of (distance class, index).

    Shape: sources (S, D) and targets (T, D) float64; source_bounds and target_bounds (B + 1,); own (T,), the index of the
    source that is the target itself, or -1; tolerance and reach (B,) float64.
    """

    sources: Tensor
    targets: Tensor
    source_bounds: Tensor
    target_bounds: Tensor
    own: Tensor
    tolerance: Tensor
    reach: Tensor
    limit: int | None
    keep_own: bool
    all_ties: bool

    @property
    def same(self) -> bool:
        """Whether sources and targets are one set of points."""
        return self.sources is self.targets


def extent(positions: Tensor, batch: Tensor, count: int) -> Tensor:
    """Largest distance of a point from the centroid of its graph, (count,) float64; 0 for empty graphs."""
    size = torch.bincount(batch, minlength=count).clamp_min(1)
    centre = positions.new_zeros(count, positions.shape[1]).index_add_(0, batch, positions) / size[:, None]
    distance = torch.linalg.vector_norm(positions - centre[batch], dim=1)
    return positions.new_zeros(count).scatter_reduce_(0, batch, distance, "amax")


def tolerance_of(extent: Tensor, dtype: torch.dtype) -> Tensor:
    """Distances of a graph that differ by no more than this are equal, (B,) float64."""
    exponent = torch.frexp(1.2 * extent)[1]
    return torch.where(
        extent > 0, torch.ldexp(torch.full_like(extent, UNITS.get(dtype, UNIT)), exponent), 0.0
    )


def reach_of(cutoff: float, tolerance: Tensor) -> Tensor:
    """Cutoff with the tolerance added, (B,) float64."""
    return cutoff + tolerance.clamp_max(RELATIVE * cutoff)
