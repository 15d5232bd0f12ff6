"""One point for each occupied cube of a lattice."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo.sampling.points.checks import check_batch, check_cutoff, check_positions
from spheregeo.sampling.points.query import RELATIVE, extent, tolerance_of

BELOW = (
    7 / 16
)  # of a voxel, from the lattice's corner to the lowest point: clouds that are lattices themselves stay off the borders


class Voxels(NamedTuple):
    """What :func:`voxel_downsample` returns, in the order of (graph, x, y, z).

    Shape: positions (V, 3), mean of each voxel's points; batch (V,); nearest (V,), the point next to the mean;
    voxel (P,), where each point went; counts (V,), how many.
    """

    positions: Tensor
    batch: Tensor
    nearest: Tensor
    voxel: Tensor
    counts: Tensor


def voxel_downsample(positions: Tensor, size: float, batch: Tensor | None = None) -> Voxels:
    """Points of each cube of edge ``size`` made one. The lattice is parallel to the axes, from each graph's lowest corner.

    Unchanged by translations and permutations, except for points within rounding of a border; the axes are fixed, so it is
    **not** invariant to rotations: use :func:`farthest_points` where that matters.

    Shape: positions (P, 3); batch (P,) non-decreasing; returns :class:`Voxels`, means in the positions' dtype.
    Raises: ValueError for a size that is not positive or absurdly small, NaN or infinite positions, an unsorted batch.
    """
    size = check_cutoff(size, "size", finite=True)
    points = check_positions(positions)
    index = check_batch(batch, positions)
    graphs = int(index[-1]) + 1 if len(index) else 0
    low = points.new_full((graphs, 3), torch.inf)
    low.scatter_reduce_(0, index[:, None].expand(-1, 3), points, "amin")
    steps = (points - low[index]) / size + BELOW
    if len(points) and float(steps.max()) >= 2**31:
        raise ValueError(
            f"size is {size!r}, {float(steps.max()):.1g} of it fit the cloud; expected fewer than 2^31"
        )
    voxel, counts = index, index
    for place in steps.floor().long().unbind(1):  # axis after axis: keys stay small
        key = voxel * 2**31 + place
        _, voxel, counts = torch.unique(key, return_inverse=True, return_counts=True)
    graph = torch.zeros_like(counts).index_copy_(0, voxel, index)
    mean = points.new_zeros(len(counts), 3).index_add_(0, voxel, points) / counts[:, None]
    distance = torch.linalg.vector_norm(points - mean[voxel], dim=1)
    least = torch.full_like(mean[:, 0], torch.inf).scatter_reduce_(0, voxel, distance, "amin")
    slack = torch.minimum(
        tolerance_of(extent(points, index, graphs), positions.dtype)[graph], RELATIVE * least
    )
    ties = (distance <= (least + slack)[voxel]).nonzero()[:, 0]
    nearest = torch.full_like(counts, len(points)).scatter_reduce_(0, voxel[ties], ties, "amin")
    return Voxels(mean.to(positions.dtype), graph, nearest, voxel, counts)
