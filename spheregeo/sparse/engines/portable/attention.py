"""Softmax over neighbours by gathers of rows of similar length, a few at a time, anywhere torch runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo.constants import made_of
from spheregeo.sparse.engines.portable.plans import LinearPlan, budget, kept
from spheregeo.sparse.forms.attention import AttentionStructure
from spheregeo.sparse.patterns import BlockPattern, Pattern


class Leaf(NamedTuple):
    """A pattern's plan, and where its targets, sources and columns of the table begin."""

    plan: LinearPlan
    target: int
    source: int
    value: int


class Stretch(NamedTuple):
    """Rows of one length T, each of M points: targets (n M,), and of each entry the source point (n, T, M) and the
    table's column (n, T), or whether there is none.
    """

    targets: Tensor
    source: Tensor
    column: Tensor
    blank: Tensor


def _leaves(pattern: Pattern) -> list[Leaf]:
    if isinstance(pattern, BlockPattern):
        return [
            Leaf(plan, t + b.target.start, s + b.source.start, v + b.values.start)
            for b in pattern.blocks
            for plan, t, s, v in _leaves(b.pattern)
        ]
    return [Leaf(kept(pattern, "portable", lambda: LinearPlan.of(pattern, None)), 0, 0, 0)]


def _cut(structure: AttentionStructure, k: Tensor, v: Tensor) -> Iterator[Stretch]:
    most, wide = budget(k, v), 2 * k.shape[0] * (k.shape[2] + v.shape[2]) * k.element_size()
    for plan, target, source, value in _leaves(structure.pattern):
        m = plan.columns
        along = torch.arange(m, device=plan.index.device)
        for classes in plan.rows.chunks(m * wide, 0, most):
            for c in classes:
                entries = slice(c.start, c.start + (c.last - c.first) * c.length)
                point = plan.index[entries]
                if plan.rings is not None:  # each ring is written twice
                    point = plan.rings.index_select(0, (point[:, None] + along).reshape(-1))
                column = plan.value[entries].view(-1, c.length)
                yield Stretch(
                    plan.targets[c.first * m : c.last * m] + target,
                    point.view(-1, c.length, m).long() + source,
                    column.clamp_min(0) + value,
                    column < 0,
                )


def _shares(structure: AttentionStructure, bias: Tensor) -> Tensor:
    """How much of each parameter a column of the table takes (T, parameters)."""

    def make() -> Tensor:
        index, share = structure.index.long(), structure.share.to(bias.dtype)
        return bias.new_zeros(index.shape[0], bias.shape[1]).scatter_add_(1, index, share)

    return made_of([structure.index, structure.share], ("shares", bias.dtype, bias.shape[1]), make)


def _scores(
    structure: AttentionStructure, part: Stretch, q: Tensor, k: Tensor, bias: Tensor | None
) -> Tensor:
    """Scores of the part's entries (B, n, T, M, heads), minus infinity where there is none."""
    n, length, m = part.source.shape
    at_q = q.index_select(1, part.targets).view(q.shape[0], n, 1, m, structure.heads, -1)
    at_k = k.index_select(1, part.source.view(-1)).view(k.shape[0], n, length, m, structure.heads, -1)
    own = structure.offset[part.column].to(q.dtype)[..., None]  # (n, T, 1)
    if bias is not None:
        own = own + _shares(structure, bias)[part.column] @ bias.T
    own = own.masked_fill(part.blank[..., None], float("-inf"))
    return (at_q * at_k).sum(-1) + own[:, :, None]


def attention(
    structure: AttentionStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Output and logarithms of the sums of exponentials."""
    q, k, v, bias = arguments
    assert q is not None and k is not None and v is not None
    heads = structure.heads
    y, total = q.new_zeros(*q.shape[:2], v.shape[2]), q.new_full((*q.shape[:2], heads), float("-inf"))
    info = torch.finfo(q.dtype)
    for part in _cut(structure, k, v):
        n, length, m = part.source.shape
        s = _scores(structure, part, q, k, bias)
        top = s.amax(2, keepdim=True).clamp_min(info.min)
        e = (s - top).exp_()
        sums = e.sum(2)
        total.index_copy_(1, part.targets, (sums.log() + top[:, :, 0]).flatten(1, 2))
        p = e / sums.clamp_min(info.tiny)[:, :, None]
        at_v = v.index_select(1, part.source.view(-1)).view(v.shape[0], n, length, m, heads, -1)
        y.index_copy_(1, part.targets, (p[..., None] * at_v).sum(2).flatten(3).flatten(1, 2))
    return [y, total]


def attention_gradients(
    structure: AttentionStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Gradients of queries, keys, values and bias, scores computed again; sums over sources by sorting, in one order."""
    q, k, v, bias, total, delta, g = arguments
    assert q is not None and k is not None and v is not None and g is not None
    assert total is not None and delta is not None
    heads, batch = structure.heads, q.shape[0]
    dq = torch.zeros_like(q)
    dk, dv = (t.new_zeros(t.shape[1], batch, t.shape[2]) for t in (k, v))  # sources first
    dbias = None if bias is None else torch.zeros_like(bias)
    for part in _cut(structure, k, v):
        n, length, m = part.source.shape
        at = (part.source.view(-1),)
        rows, entries = (batch, n, 1, m, heads), (batch, n, length, m, heads)
        p = _scores(structure, part, q, k, bias) - total.index_select(1, part.targets).view(rows)
        p = p.exp_().masked_fill(part.blank[:, :, None, None], 0)
        at_g = g.index_select(1, part.targets).view(*rows, -1)
        of_v = (p[..., None] * at_g).flatten(4).permute(1, 2, 3, 0, 4).flatten(0, 2)
        dv.index_put_(at, of_v, accumulate=True)
        dp = (at_g * v.index_select(1, at[0]).view(*entries, -1)).sum(-1)
        ds = p * (dp - delta.index_select(1, part.targets).view(rows))
        at_k = k.index_select(1, at[0]).view(*entries, -1)
        dq.index_copy_(1, part.targets, (ds[..., None] * at_k).sum(2).flatten(3).flatten(1, 2))
        at_q = q.index_select(1, part.targets).view(*rows, -1)
        of_k = (ds[..., None] * at_q).flatten(4).permute(1, 2, 3, 0, 4).flatten(0, 2)
        dk.index_put_(at, of_k, accumulate=True)
        if dbias is not None:
            summed = ds.sum((0, 3)).flatten(0, 1)  # (n T, heads)
            dbias.addmm_(summed.T, _shares(structure, dbias)[part.column.view(-1)])
    found = [dq, dk.transpose(0, 1).contiguous(), dv.transpose(0, 1).contiguous()]
    return found + ([] if dbias is None else [dbias])
