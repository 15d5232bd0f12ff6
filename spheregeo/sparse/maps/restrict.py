"""Maps between some of the points: the rows of a few targets, over the source points that those read."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from spheregeo.sparse.forms.attention import AttentionStructure
from spheregeo.sparse.maps.attention import AttentionMap
from spheregeo.sparse.maps.base import FixedMap
from spheregeo.sparse.maps.gather import Gather
from spheregeo.sparse.maps.max_plus import MaxPlusMap
from spheregeo.sparse.maps.sparse import SparseMap
from spheregeo.sparse.maps.tangent import TangentMap, _directions
from spheregeo.sparse.patterns import CSRPattern, Pattern
from spheregeo.sparse.patterns.restrict import restrict, sources_of

M = TypeVar("M", bound=FixedMap)


def read_points(map_: FixedMap, targets: Tensor) -> Tensor:
    """Source points that the rows of some targets read, ascending.

    Args:
        map_: a map between fixed points.
        targets: rows of the map.

    Shape: (p,) int64 -> (q,) int64.
    Raises: TypeError for another kind of map.
    """
    if isinstance(map_, Gather):
        index, extras = _copies(map_)
        taken = index[targets]
        chosen = torch.zeros(len(index), dtype=torch.bool)
        chosen[targets] = True
        return torch.unique(torch.cat([taken[taken >= 0], extras[1][chosen[extras[0]]]]))
    return sources_of(_pattern(map_), targets)


def restricted(map_: M, targets: Tensor, sources: Tensor) -> M:
    """The map from some source points to some targets, with tensors of its own.

    Args:
        map_: a map between fixed points, on the CPU.
        targets: rows to keep, in their new order.
        sources: source points in their new order; all that these rows read, and others if wanted.

    Shape: targets (p,), sources (q,) int64; the result maps (..., q) to (..., p).
    Raises: TypeError for another kind of map; ValueError for rows that read another source point.

    Example:
        >>> import torch
        >>> from spheregeo.sparse import SparseMap
        >>> from spheregeo.sparse.maps.restrict import restricted
        >>> map = SparseMap(torch.tensor([0, 1, 3]), torch.tensor([0, 0, 1]), torch.tensor([2.0, 1.0, 1.0]), 2)
        >>> restricted(map, torch.tensor([1]), torch.tensor([1, 0]))(torch.tensor([[10.0, 1.0]]))
        tensor([[11.]])
    """
    if isinstance(map_, Gather):
        made: Any = _gather(map_, targets, sources)
    elif isinstance(map_, MaxPlusMap):
        made = _max_plus(map_, targets, sources)
    else:
        pattern, columns = restrict(_pattern(map_), targets, sources)
        if isinstance(map_, SparseMap):
            made = SparseMap.from_pattern(pattern, map_.values[:, columns], engine=map_.engine)
        elif isinstance(map_, TangentMap):
            made = _tangent(map_, pattern, map_.table[columns])
        else:
            made = _attention(map_, pattern, columns)  # type: ignore[arg-type]
    return made  # type: ignore[no-any-return]


def _pattern(map_: FixedMap) -> Pattern:
    if isinstance(map_, SparseMap):
        return map_.pattern
    if isinstance(map_, AttentionMap):
        return _attention_structure(map_).pattern
    if isinstance(map_, MaxPlusMap):
        return CSRPattern.of(map_.get_buffer("indptr"), map_.get_buffer("source"), map_.num_source)
    if not isinstance(map_, TangentMap):
        raise TypeError(f"map_ is a {type(map_).__name__}; expected a map between fixed points")
    indptr, indices, start, members = (
        map_.get_buffer(name) for name in ("indptr", "indices", "start", "members")
    )
    given = start if len(members) else None
    return CSRPattern.of(indptr, indices, map_.num_source, given, map_.table.shape[0])


def _tangent(map_: TangentMap, pattern: Pattern, table: Tensor) -> TangentMap:
    made = TangentMap.__new__(TangentMap)
    FixedMap.__init__(made, map_.engine)
    made.rings, made.frequency = map_.rings, map_.frequency
    made.num_target, made.num_source = pattern.num_target, pattern.num_source
    made._set(table, *_directions(pattern))
    return made


def _attention_structure(map_: AttentionMap) -> AttentionStructure:
    return AttentionStructure.build(map_._given(map_._names), [1, *map_._sizes])


def _attention(map_: AttentionMap, pattern: Pattern, columns: Tensor) -> AttentionMap:
    whole = _attention_structure(map_)
    basis = whole.offset.new_zeros(map_.num_functions, len(columns))
    index = whole.index[columns].long().T
    basis.scatter_(0, index, whole.share[columns].T)
    return AttentionMap(pattern, whole.offset[columns], basis, engine=map_.engine)


def _max_plus(map_: MaxPlusMap, targets: Tensor, sources: Tensor) -> MaxPlusMap:
    """Its rows read the columns of the whole table, which comes with each call."""
    pattern, entries = restrict(_pattern(map_), targets, sources)
    made = MaxPlusMap(pattern, semiring=map_.semiring, engine=map_.engine)
    made.num_values, made.kind = map_.num_values, map_.kind
    taken = entries[made.get_buffer("column").long()]
    made._keep("column", map_.get_buffer("column")[taken])
    return made


def _copies(map_: Gather) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Source of each row, -1 for none, and the weighted extras."""
    index = map_.get_buffer("index").long()
    index[map_.get_buffer("empty")] = -1
    target, source, weight = (map_.get_buffer(name) for name in ("target", "source", "weight"))
    return index, (target.long(), source.long(), weight)


def _gather(map_: Gather, targets: Tensor, sources: Tensor) -> Gather:
    index, (rows, points, weights) = _copies(map_)
    place = torch.full((map_.num_source,), -1)
    place[sources] = torch.arange(len(sources))
    row = torch.full((map_.num_target,), -1)
    row[targets] = torch.arange(len(targets))
    taken = index[targets]
    kept = row[rows] >= 0
    own, extra = place[taken.clamp_min(0)], place[points[kept]]
    if bool((own[taken >= 0] < 0).any()) or bool((extra < 0).any()):
        raise ValueError("sources lack points that the rows of targets read")
    own = torch.where(taken < 0, -1, own)
    return Gather(own, len(sources), (row[rows[kept]], extra, weights[kept]), engine=map_.engine)
