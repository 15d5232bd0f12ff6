"""Maps cut into blocks, each a pattern of its own kind between a stretch of the target and a stretch of the source.

A HEALPix map is one: its equatorial belt is made of equal rings, its polar caps are not. Target stretches do not
overlap; source stretches may, so adjoints add.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from spheregeo.sparse.engines.gradients import Adjoint, Gradients
from spheregeo.sparse.pattern import KINDS, CSRPattern, Pattern, RingPattern

_CODES: list[type[CSRPattern] | type[RingPattern]] = [CSRPattern, RingPattern]


@dataclass(frozen=True)
class Block:
    """``pattern`` sends x[source] to y[target] and reads columns ``values`` of the common table."""

    pattern: CSRPattern | RingPattern
    target: slice
    source: slice
    values: slice


@dataclass(frozen=True)
class BlockPattern:
    """Several blocks over one source, one target and one table of coefficients, whose columns follow block by block."""

    kind: ClassVar[str] = "blocks"

    blocks: tuple[Block, ...]
    num_source: int
    num_target: int

    @property
    def num_values(self) -> int:
        return self.blocks[-1].values.stop

    @property
    def tensors(self) -> list[Tensor]:
        return [t for block in self.blocks for t in block.pattern.tensors]

    @property
    def sizes(self) -> list[int]:
        """P, Q, T; then for each block its kind, target and source stretch and the pattern's own sizes."""
        out = [self.num_target, self.num_source, self.num_values]
        for b in self.blocks:
            stretches = [b.target.start, b.target.stop, b.source.start, b.source.stop]
            out += [_CODES.index(type(b.pattern)), len(b.pattern.sizes), *stretches, *b.pattern.sizes]
        return out

    @classmethod
    def build(cls, tensors: list[Tensor], sizes: list[int]) -> BlockPattern:
        """Inverse of ``tensors`` and ``sizes``."""
        blocks, at, first = [], 3, 0
        tensors = list(tensors)
        while at < len(sizes):
            kind, count, t0, t1, s0, s1 = sizes[at : at + 6]
            own = sizes[at + 6 : at + 6 + count]
            number = 4 if kind == 0 else 7
            pattern = _CODES[kind].build(tensors[:number], own)
            tensors = tensors[number:]
            blocks.append(
                Block(pattern, slice(t0, t1), slice(s0, s1), slice(first, first + pattern.num_values))
            )
            first += pattern.num_values
            at += 6 + count
        return cls(tuple(blocks), sizes[1], sizes[0])

    def coo(self) -> tuple[Tensor, Tensor, Tensor]:
        """(target, source, column of the table) of every nonzero."""
        parts = []
        for b in self.blocks:
            target, source, value = b.pattern.coo()
            parts.append((target + b.target.start, source + b.source.start, value + b.values.start))
        target, source, value = (torch.cat(p) for p in zip(*parts, strict=True))
        return target, source, value

    def prune(self, keep: Tensor) -> BlockPattern:
        """The pattern without the table columns where ``keep`` is False."""
        blocks, first = [], 0
        for b in self.blocks:
            pattern = b.pattern.prune(keep[b.values])
            blocks.append(replace(b, pattern=pattern, values=slice(first, first + pattern.num_values)))
            first += pattern.num_values
        return replace(self, blocks=tuple(blocks))

    def adjoint(self) -> tuple[BlockPattern, Tensor]:
        """The transposed pattern, and the column of this table that each column of its table copies."""
        blocks, orders, first = [], [], 0
        for b in self.blocks:
            pattern, order = b.pattern.adjoint()
            blocks.append(Block(pattern, b.source, b.target, slice(first, first + len(order))))
            orders.append(order + b.values.start)
            first += len(order)
        return BlockPattern(tuple(blocks), self.num_target, self.num_source), torch.cat(orders)


class BlockEngine(Gradients):
    """Runs another engine block by block."""

    def __init__(self, engine: Gradients) -> None:
        self.engine = engine

    def apply(self, pattern: Pattern, v: Tensor, w: Tensor | None, x: Tensor, groups: int) -> Tensor:
        assert isinstance(pattern, BlockPattern)
        outputs = x.shape[1] * v.shape[0] if w is None else w.shape[0]
        y = x.new_zeros(x.shape[0], outputs, pattern.num_target)
        for b in pattern.blocks:
            y[..., b.target] += self.engine.apply(b.pattern, v[:, b.values], w, x[..., b.source], groups)
        return y

    def weight_gradient(self, pattern: Pattern, v: Tensor, x: Tensor, g: Tensor, groups: int) -> Tensor:
        assert isinstance(pattern, BlockPattern)
        parts = [
            self.engine.weight_gradient(b.pattern, v[:, b.values], x[..., b.source], g[..., b.target], groups)
            for b in pattern.blocks
        ]
        return torch.stack(parts).sum(0)

    def gradients(
        self,
        pattern: Pattern,
        adjoint: Adjoint,
        v: Tensor,
        w: Tensor,
        x: Tensor,
        g: Tensor,
        groups: int,
        need_x: bool,
    ) -> tuple[Tensor | None, Tensor]:
        turned, order = adjoint
        assert isinstance(pattern, BlockPattern) and isinstance(turned, BlockPattern)
        gx, gw = torch.zeros_like(x) if need_x else None, None
        for b, a in zip(pattern.blocks, turned.blocks, strict=True):
            own: Adjoint = (a.pattern, order[a.values] - b.values.start)
            part = (v[:, b.values], w, x[..., b.source], g[..., b.target], groups, need_x)
            part_x, part_w = self.engine.gradients(b.pattern, own, *part)
            if gx is not None and part_x is not None:
                gx[..., b.source] += part_x
            gw = part_w if gw is None else gw + part_w
        assert gw is not None
        return gx, gw

    def value_gradient(self, pattern: Pattern, w: Tensor | None, x: Tensor, g: Tensor, groups: int) -> Tensor:
        assert isinstance(pattern, BlockPattern)
        parts = [
            self.engine.value_gradient(b.pattern, w, x[..., b.source], g[..., b.target], groups)  # type: ignore[attr-defined]
            for b in pattern.blocks
        ]
        return torch.cat(parts, 1)


KINDS["blocks"] = BlockPattern
