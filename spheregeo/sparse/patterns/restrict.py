"""Patterns between some of the points: the rows of a few targets, over the few source points that they read.

Rows of rings stay rings where whole rings are kept, and rows that share coefficients go on sharing them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.sparse.patterns.base import Pattern, counts_to_indptr, rows_of
from spheregeo.sparse.patterns.blocks import BlockPattern
from spheregeo.sparse.patterns.csr import CSRPattern
from spheregeo.sparse.patterns.rings import RingPattern


def sources_of(pattern: Pattern, targets: Tensor) -> Tensor:
    """Source points that the rows of some targets read, ascending. Shape: (p,) int64 -> (q,) int64."""
    kept = torch.zeros(pattern.num_target, dtype=torch.bool)
    kept[targets.cpu()] = True
    return _read(pattern, kept).nonzero()[:, 0]


def _read(pattern: Pattern, kept: Tensor) -> Tensor:
    """Which source points the kept rows read: (P,) bool -> (Q,) bool."""
    read = torch.zeros(pattern.num_source, dtype=torch.bool)
    if isinstance(pattern, BlockPattern):
        for block in pattern.blocks:
            read[block.source] |= _read(block.pattern, kept[block.target])
    elif isinstance(pattern, RingPattern) and not _torn(pattern, kept):
        whole = kept[pattern.target_base.cpu()]
        rings = torch.unique(pattern.ring.long().cpu()[whole[rows_of(pattern.indptr).cpu()]])
        read[_points(pattern.source_base, pattern.source_stride, pattern.columns)[rings]] = True
    elif isinstance(pattern, CSRPattern):
        read[pattern.indices.long().cpu()[kept[rows_of(pattern.indptr).cpu()]]] = True
    else:
        target, source, _ = pattern.coo()
        read[source.cpu()[kept[target.cpu()]]] = True
    return read


def _torn(pattern: RingPattern, kept: Tensor) -> bool:
    """Whether some rings of the target are kept in part."""
    at = kept[_points(pattern.target_base, pattern.target_stride, pattern.columns)]
    return bool((at.any(1) != at.all(1)).any())


def restrict(pattern: Pattern, targets: Tensor, sources: Tensor) -> tuple[Pattern, Tensor]:
    """The pattern between some points, and the column of the table that each column of its table copies.

    Args:
        pattern: the pattern between all points.
        targets: rows to keep, in their new order.
        sources: source points in their new order; all that these rows read.

    Shape: targets (p,), sources (q,) int64 -> a pattern of p rows over q points, (num_values,) int64.
    Raises: ValueError for rows that read another source point.
    """
    place = torch.full((pattern.num_source,), -1)
    place[sources] = torch.arange(len(sources))
    if isinstance(pattern, CSRPattern):
        return _of_rows(pattern, targets, place, len(sources))
    row = torch.full((pattern.num_target,), -1)
    row[targets] = torch.arange(len(targets))
    sizes = (len(sources), len(targets))
    found: tuple[Pattern, Tensor] | None = None
    if isinstance(pattern, RingPattern):
        found = _of_rings(pattern, row, place, *sizes)
    elif isinstance(pattern, BlockPattern):
        found = _of_blocks(pattern, row, place, *sizes)
    return _one_by_one(pattern, row, place, *sizes) if found is None else found


def _points(base: Tensor, stride: Tensor, columns: int) -> Tensor:
    """Points of rings, (rings, M)."""
    return (base[:, None] + stride[:, None] * torch.arange(columns, device=base.device)).cpu()


def _checked(place: Tensor) -> Tensor:
    if bool((place < 0).any()):
        raise ValueError(f"sources lack {int((place < 0).sum())} points that the rows of targets read")
    return place


def _of_rows(pattern: CSRPattern, targets: Tensor, place: Tensor, num_source: int) -> tuple[Pattern, Tensor]:
    counts, first = pattern.indptr.diff()[targets], pattern.indptr[:-1][targets]
    indptr = counts_to_indptr(counts)
    at = torch.arange(int(indptr[-1])) - torch.repeat_interleave(indptr[:-1], counts)
    indices = _checked(place[pattern.indices.long()[torch.repeat_interleave(first, counts) + at]])
    start = pattern.start[targets]
    used = torch.zeros(pattern.num_values, dtype=torch.bool)
    used[torch.repeat_interleave(start, counts) + at] = True
    before = counts_to_indptr(used.long())
    start = before[start.clamp_max(pattern.num_values)]
    made = CSRPattern.of(indptr, indices, num_source, start, int(before[-1]))
    return made, used.nonzero()[:, 0]


def _rings(points: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Which rings have a place, with base and stride there; None where one of them is torn apart."""
    at = place[points]
    whole = (at >= 0).all(1)
    if bool(((at >= 0).any(1) != whole).any()):
        return None
    base = at[:, 0]
    stride = at[:, 1] - base if at.shape[1] > 1 else torch.ones_like(base)
    even = at == base[:, None] + stride[:, None] * torch.arange(at.shape[1])
    return None if bool((~even.all(1) & whole).any()) else (whole, base, stride)


def _of_rings(
    pattern: RingPattern, row: Tensor, place: Tensor, num_source: int, num_target: int
) -> tuple[Pattern, Tensor] | None:
    targets = _rings(_points(pattern.target_base, pattern.target_stride, pattern.columns), row)
    sources = _rings(_points(pattern.source_base, pattern.source_stride, pattern.columns), place)
    if targets is None or sources is None:
        return None
    rows = rows_of(pattern.indptr)
    kept = targets[0][rows]
    ring = pattern.ring.long()[kept]
    _checked(sources[0][ring].long() - 1)
    order = targets[1][targets[0]].argsort()  # rings in the order of their new places
    old = targets[0].nonzero()[:, 0][order]
    new = torch.full_like(targets[1], -1)
    new[old] = torch.arange(len(old))
    columns = kept.nonzero()[:, 0]
    columns = columns[new[rows[columns]].argsort(stable=True)]
    number = counts_to_indptr(sources[0].long())
    made = RingPattern(
        indptr=counts_to_indptr(pattern.indptr.diff()[old]),
        ring=number[pattern.ring.long()[columns]].to(torch.int32),
        shift=pattern.shift[columns],
        source_base=sources[1][sources[0]],
        source_stride=sources[2][sources[0]],
        target_base=targets[1][old],
        target_stride=targets[2][old],
        columns=pattern.columns,
        num_source=num_source,
        num_target=num_target,
    )
    return made, columns


def _stretch(place: Tensor) -> slice | None:
    """The stretch that ascending places fill, -1 for none; None where they fill no stretch."""
    found = place[place >= 0]
    if not len(found):
        return slice(0, 0)
    return slice(int(found[0]), int(found[-1]) + 1) if bool((found.diff() == 1).all()) else None


def _of_blocks(
    pattern: BlockPattern, row: Tensor, place: Tensor, num_source: int, num_target: int
) -> tuple[Pattern, Tensor] | None:
    parts, columns = [], []
    for block in pattern.blocks:
        rows, points = row[block.target], place[block.source]
        target = _stretch(rows)
        if target == slice(0, 0):
            continue
        read = _read(block.pattern, rows >= 0)
        source = _stretch(torch.where(read, points, -1))
        if target is None or source is None or bool((points[read] < 0).any()):
            return None
        if source == slice(0, 0):
            continue
        own, column = restrict(block.pattern, (rows >= 0).nonzero()[:, 0], read.nonzero()[:, 0])
        parts.append((own, target, source))
        columns.append(column + block.values.start)
    return (BlockPattern.of(parts, num_source, num_target), torch.cat(columns)) if parts else None


def _one_by_one(
    pattern: Pattern, row: Tensor, place: Tensor, num_source: int, num_target: int
) -> tuple[Pattern, Tensor]:
    """Rows that list their points and have coefficients of their own."""
    target, source, column = pattern.coo()
    target = row[target]
    kept = (target >= 0).nonzero()[:, 0]
    kept = kept[target[kept].argsort(stable=True)]
    indptr = counts_to_indptr(torch.bincount(target[kept], minlength=num_target))
    return CSRPattern.of(indptr, _checked(place[source[kept]]), num_source), column[kept]
