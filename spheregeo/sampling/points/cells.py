"""The search in plain torch, for GPUs: lists of cubic cells, targets in chunks. The same neighbours as on a CPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.sampling.points.query import RELATIVE, Query

CANDIDATES = 2**22  # pairs looked at together
BORDER = 3  # empty cells around a graph, so that cells next to any target's have keys of their own
MARGIN = 1 + 1e-6  # edge of a cell over the radius it serves


@dataclass(frozen=True)
class _Cells:
    """Sources of all graphs sorted by cell: a column of cells along z has consecutive keys."""

    origin: Tensor  # (B, 3)
    edge: Tensor  # (B,)
    shape: Tensor  # (B, 3) cells along the axes, borders included
    base: Tensor  # (B,) key of a graph's first cell
    keys: Tensor  # (S,) ascending
    order: Tensor  # (S,) the source at each place

    @classmethod
    def of(cls, sources: Tensor, graph: Tensor, edge: Tensor) -> _Cells:
        count = len(edge)
        index = graph[:, None].expand(-1, 3)
        low = sources.new_full((count, 3), torch.inf).scatter_reduce_(0, index, sources, "amin")
        high = sources.new_full((count, 3), -torch.inf).scatter_reduce_(0, index, sources, "amax")
        empty = low > high
        low, size = low.masked_fill(empty, 0.0), (high - low).masked_fill(empty, 0.0)
        most = 2 ** ((62 - count.bit_length()) // 3) - 2 * BORDER - 1  # keys of all graphs fit 62 bits
        edge = (edge * MARGIN).maximum(size.amax(1) / most)
        shape = (size / edge[:, None]).floor().long() + 1 + 2 * BORDER
        ends = shape.prod(1).cumsum(0)
        grid = cls(low, edge, shape, ends - shape.prod(1), graph, graph)
        keys, order = torch.sort(grid.key(grid.cell(sources, graph), graph), stable=True)
        return cls(low, edge, shape, grid.base, keys, order)

    def cell(self, points: Tensor, graph: Tensor) -> Tensor:
        """Cell of each point (P, 3); far away points stand next to the border."""
        steps = ((points - self.origin[graph]) / self.edge[graph, None]).floor() + BORDER
        return torch.minimum(steps.clamp_min(1), self.shape[graph] - 2).long()

    def key(self, cell: Tensor, graph: Tensor) -> Tensor:
        shape = self.shape[graph]
        return self.base[graph] + (cell[..., 0] * shape[:, 1] + cell[..., 1]) * shape[:, 2] + cell[..., 2]

    def columns(self, targets: Tensor, graph: Tensor) -> tuple[Tensor, Tensor]:
        """Where the nine columns of three cells around each target begin and end among the sorted sources, (T, 9) each."""
        middle = self.cell(targets, graph)
        begins, ends = [], []
        for x in (-1, 0, 1):
            for y in (-1, 0, 1):
                key = self.key(middle + middle.new_tensor([x, y, -1]), graph)
                begins.append(torch.searchsorted(self.keys, key))
                ends.append(torch.searchsorted(self.keys, key + 3))
        return torch.stack(begins, 1), torch.stack(ends, 1)


def search(query: Query) -> tuple[Tensor, Tensor]:
    """Numbers of neighbours (T,) and their indices, target after target (E,)."""
    target_graph = _graph_of(query.target_bounds)
    source_graph = _graph_of(query.source_bounds)
    every = torch.arange(len(query.targets), device=query.targets.device)
    if not len(query.sources) or not len(query.targets):
        return torch.zeros_like(every), every[:0]
    farthest = torch.minimum(query.reach, _span(query, source_graph, target_graph))
    if query.limit is None or bool(torch.isfinite(query.reach).all()):
        cells = _Cells.of(query.sources, source_graph, farthest)
        counts, found, _ = _look(query, cells, every, target_graph, farthest)
        return counts, found
    radius = _first_radius(query, source_graph, farthest)
    pieces, left = [], every
    while len(left):  # targets whose neighbours are not certain look twice as far
        cells = _Cells.of(query.sources, source_graph, radius)
        graph = target_graph[left]
        counts, found, certain = _look(query, cells, left, graph, radius)
        certain |= (radius >= farthest)[graph]
        pieces.append((left[certain], counts[certain], found[certain.repeat_interleave(counts)]))
        left = left[~certain]
        radius = torch.minimum(2 * radius, farthest)
    return _merged(pieces, len(every))


def _span(query: Query, source_graph: Tensor, target_graph: Tensor) -> Tensor:
    """A distance that no two points of a graph exceed, (B,), above 0."""
    points = torch.cat([query.sources, query.targets])
    index = torch.cat([source_graph, target_graph])[:, None].expand(-1, 3)
    low = points.new_full((len(query.reach), 3), torch.inf).scatter_reduce_(0, index, points, "amin")
    high = points.new_full((len(query.reach), 3), -torch.inf).scatter_reduce_(0, index, points, "amax")
    length = torch.linalg.vector_norm((high - low).clamp_min(0), dim=1)
    return (1 + 1e-9) * length + 1e-30


def _graph_of(bounds: Tensor) -> Tensor:
    return torch.repeat_interleave(bounds.diff())


def _first_radius(query: Query, graph: Tensor, farthest: Tensor) -> Tensor:
    """For each graph a radius at which a typical point sees a little more than ``limit`` sources, (B,)."""
    assert query.limit is not None
    size, wanted = query.source_bounds.diff(), query.limit + 1
    radius = (farthest * (0.5 * wanted / size.clamp_min(1)).clamp_max(1.0) ** (1 / 3)).maximum(
        query.tolerance
    )
    small = size <= 8 * wanted
    radius = torch.where(small, farthest, radius)
    for _ in range(24):  # clouds fill little of their box: shrink until a point's own cell holds few others
        cells = _Cells.of(query.sources, graph, radius)
        _, inverse, number = torch.unique_consecutive(cells.keys, return_inverse=True, return_counts=True)
        crowd = torch.zeros_like(radius).index_add_(0, graph[cells.order], number[inverse].double())
        crowded = (crowd > size * wanted) & (radius > query.tolerance) & ~small
        if not crowded.any():
            break
        radius = torch.where(crowded, radius / 1.5, radius)
    return torch.minimum(radius, farthest)


def _look(
    query: Query, cells: _Cells, rows: Tensor, graph: Tensor, radius: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Ranked neighbours within ``radius`` of some targets: counts, sources, and whether a next class was seen."""
    begins, ends = [], []
    for at in range(0, len(rows), CANDIDATES // 16):
        part = slice(at, at + CANDIDATES // 16)
        begin, end = cells.columns(query.targets[rows[part]], graph[part])
        begins.append(begin)
        ends.append(end)
    begin, end = torch.cat(begins), torch.cat(ends)
    total = (end - begin).sum(1).cumsum(0)
    results, at = [], 0
    while at < len(rows):
        before = total[at - 1] if at else total.new_zeros(())
        to = max(at + 1, int(torch.searchsorted(total, before + CANDIDATES, right=True)))
        part = slice(at, to)
        results.append(_chunk(query, cells, rows[part], graph[part], radius, begin[part], end[part]))
        at = to
    counts, sources, certain = zip(*results, strict=True)
    return torch.cat(counts), torch.cat(sources), torch.cat(certain)


def _chunk(
    query: Query, cells: _Cells, rows: Tensor, graph: Tensor, radius: Tensor, begin: Tensor, end: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    length = (end - begin).flatten()
    first = length.cumsum(0) - length
    place = torch.repeat_interleave((begin.flatten() - first), length)
    source = cells.order[place + torch.arange(len(place), device=place.device)]
    row = torch.repeat_interleave(length.view(-1, 9).sum(1))
    target = rows[row]
    step = query.sources[source] - query.targets[target]
    x, y, z = step.unbind(1)
    distance = (x * x + y * y + z * z).sqrt()
    own = query.own[target] == source
    keep = distance <= radius[graph][row]
    if query.keep_own:
        distance = distance.masked_fill(own, -1.0)
        keep = keep | own
    else:
        keep = keep & ~own
    keep = keep.nonzero()[:, 0]
    tolerance = query.tolerance[graph]
    return rank(
        row[keep],
        source[keep],
        distance[keep],
        tolerance,
        query.limit,
        query.all_ties,
        len(rows),
        len(query.sources),
    )


def rank(
    row: Tensor,
    source: Tensor,
    distance: Tensor,
    tolerance: Tensor,
    limit: int | None,
    all_ties: bool,
    num_rows: int,
    num_sources: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Order the candidates of each row by (class of distance, index) and keep the first: counts, sources, certainty."""
    order = torch.argsort(distance, stable=True)
    order = order[torch.argsort(row[order], stable=True)]
    row, source, distance = row[order], source[order], distance[order]
    new = torch.ones_like(row, dtype=torch.bool)
    gap = distance.diff()
    new[1:] = (row.diff() != 0) | (gap > torch.minimum(tolerance[row[1:]], RELATIVE * distance[1:]))
    kind = new.cumsum(0) - 1
    source = source[torch.argsort(kind * num_sources + source)]
    counts = torch.bincount(row, minlength=num_rows)
    if limit is None:
        return counts, source, torch.ones_like(counts, dtype=torch.bool)
    start = counts.cumsum(0) - counts
    place = torch.arange(len(row), device=row.device)
    beginning = place[new]
    certain = counts >= limit
    full = certain.nonzero()[:, 0]
    certain[full] = kind[(start + counts - 1)[full]] > kind[(start + limit - 1)[full]]
    if all_ties:
        keep = beginning[kind] - start[row] < limit
    else:
        keep = place - start[row] < limit
    return torch.bincount(row[keep], minlength=num_rows), source[keep], certain


def _merged(pieces: list[tuple[Tensor, Tensor, Tensor]], num_rows: int) -> tuple[Tensor, Tensor]:
    """Counts and values of all rows from pieces that hold some rows each."""
    rows, counts, values = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    all_counts = torch.zeros(num_rows, dtype=torch.int64, device=rows.device).index_copy_(0, rows, counts)
    start = (all_counts.cumsum(0) - all_counts)[rows]
    shift = torch.repeat_interleave(start - (counts.cumsum(0) - counts), counts)
    out = torch.empty_like(values)
    out[shift + torch.arange(len(values), device=rows.device)] = values
    return all_counts, out
