"""Farthest-point sampling: well-spread subsets of point clouds."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.sampling.points.checks import boundaries, check_batch, check_positions
from spheregeo.sampling.points.query import RELATIVE, extent, tolerance_of

SMALL = 256  # points up to which their own order serves as well as that of a tree


def farthest_points(
    positions: Tensor,
    ratio_or_count: float | int,
    batch: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A subset of each graph's points: each next one is the farthest from those before it.

    The first is the farthest from the centroid, so that the choice is the same after any rotation and translation; distances that
    differ by rounding are equal (see :mod:`spheregeo.sampling.points.query`) and the lowest index wins. With a ``generator`` the
    first is random. No point is taken twice, even where points coincide.

    An integer asks for that many points of each graph, or all if there are fewer; a float in (0, 1] for this share of them,
    rounded up.

    Shape: positions (P, 3); batch (P,) non-decreasing; returns indices (M,) int64, graph after graph in the order of choice.
    Raises: ValueError for a count below 1 or a ratio outside (0, 1], NaN or infinite positions, an unsorted batch.
    Reference: Eldar, Lindenbaum, Porat & Zeevi 1997, The farthest point strategy for progressive image sampling.
    """
    points = check_positions(positions)
    index = check_batch(batch, positions)
    graphs = int(index[-1]) + 1 if len(index) else 0
    bounds = boundaries(index, graphs)
    counts = _counts(ratio_or_count, bounds.diff())
    tolerance = tolerance_of(extent(points, index, graphs), positions.dtype)
    first = _first(points, index, bounds, tolerance, generator)
    if points.device.type == "cpu":
        return _compiled(points, bounds, counts, tolerance, first)
    return in_torch(points, index, bounds, counts, tolerance, first)


def _counts(wanted: float | int, size: Tensor) -> Tensor:
    if isinstance(wanted, float):
        if not 0 < wanted <= 1:
            raise ValueError(f"ratio_or_count is {wanted!r}; expected a share in (0, 1], or an integer")
        return (size * wanted).ceil().long()
    return size.clamp_max(check_count("ratio_or_count", wanted))


def _first(
    points: Tensor, index: Tensor, bounds: Tensor, tolerance: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Where each graph's sampling starts, (B,); of no meaning for an empty graph."""
    size = bounds.diff()
    if generator is not None:
        share = torch.rand(len(size), generator=generator, device=generator.device, dtype=torch.float64)
        return bounds[:-1] + (share.to(size.device) * size).long()
    centre = points.new_zeros(len(size), 3).index_add_(0, index, points) / size.clamp_min(1)[:, None]
    distance = torch.linalg.vector_norm(points - centre[index], dim=1)
    return _lowest_of_largest(distance, index, tolerance)


def _lowest_of_largest(distance: Tensor, index: Tensor, tolerance: Tensor) -> Tensor:
    """The first point of each graph whose distance is the largest, or equal to it."""
    largest = torch.full_like(tolerance, -1.0).scatter_reduce_(0, index, distance, "amax")
    least = largest - torch.minimum(tolerance, RELATIVE * largest)
    ties = (distance >= least[index]).nonzero()[:, 0]
    lowest = torch.full_like(tolerance, len(distance), dtype=torch.int64)
    return lowest.scatter_reduce_(0, index[ties], ties, "amin")


def _compiled(points: Tensor, bounds: Tensor, counts: Tensor, tolerance: Tensor, first: Tensor) -> Tensor:
    """Graph after graph with the compiled kernel."""
    from spheregeo.sampling.points._farthest import farthest  # imports numba

    array = points.contiguous().numpy()
    parts = [np.empty(0, np.int64)]
    starts, widths = first.tolist(), tolerance.tolist()
    for graph, count in enumerate(counts.tolist()):
        if not count:
            continue
        begin, end = int(bounds[graph]), int(bounds[graph + 1])
        part, start = array[begin:end], starts[graph] - begin
        if end - begin > SMALL:
            names = cKDTree(part, leafsize=32).indices.astype(np.int64)
            start = int(np.flatnonzero(names == start)[0])
            part = part[names]
        else:
            names = np.arange(end - begin)
        parts.append(farthest(part, names, start, count, widths[graph]) + begin)
    return torch.from_numpy(np.concatenate(parts))


def in_torch(
    points: Tensor, index: Tensor, bounds: Tensor, counts: Tensor, tolerance: Tensor, first: Tensor
) -> Tensor:
    """All graphs at once, a sample of each a step; the same choice as the compiled kernel's."""
    if not len(points):
        return index
    full = counts > 0
    graphs = full.nonzero()[:, 0]
    new = first[graphs]
    far = torch.full_like(points[:, 0], torch.inf)
    chosen = torch.empty(int(counts.sum()), dtype=torch.int64, device=points.device)
    begin = counts.cumsum(0) - counts
    latest = torch.zeros_like(counts)
    for k in range(int(counts.max())):
        going = k < counts[graphs]
        chosen[begin[graphs[going]] + k] = new[going]
        far[new] = -1.0
        latest[graphs] = new
        x, y, z = (points - points[latest[index]]).unbind(1)
        far = torch.minimum(far, x * x + y * y + z * z)
        largest = torch.full_like(tolerance, -1.0).scatter_reduce_(0, index, far, "amax")
        length = largest.clamp_min(0).sqrt()
        least = length - torch.minimum(tolerance, RELATIVE * length)
        least = torch.where(largest < 0, -1.0, least * least)
        ties = (far >= least[index]).nonzero()[:, 0]
        lowest = torch.full_like(counts, len(points)).scatter_reduce_(0, index[ties], ties, "amin")
        new = lowest[graphs]
    return chosen
