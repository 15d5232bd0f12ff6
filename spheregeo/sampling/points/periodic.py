"""Neighbours in periodic systems: any cell, each axis periodic or not, as many images as the cutoff reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.sampling.points.checks import (
    Ties,
    boundaries,
    check_batch,
    check_cutoff,
    check_positions,
    check_ties,
)
from spheregeo.sampling.points.graphs import edges_of
from spheregeo.sampling.points.query import Query, extent, reach_of, tolerance_of

FLATTEST = 1e-6  # height of a cell over its edge, below which its vectors count as dependent
MOST = 10**9  # images


def periodic_radius_graph(
    positions: Tensor,
    cutoff: float,
    cell: Tensor,
    pbc: bool | Sequence[bool] | Tensor = True,
    batch: Tensor | None = None,
    *,
    loop: bool = False,
    max_neighbors: int | None = None,
    ties: Ties = "index",
) -> tuple[Tensor, Tensor]:
    """Edges between points, and periodic images of points, at most ``cutoff`` apart, and how many cells away the source stands.

    The vector from target i to source j is ``positions[j] + shift @ cell - positions[i]``. A point is a neighbour of its
    own images; the edge to itself (shift 0) is there only with ``loop``. Positions need not lie inside the cell, the cell
    may be smaller than the cutoff, and vectors of axes that are not periodic are ignored (zero is fine).
    ``max_neighbors`` and ``ties`` as in :func:`radius_graph`.

    Shape: positions (P, 3); cell (3, 3) with a row a vector, or (B, 3, 3), one a graph; pbc one flag, (3,) or (B, 3); batch (P,);
    returns edge_index (2, E) int64, rows (source, target), and shift (E, 3) int64, sorted by (target, distance, source, shift).
    Raises: ValueError as :func:`radius_graph`, for a cell that is singular, not finite or missing, and for a cutoff that reaches
    more than 10^9 images.
    """
    cutoff = check_cutoff(cutoff, finite=True)
    limit = None if max_neighbors is None else check_count("max_neighbors", max_neighbors)
    all_ties = check_ties(ties)
    points = check_positions(positions)
    index = check_batch(batch, positions)
    cells = _check_cell(cell, points, index)
    count = len(cells)
    periodic = _check_pbc(pbc, cells)
    cells = torch.where(periodic[:, :, None], cells, 0.0)
    dual = _dual(cells, periodic)
    fraction = torch.einsum("pi,pia->pa", points, dual[index])
    wrap = fraction.floor()
    fraction = fraction - wrap
    inside = points - torch.einsum("pa,pai->pi", wrap, cells[index])
    across = points - torch.einsum("pa,pai->pi", fraction + wrap, cells[index])  # along axes without period
    edges = torch.linalg.vector_norm(cells, dim=2)
    heights = torch.linalg.vector_norm(dual, dim=1)  # one over them
    size = extent(across, index, count) + (edges * (cutoff * heights + 1)).sum(1)
    dtype = torch.float64 if positions.dtype == cell.dtype == torch.float64 else torch.float32
    tolerance = tolerance_of(size, dtype)
    if ties == "exact":
        tolerance = torch.zeros_like(tolerance)
    reach = reach_of(cutoff, tolerance)
    images = _images(fraction, index, reach[:, None] * heights)
    sources = inside[images.point] + torch.einsum(
        "ga,gai->gi", images.steps.double(), cells[index][images.point]
    )
    query = Query(
        sources,
        inside,
        boundaries(index[images.point], count),
        boundaries(index, count),
        images.own,
        tolerance,
        reach,
        limit,
        loop,
        all_ties,
    )
    found, target = edges_of(query)
    source = images.point[found]
    wrap = wrap.long()
    shift = images.steps[found] - wrap[source] + wrap[target]
    return torch.stack([source, target]), shift


class _Images(NamedTuple):
    """Periodic images near the points, in the order of (point, steps)."""

    point: Tensor  # (G,) whose image
    steps: Tensor  # (G, 3) cells away
    own: Tensor  # (P,) the image that is the point


def _images(fraction: Tensor, index: Tensor, span: Tensor) -> _Images:
    """Images of points at fractional coordinates in [0, 1) that may be within ``span`` (B, 3) of points of the same graph."""
    graphs = index[:, None].expand(-1, 3)
    low = torch.full_like(span, torch.inf).scatter_reduce_(0, graphs, fraction, "amin") - span - 1e-9
    high = torch.full_like(span, -torch.inf).scatter_reduce_(0, graphs, fraction, "amax") + span + 1e-9
    first = (low[index] - fraction).ceil().long()
    number = (high[index] - fraction).floor().long() - first + 1
    total = number.double().prod(1).sum().item()
    if total > MOST:
        raise ValueError(
            f"cutoff reaches {total:.2g} periodic images; expected at most {MOST:.0e}: check units"
        )
    each = number.prod(1)
    begin = each.cumsum(0) - each
    point = torch.repeat_interleave(each)
    local = torch.arange(len(point), device=point.device) - begin[point]
    wide = number[point]
    rest = local.div(wide[:, 2], rounding_mode="floor")
    steps = torch.stack(
        [rest.div(wide[:, 1], rounding_mode="floor"), rest % wide[:, 1], local % wide[:, 2]], 1
    )
    own = begin + (-first[:, 0] * number[:, 1] - first[:, 1]) * number[:, 2] - first[:, 2]
    return _Images(point, steps + first[point], own)


def _check_cell(cell: Tensor, points: Tensor, index: Tensor) -> Tensor:
    """Return cells (B, 3, 3) in float64."""
    if not isinstance(cell, Tensor) or cell.dtype not in (torch.float32, torch.float64):
        found = cell.dtype if isinstance(cell, Tensor) else type(cell).__name__
        raise ValueError(f"cell is of {found}; expected a tensor of float32 or float64")
    if cell.ndim not in (2, 3) or cell.shape[-2:] != (3, 3):
        raise ValueError(f"cell has shape {tuple(cell.shape)}; expected (3, 3) or (B, 3, 3)")
    if cell.device != points.device:
        raise ValueError(f"cell is on {cell.device}; expected {points.device}, where the positions are")
    if not torch.isfinite(cell).all():
        raise ValueError("cell is not finite; expected vectors without NaN or infinity")
    count = int(index[-1]) + 1 if len(index) else 0
    if cell.ndim == 3 and len(cell) < count:
        raise ValueError(f"cell has {len(cell)} cells; expected one for each of {count} graphs")
    cell = cell.detach().double()
    return cell if cell.ndim == 3 else cell.expand(max(count, 1), 3, 3)


def _check_pbc(pbc: bool | Sequence[bool] | Tensor, cells: Tensor) -> Tensor:
    """Return flags (B, 3)."""
    flags = torch.as_tensor(pbc, device=cells.device)
    if flags.dtype != torch.bool or flags.shape not in ((), (3,), cells.shape[:2]):
        raise ValueError(
            f"pbc has shape {tuple(flags.shape)} of {flags.dtype}; expected flags of shape (), (3,) or {tuple(cells.shape[:2])}"
        )
    return flags.expand(cells.shape[:2])


def _dual(cells: Tensor, periodic: Tensor) -> Tensor:
    """Vectors (B, 3, 3), a column each, whose products with positions are fractional coordinates; zero where not periodic."""
    edges = torch.linalg.vector_norm(cells, dim=2)
    unit = cells / torch.where(edges > 0, edges, 1.0)[:, :, None]
    dual = torch.linalg.pinv(unit, rtol=FLATTEST / 10)
    wrong = (unit @ dual - torch.diag_embed(periodic.double())).abs().amax((1, 2)) > 1e-8
    wrong |= torch.linalg.vector_norm(dual, dim=1).amax(1) > 1 / FLATTEST
    if wrong.any():
        graph = int(wrong.nonzero()[0, 0])
        raise ValueError(f"cell[{graph}] is singular along its periodic axes: {cells[graph].tolist()}")
    return torch.where(periodic, 1 / torch.where(edges > 0, edges, 1.0), 0.0)[:, None, :] * dual
