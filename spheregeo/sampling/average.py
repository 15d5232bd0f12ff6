"""Means over the target's cells: how to go down to a coarser grid without aliasing.

Between lat-lon grids cells are boxes, bounded halfway between the points, and the weight of a source cell is the area
of its overlap with the target cell: first-order conservative remapping (Jones 1999), exact, and separable into
colatitude and longitude. From or to any other grid, a target's cell holds the source points that are nearer to it than
to any other target, weighted by their areas; a cell that holds none is interpolated linearly.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spheregeo.grids import Grid, LatitudeRings, LatLon

Rows = tuple[Tensor, Tensor, Tensor]  # indptr, indices, values


def average_rows(source: Grid, target: Grid, rows: Callable[[Grid, Grid | Tensor, str], Rows]) -> Rows:
    """Compressed rows of the averaging map; ``rows`` interpolates."""
    if isinstance(source, LatLon) and isinstance(target, LatLon):
        return _overlaps(source, target)
    cell = rows(target, source, "nearest")[1].to(torch.int64)  # (source points,) the target nearest to each
    points = torch.arange(source.num_points)
    weights = source.areas.to(torch.float64)
    empty = (torch.bincount(cell, weights, minlength=target.num_points) == 0).nonzero()[:, 0]
    if len(empty):
        indptr, indices, values = rows(source, target.points[empty], "linear")
        cell = torch.cat([cell, empty.repeat_interleave(indptr.diff())])
        points, weights = torch.cat([points, indices.to(torch.int64)]), torch.cat([weights, values])
    return compress(cell, points, weights, target.num_points, source.num_points)


def compress(row: Tensor, column: Tensor, weight: Tensor, num_rows: int, num_columns: int) -> Rows:
    """Entries in any order as compressed rows, each made to sum to 1."""
    order = torch.argsort(row * num_columns + column)
    row, column, weight = row[order], column[order], weight[order]
    total = torch.zeros(num_rows, dtype=weight.dtype).index_add_(0, row, weight)
    indptr = torch.zeros(num_rows + 1, dtype=torch.int64)
    indptr[1:] = torch.bincount(row, minlength=num_rows).cumsum(0)
    return indptr, column, weight / total[row]


def cell_bounds(rings: LatitudeRings) -> Tensor:
    """cos of the colatitudes (R + 1,) between which each ring's cells lie, from 1 down to -1."""
    between = torch.cos((rings.colatitude[1:] + rings.colatitude[:-1]) / 2)
    return torch.cat([between.new_ones(1), between, -between.new_ones(1)])


def axis_rows(source: LatLon, target: LatLon) -> tuple[Rows, Rows]:
    """The two factors of the map between lat-lon grids: rows of the target from the source's, columns likewise."""
    # heights: cut [-1, 1] at every bound of either grid; each piece lies in one cell of both
    bounds_s, bounds_t = -cell_bounds(source.rings), -cell_bounds(target.rings)  # ascending
    cuts = torch.cat([bounds_s, bounds_t]).sort().values
    height, middle = cuts.diff(), (cuts[1:] + cuts[:-1]) / 2
    height, middle = height[height > 1e-15], middle[height > 1e-15]
    cells = [torch.bucketize(middle, b).sub_(1).clamp_(0, len(b) - 2) for b in (bounds_t, bounds_s)]
    rows = compress(cells[0], cells[1], height, target.nlat, source.nlat)
    # longitudes, likewise, round the circle
    cuts = torch.cat([_edges(source), _edges(target)]).remainder(2 * torch.pi).sort().values
    width = torch.cat([cuts[1:], cuts[:1] + 2 * torch.pi]) - cuts
    middle, width = (cuts + width / 2)[width > 1e-13], width[width > 1e-13]
    return rows, compress(_column(target, middle), _column(source, middle), width, target.nlon, source.nlon)


def _overlaps(source: LatLon, target: LatLon) -> Rows:
    """The product of the two factors, row by row."""
    (down, rows, heights), (across, columns, widths) = axis_rows(source, target)
    many, few = down.diff()[:, None], across.diff()[None]
    counts = (many * few).reshape(-1)
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    point = torch.arange(target.num_points).repeat_interleave(counts)  # (nnz,) target of each entry
    i, j = point // target.nlon, point % target.nlon
    k = torch.arange(len(point)) - indptr[point]
    few = few[0][j]
    i, j = down[i] + k // few, across[j] + k % few  # entries of the factors
    return indptr, rows[i] * source.nlon + columns[j], heights[i] * widths[j]


def _edges(grid: LatLon) -> Tensor:
    step = 2 * torch.pi / grid.nlon
    return grid.rings.phase[0] + (torch.arange(grid.nlon, dtype=torch.float64) - 0.5) * step


def _column(grid: LatLon, longitude: Tensor) -> Tensor:
    u = (longitude - grid.rings.phase[0]) * (grid.nlon / (2 * torch.pi))
    return torch.round(u).to(torch.int64).remainder(grid.nlon)
