"""Outer products summed over pairs by batched products of equal rows, a block of pairs at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from spheregeo.sparse.forms.segment import A, G, SegmentStructure

ENTRIES = 1 << 21  # of outer products that exist at once where targets have different numbers of pairs


def segment(
    structure: SegmentStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Partial derivatives in the slots ``wanted``."""
    a, b, g = arguments
    blocks = structure.memo.get("blocks")
    if blocks is None:
        blocks = structure.memo["blocks"] = _Blocks(structure.indptr, structure.num_pairs)
    found = []
    for slot in wanted:
        if slot == G:
            assert a is not None and b is not None
            found.append(_outer(blocks, a, b))
        elif slot == A:
            assert b is not None and g is not None
            found.append(_apply(blocks, g, b))
        else:
            assert a is not None and g is not None
            found.append(_apply(blocks, g.transpose(1, 2), a))
    return found


class _Blocks:
    """Pairs in rows of equal length, each of one target; ``whole`` where every target has just one full row."""

    def __init__(self, indptr: Tensor, pairs: int) -> None:
        counts = indptr.diff()
        self.indptr, self.pairs = indptr, pairs
        self.targets = len(counts)
        self.size = max(1, -(-pairs // max(int((counts > 0).sum()), 1)))
        self.whole = bool((counts == self.size).all())
        if self.whole:
            return
        rows = (counts + self.size - 1).div(self.size, rounding_mode="floor")
        self.target = torch.repeat_interleave(torch.arange(self.targets, device=indptr.device), rows)
        rank = torch.arange(len(self.target), device=indptr.device) - (rows.cumsum(0) - rows)[self.target]
        self.start = indptr[self.target] + rank * self.size

    def chunks(self, entries: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(target, pair, whether there is one) of as many rows as make ``entries`` numbers or fewer at a time."""
        step = max(1, ENTRIES // max(entries, 1))
        along = torch.arange(self.size, device=self.start.device)
        for begin in range(0, len(self.target), step):
            target = self.target[begin : begin + step]
            pair = self.start[begin : begin + step, None] + along
            inside = pair < self.indptr[target + 1, None]
            yield target, pair.clamp_(max=self.pairs - 1), inside


def _outer(blocks: _Blocks, a: Tensor, b: Tensor) -> Tensor:
    targets, pairs = blocks.targets, blocks.pairs
    if pairs == 0 or targets == 0:
        return a.new_zeros(targets, a.shape[1], b.shape[1])
    if blocks.whole:
        rows = (targets, blocks.size)
        return torch.bmm(a.reshape(*rows, -1).transpose(1, 2), b.reshape(*rows, -1))
    out = a.new_zeros(targets, a.shape[1], b.shape[1])
    for target, pair, inside in blocks.chunks(a.shape[1] * b.shape[1]):
        left = a[pair] * inside[..., None]
        out.index_add_(0, target, torch.bmm(left.transpose(1, 2), b[pair]))
    return out


def _apply(blocks: _Blocks, g: Tensor, b: Tensor) -> Tensor:
    targets, pairs = blocks.targets, blocks.pairs
    if pairs == 0 or targets == 0:
        return b.new_zeros(pairs, g.shape[1])
    if blocks.whole:
        out = torch.bmm(b.reshape(targets, blocks.size, -1), g.transpose(1, 2))
        return out.reshape(pairs, g.shape[1])
    out = b.new_empty(pairs, g.shape[1])
    for target, pair, inside in blocks.chunks(g.shape[1] * g.shape[2]):
        product = torch.bmm(b[pair], g[target].transpose(1, 2))
        out[pair[inside]] = product[inside]
    return out
