"""Softmax over neighbours by compiled loops: a row's scores at a time, in cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from spheregeo.sparse.engines import kernels
from spheregeo.sparse.engines.compiled.runtime import array, threads
from spheregeo.sparse.forms.attention import AttentionStructure
from spheregeo.sparse.patterns import BlockPattern, CSRPattern, Pattern, RingPattern

Rows = tuple[np.ndarray, ...]


def attention(
    structure: AttentionStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Output and logarithms of the sums of exponentials."""
    q, k, v, bias = arguments
    assert q is not None and k is not None and v is not None
    y = q.new_zeros(*q.shape[:2], v.shape[2])
    total = q.new_full((*q.shape[:2], structure.heads), float("-inf"))
    scores = _scores(structure, bias, q.dtype)
    for rows, first, _ in _rows(structure.pattern):
        with threads() as count:
            kernels.attend(
                array(q),
                array(k),
                array(v),
                rows,
                first,
                scores,
                structure.heads,
                count,
                y.numpy(),
                total.numpy(),
            )
    return [y, total]


def attention_gradients(
    structure: AttentionStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Gradients of queries and bias by rows, of keys and values by the adjoint's rows; no two threads add to one number."""
    q, k, v, bias, total, delta, g = arguments
    assert q is not None and k is not None and v is not None and g is not None
    assert total is not None and delta is not None
    heads = structure.heads
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    scores = _scores(structure, bias, q.dtype)
    given = tuple(array(t) for t in (q, k, v, total, delta, g))
    with threads() as count:
        dbias = q.new_zeros(count, *scores[0].shape)
        for rows, first, _ in _rows(structure.pattern):
            kernels.attend_queries(*given, rows, first, scores, heads, count, dq.numpy(), dbias.numpy())
        order = array(structure.linear.order)
        for rows, first, values in _rows(structure.linear.adjoint):
            own = (scores[0], order[values], *scores[1:])
            kernels.attend_keys(*given, rows, first, own, heads, count, dk.numpy(), dv.numpy())
    return [dq, dk, dv] + ([] if bias is None else [dbias.sum(0)])


def _scores(structure: AttentionStructure, bias: Tensor | None, dtype: torch.dtype) -> tuple[np.ndarray, ...]:
    """Bias (heads, K), empty where there is none, and what scores take from a column of the table."""
    table = torch.zeros(structure.heads, 0, dtype=dtype) if bias is None else bias
    share = structure.share if bias is not None else structure.share[:, :0]
    parts = (table, structure.offset.to(dtype), structure.index[:, : share.shape[1]], share.to(dtype))
    return tuple(array(t) for t in parts)


def _rows(pattern: Pattern) -> Iterator[tuple[Rows, tuple[int, int, int], slice]]:
    """Rows for the loops, where their targets, sources and columns of the table begin, and the columns."""
    if isinstance(pattern, BlockPattern):
        for b in pattern.blocks:
            for rows, _, _ in _rows(b.pattern):
                yield rows, (b.target.start, b.source.start, b.values.start), b.values
        return
    whole = slice(0, pattern.num_values)
    if isinstance(pattern, CSRPattern):
        none = np.zeros(0, np.int64)
        rows = (array(pattern.indptr), array(pattern.start), array(pattern.indices), none, none, none, none)
        yield (*rows, np.array([1])), (0, 0, 0), whole
        return
    assert isinstance(pattern, RingPattern)
    ring = pattern.ring.long()
    tensors = (
        pattern.indptr,
        pattern.indptr,
        pattern.source_base[ring].to(torch.int32),
        pattern.source_stride[ring],
        pattern.shift.long(),
        pattern.target_base,
        pattern.target_stride,
    )
    yield (*(array(t) for t in tensors), np.array([pattern.columns])), (0, 0, 0), whole
