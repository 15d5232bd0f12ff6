r"""DISCO coefficients on lat-lon grids whose rows near the poles are read through means over several longitudes.

Near a pole a grid has more longitudes than a filter resolves: a disc of radius 2 spacings holds 12.6 samples at the equator and
hundreds at a pole. With boxes E of s longitudes (s | M, symmetric, those of neighbouring nodes adding up to 1), the coefficients
of such a row are

    v_q = a_q sum_n E_qn c_n,   c_n = mean of psi over the samples of box n,

so that sums over boxes come first and one product a node follows. The map still commutes with turns by one column. As c is
moment-corrected with the moments that the row's own samples see through the boxes, sum_q v_q B(q) is exact as it is without
boxes; what changes is the filter's shape, by less than a box, and no box is wider than a spacing or half the filter's radius.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo.grids import LatLon
from spheregeo.kernels import Kernel
from spheregeo.kernels.kernel import hann
from spheregeo.kernels.moments import correct_sums, moment_functions
from spheregeo.sampling.relation import Relation, relation
from spheregeo.sparse import RingPattern, SparseMap
from spheregeo.sparse.patterns import BoxedRingPattern
from spheregeo.sparse.patterns.base import counts_to_indptr

BOX = 0.5  # widest box, in radii of the filter; it is no wider than the coarser grid's spacing either


class _Nodes(NamedTuple):
    """Nodes of all rows in order, and how samples share in them.

    ``row``, ``ring``, ``shift`` (n,) of each node; ``node``, ``pair``, ``part`` of each share; ``total`` (n,) sums of parts.
    """

    row: Tensor
    ring: Tensor
    shift: Tensor
    node: Tensor
    pair: Tensor
    part: Tensor
    total: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """Means over boxes of what pairs have: (..., pairs) -> (..., n)."""
        out = values.new_zeros(*values.shape[:-1], len(self.row))
        return out.index_add_(-1, self.node, values[..., self.pair] * self.part) / self.total

    def spread(self, values: Tensor, pairs: int) -> Tensor:
        """What nodes have, handed to their samples: (..., n) -> (..., pairs)."""
        out = values.new_zeros(*values.shape[:-1], pairs)
        return out.index_add_(-1, self.pair, values[..., self.node] * self.part)


def boxes_of(source: LatLon, target: LatLon, columns: int, radius: float) -> Tensor:
    """Size of the boxes of each target row, 1 where the row is not crowded: (nlat,) int64."""
    theta = target.colatitudes
    low, high = theta - radius, theta + radius
    widest = torch.where(
        (low < math.pi / 2) & (high > math.pi / 2), 1.0, torch.maximum(torch.sin(low), torch.sin(high))
    )
    widest = torch.where((low < 0) & (high < math.pi / 2), torch.sin(high), widest)
    widest = torch.where((high > math.pi) & (low > math.pi / 2), torch.sin(low), widest)
    sizes = torch.tensor([s for s in range(1, columns // 4 + 1) if columns % s == 0 and _smooth(s)])
    apart = 2 * math.pi / columns * widest.clamp_min(1e-12)
    widest_box = min(BOX * radius, max(source.spacing, target.spacing))
    room = (widest_box * (1 + 1e-9) / apart).clamp(1, columns)
    return sizes[torch.searchsorted(sizes, room.floor().long(), right=True) - 1]


def _smooth(size: int) -> bool:
    for factor in (2, 3, 5):
        while size % factor == 0:
            size //= factor
    return size == 1


def averaged_map(
    source: LatLon, target: LatLon, kernel: Kernel, radius: float, moments: int | None, dtype: torch.dtype
) -> SparseMap | None:
    """The map of a DISCO layer with means near the poles; None where no row is crowded or the grids share too few columns."""
    boxes = boxes_of(source, target, math.gcd(source.nlon, target.nlon), radius)
    if int(boxes.max()) == 1:
        return None
    found = relation(
        source, target, min((1 + BOX) * radius, math.pi)
    )  # with all samples of boxes that meet the disc
    if not isinstance(found.pattern, RingPattern):
        return None
    near, pattern = found.neighborhood, found.pattern
    of_row = boxes[found.representatives // target.nlon]  # (rows,)
    nodes = _nodes(found, pattern, of_row, radius)
    areas = source.row_areas[near.indices // source.nlon]
    t = near.distance / radius
    values = nodes.mean(kernel(near.distance, near.angle, radius))
    area = nodes.mean(areas)
    indptr = counts_to_indptr(torch.bincount(nodes.row, minlength=len(of_row)))
    if moments is not None:
        functions = nodes.mean(moment_functions(t, near.angle, moments))
        window = nodes.mean(torch.where(t <= 1, hann(t), 0.0))
        weights = area * nodes.total
        values = correct_sums(
            values, lambda index: functions[:, index], window, weights, indptr, kernel, radius, moments
        )
    values = values * area
    plain = nodes.spread(values, len(t))
    keep = (plain != 0).any(0)
    map_ = SparseMap.from_pattern(pattern.prune(keep), plain[:, keep], dtype=dtype)
    boxed = BoxedRingPattern(
        indptr,
        nodes.ring.to(torch.int32),
        nodes.shift.to(torch.int32),
        pattern.source_base,
        pattern.source_stride,
        pattern.target_base,
        pattern.target_stride,
        pattern.columns,
        pattern.num_source,
        pattern.num_target,
        torch.ones_like(pattern.source_base),
        of_row,
    )
    twice = torch.where(of_row % 2 == 0, 0.5, 1.0)[nodes.row]  # boxes of even size add up to twice their size
    map_.by_boxes = SparseMap.from_pattern(boxed, values * twice, dtype=dtype)
    return map_


def _nodes(found: Relation, pattern: RingPattern, of_row: Tensor, radius: float) -> _Nodes:
    near, columns = found.neighborhood, pattern.columns
    rows, ring = near.rows, pattern.ring.long()
    size = of_row[rows]
    place = pattern.shift.long() + size // 2
    first = place // size
    pair = torch.arange(len(rows))
    shared = (size % 2 == 0) & (place % size == 0)  # half in the box before
    pairs = torch.cat([pair, pair[shared]])
    which = torch.cat([first, first[shared] - 1]) % (columns // size)[pairs]
    part = torch.where(shared, 0.5, 1.0)[pairs].double()
    rings = len(pattern.source_base)
    key = (rows[pairs] * rings + ring[pairs]) * columns + which * size[pairs]
    number, node = torch.unique(key, return_inverse=True)
    inside = (near.distance <= radius * (1 + 1e-12))[pairs]
    used = torch.zeros(len(number), dtype=torch.bool).index_put_((node[inside],), torch.tensor(True))
    kept = used[node]
    renumbered = used.cumsum(0) - 1
    number, node, pairs, part = number[used], renumbered[node[kept]], pairs[kept], part[kept]
    total = torch.zeros(len(number), dtype=torch.float64).index_add_(0, node, part)
    row = number // (rings * columns)
    return _Nodes(row, number // columns % rings, number % columns, node, pairs, part, total)
