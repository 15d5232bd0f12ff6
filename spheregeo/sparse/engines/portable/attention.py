"""Softmax over neighbours by gathers and sums, a block of rows at a time, anywhere torch runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo.sparse.forms.attention import AttentionStructure, bias_of
from spheregeo.sparse.patterns import BlockPattern, CSRPattern, Pattern, RingPattern
from spheregeo.sparse.patterns.base import rows_of

CHUNK_BYTES = 1 << 25


class Part(NamedTuple):
    """Whole rows: their target points, and of each nonzero the row among them, the source point and the table's column."""

    targets: Tensor
    row: Tensor
    source: Tensor
    column: Tensor


def parts(pattern: Pattern, most: int) -> Iterator[Part]:
    """A pattern's rows in parts of at most ``most`` nonzeros, or of one row (on rings, of one row for each column)."""
    if isinstance(pattern, BlockPattern):
        for b in pattern.blocks:
            for part in parts(b.pattern, most):
                yield Part(
                    part.targets + b.target.start,
                    part.row,
                    part.source + b.source.start,
                    part.column + b.values.start,
                )
        return
    assert isinstance(pattern, CSRPattern | RingPattern)
    columns = pattern.columns if isinstance(pattern, RingPattern) else 1
    ends = pattern.indptr.tolist()
    first = 0
    while first < len(ends) - 1:
        last = first + 1
        while last < len(ends) - 1 and (ends[last + 1] - ends[first]) * columns <= most:
            last += 1
        nonzeros = slice(ends[first], ends[last])
        row = rows_of(pattern.indptr[first : last + 1])
        if isinstance(pattern, CSRPattern):
            at = torch.arange(nonzeros.start, nonzeros.stop, device=row.device)
            column = at + (pattern.start[first:last] - pattern.indptr[first:last])[row]
            targets = torch.arange(first, last, device=row.device)
            yield Part(targets, row, pattern.indices[nonzeros].long(), column)
        else:
            j = torch.arange(columns, device=row.device)
            targets = pattern.target_base[first:last, None] + pattern.target_stride[first:last, None] * j
            ring = pattern.ring[nonzeros].long()
            turned = (j + pattern.shift[nonzeros, None].long()) % columns
            source = pattern.source_base[ring, None] + pattern.source_stride[ring, None] * turned
            column = torch.arange(nonzeros.start, nonzeros.stop, device=row.device)[:, None]
            yield Part(
                targets.reshape(-1),
                (row[:, None] * columns + j).reshape(-1),
                source.reshape(-1),
                column.expand_as(source).reshape(-1),
            )
        first = last


def _cut(structure: AttentionStructure, k: Tensor, v: Tensor) -> Iterator[Part]:
    wide = k.shape[0] * (k.shape[2] + v.shape[2]) * k.element_size()
    return parts(structure.pattern, max(1, CHUNK_BYTES // max(1, wide)))


def _scores(structure: AttentionStructure, part: Part, q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """Scores of the part's nonzeros (B, n, heads)."""
    heads = structure.heads
    at_q = q[:, part.targets[part.row]].unflatten(2, (heads, -1))
    at_k = k[:, part.source].unflatten(2, (heads, -1))
    return (at_q * at_k).sum(-1) + bias_of(structure, bias, part.column).to(q.dtype)


def attention(
    structure: AttentionStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Output and logarithms of the sums of exponentials."""
    q, k, v, bias = arguments
    assert q is not None and k is not None and v is not None
    heads = structure.heads
    y, total = q.new_zeros(*q.shape[:2], v.shape[2]), q.new_full((*q.shape[:2], heads), float("-inf"))
    for part in _cut(structure, k, v):
        s = _scores(structure, part, q, k, bias)
        shape = (q.shape[0], len(part.targets), heads)
        top = s.new_full(shape, float("-inf"))
        top.scatter_reduce_(1, part.row[None, :, None].expand(s.shape), s, "amax")
        top.masked_fill_(top.isinf(), 0.0)
        e = (s - top[:, part.row]).exp_()
        sums = s.new_zeros(shape).index_add_(1, part.row, e)
        total[:, part.targets] = sums.log() + top
        p = e / sums[:, part.row]
        weighted = (p[..., None] * v[:, part.source].unflatten(2, (heads, -1))).flatten(2)
        y[:, part.targets] = y.new_zeros(*shape[:2], y.shape[2]).index_add_(1, part.row, weighted)
    return [y, total]


def attention_gradients(
    structure: AttentionStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Gradients of queries, keys, values and bias, scores computed again."""
    q, k, v, bias, total, delta, g = arguments
    assert q is not None and k is not None and v is not None and g is not None
    assert total is not None and delta is not None
    heads = structure.heads
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    dbias = None if bias is None else torch.zeros_like(bias)
    for part in _cut(structure, k, v):
        target = part.targets[part.row]
        p = (_scores(structure, part, q, k, bias) - total[:, target]).exp_()
        at_g = g[:, target].unflatten(2, (heads, -1))
        dv.index_add_(1, part.source, (p[..., None] * at_g).flatten(2))
        dp = (at_g * v[:, part.source].unflatten(2, (heads, -1))).sum(-1)
        ds = p * (dp - delta[:, target])
        at_k = k[:, part.source].unflatten(2, (heads, -1))
        dq.index_add_(1, target, (ds[..., None] * at_k).flatten(2))
        at_q = q[:, target].unflatten(2, (heads, -1))
        dk.index_add_(1, part.source, (ds[..., None] * at_q).flatten(2))
        if dbias is not None:
            summed = ds.sum(0)  # (n, heads)
            index, share = structure.index[part.column].long(), structure.share[part.column].to(ds.dtype)
            for j in range(index.shape[1]):
                dbias.T.index_add_(0, index[:, j], summed * share[:, j, None])
    return [dq, dk, dv] + ([] if dbias is None else [dbias])
