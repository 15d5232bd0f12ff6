"""Maps that are sums of blocks, each a pattern of its own kind between a stretch of the target and a stretch of the source.

A HEALPix map is one: its equatorial belt is made of equal rings, its polar caps are not. A lat-lon map with rows too wide to go
tap by tap is another: its taps and its bands, over the whole target both. Where blocks meet they add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spheregeo.sparse.patterns.bands import BandsPattern
from spheregeo.sparse.patterns.base import Memo, Pattern, pack, unpack


@dataclass(frozen=True)
class Block:
    """``pattern`` sends x[source] to y[target] and reads columns ``values`` of the common table."""

    pattern: Pattern
    target: slice
    source: slice
    values: slice


@dataclass(frozen=True)
class BlockPattern(Memo):
    """Several blocks over one source, one target and one table of coefficients, whose columns follow block by block."""

    kind: ClassVar[str] = "blocks"

    blocks: tuple[Block, ...]
    num_source: int
    num_target: int

    @property
    def num_values(self) -> int:
        return self.blocks[-1].values.stop

    @property
    def num_nonzeros(self) -> int:
        return sum(b.pattern.num_nonzeros for b in self.blocks)

    @property
    def tensors(self) -> list[Tensor]:
        return [t for block in self.blocks for t in block.pattern.tensors]

    @property
    def sizes(self) -> list[int]:
        """P, Q; then for each block its target and source stretch and its pattern's own integers."""
        out = [self.num_target, self.num_source]
        for b in self.blocks:
            out += [b.target.start, b.target.stop, b.source.start, b.source.stop, *pack(b.pattern)[1]]
        return out

    @classmethod
    def build(cls, tensors: Sequence[Tensor], sizes: Sequence[int]) -> BlockPattern:
        """Inverse of ``tensors`` and ``sizes``."""
        found: list[tuple[Pattern, slice, slice]] = []
        at = 2
        while at < len(sizes):
            t0, t1, s0, s1 = sizes[at : at + 4]
            pattern, count, length = unpack(tensors, sizes[at + 4 :])
            found.append((pattern, slice(t0, t1), slice(s0, s1)))
            tensors, at = tensors[count:], at + 4 + length
        return cls.of(found, sizes[1], sizes[0])

    @classmethod
    def of(
        cls, parts: Sequence[tuple[Pattern, slice, slice]], num_source: int, num_target: int
    ) -> BlockPattern:
        """The sum of patterns from stretches of the source to stretches of the target: (pattern, target, source)."""
        blocks, first = [], 0
        for pattern, target, source in parts:
            values = slice(first, first + pattern.num_values)
            blocks.append(Block(pattern, target, source, values))
            first = values.stop
        return cls(tuple(blocks), num_source, num_target)

    def coo(self) -> tuple[Tensor, Tensor, Tensor]:
        """(target, source, column of the table) of every nonzero."""
        parts = []
        for b in self.blocks:
            target, source, value = b.pattern.coo()
            parts.append((target + b.target.start, source + b.source.start, value + b.values.start))
        target, source, value = (torch.cat(p) for p in zip(*parts, strict=True))
        return target, source, value

    def uses(self) -> Tensor:
        """How many nonzeros read each column of the table, (num_values,) int64."""
        return torch.cat([b.pattern.uses() for b in self.blocks])

    def prune(self, keep: Tensor) -> BlockPattern:
        """The pattern without the table columns where ``keep`` is False."""
        parts = [(b.pattern.prune(keep[b.values]), b.target, b.source) for b in self.blocks]
        return BlockPattern.of(parts, self.num_source, self.num_target)

    def adjoint(self) -> tuple[BlockPattern, Tensor]:
        """The transposed pattern, and the column of this table that each column of its table copies.

        Bands serve both ways: the transposed pattern has none.
        """
        parts, orders = [], []
        for b in self.blocks:
            if isinstance(b.pattern, BandsPattern):
                continue
            pattern, order = b.pattern.adjoint()
            parts.append((pattern, b.source, b.target))
            orders.append(order + b.values.start)
        return BlockPattern.of(parts, self.num_target, self.num_source), torch.cat(orders)
