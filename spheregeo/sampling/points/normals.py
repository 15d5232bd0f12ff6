"""Normals of clouds of points: the direction in which the nearest points of each point spread least."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.sampling.points.checks import check_batch, check_positions
from spheregeo.sampling.points.graphs import knn_graph
from spheregeo.sampling.points.query import UNIT, UNITS, extent

SIDE = 1e-6  # of a length: how far a point has to lie off a plane to lie on a side of it


def estimate_normals(
    positions: Tensor, k: int = 16, batch: Tensor | None = None, *, outward: bool = True
) -> Tensor:
    """Unit normals of surfaces that are known by points alone: the axis of least spread of each point and its neighbours.

    The axis is the eigenvector of the smallest eigenvalue of the neighbours' covariance. It has no sign of its own: with
    ``outward`` the normal points away from the centroid of its cloud, and where the centroid lies in the tangent plane, away
    from the mean of the neighbours. Where no axis is the one of least spread (neighbours on a line, a single place, a cubic
    lattice) or no side is the outer one (a flat cloud), the normal is the zero vector, for any other choice would depend on how
    the cloud stands.

    Args:
        positions: the points.
        k: number of neighbours, besides the point itself; all as near as the k-th are taken.
        batch: cloud of each point, non-decreasing; a single cloud if None.
        outward: whether to choose the side; without it the sign is whatever the eigenvalue solver gives.

    Shape: positions (P, 3), batch (P,) -> (P, 3), in the dtype of the positions. Computed in float64, not differentiable.
    Equivariance: O(3), translations and permutations, to rounding divided by the relative gap of the two smallest eigenvalues.
    Raises: ValueError for NaN or infinite positions, an unsorted batch, k below 1.
    Reference: Hoppe, DeRose, Duchamp, McDonald & Stuetzle 1992, Surface reconstruction from unorganized points.

    Example:
        >>> from spheregeo.sampling import estimate_normals
        >>> points = torch.nn.functional.normalize(torch.randn(500, 3), dim=1)
        >>> bool((estimate_normals(points) * points).sum(1).mean() > 0.95)
        True
    """
    points, index = check_positions(positions), check_batch(batch, positions)
    check_count("k", k)
    if not len(points):
        return positions.detach().clone()
    clouds = int(index[-1]) + 1
    source, target = knn_graph(positions, k + 1, batch, loop=True, ties="all")
    near = points[source] - points[target]
    number = torch.bincount(target, minlength=len(points))[:, None]
    middle = torch.zeros_like(points).index_add_(0, target, near) / number
    near = near - middle[target]
    products = torch.stack([near[:, a] * near[:, b] for a in range(3) for b in range(a, 3)], 1)
    moments = points.new_zeros(len(points), 6).index_add_(0, target, products)
    spread, axes = torch.linalg.eigh(moments[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].view(-1, 3, 3))
    normals: Any = axes[:, :, 0]
    # a spread that differs from another by rounding is none: squares of the step in which positions are known
    size = extent(points, index, clouds)[index]
    step = UNITS.get(positions.dtype, UNIT)
    known = spread[:, 1] - spread[:, 0] > 4 * step * spread[:, 2] + number[:, 0] * (step * size) ** 2
    if outward:
        count = torch.bincount(index, minlength=clouds)[:, None].clamp_min(1)
        centre = points.new_zeros(clouds, 3).index_add_(0, index, points) / count
        lean = torch.stack([((points - centre[index]) * normals).sum(1), -(middle * normals).sum(1)], 1)
        reach = torch.stack([size, (spread.sum(1) / number[:, 0]).sqrt()], 1)
        told = lean.abs() > max(SIDE, 4 * step) * reach
        side = torch.where(told[:, 0], lean[:, 0], lean[:, 1]).sign()
        normals = normals * (side * told.any(1))[:, None]
    return torch.where(known[:, None], normals, 0.0).to(positions.dtype)
