"""Rows that are rings: the map commutes with the rotation of M equidistant points, so an entry serves all M of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from spheregeo.sparse.patterns.base import Memo, counts_to_indptr, rows_of


@dataclass(frozen=True)
class RingPattern(Memo):
    """Block-circulant rows: entry t of row p adds ``value_t * x[ring_t, j + shift_t mod M]`` to point j of row p."""

    kind: ClassVar[str] = "rings"

    indptr: Tensor  # (rows + 1,) int64
    ring: Tensor  # (nnz,) int32
    shift: Tensor  # (nnz,) int32, 0 <= shift < M
    source_base: Tensor  # (source rings,) int64
    source_stride: Tensor  # (source rings,) int64
    target_base: Tensor  # (rows,) int64
    target_stride: Tensor  # (rows,) int64
    columns: int  # M
    num_source: int
    num_target: int

    @property
    def num_values(self) -> int:
        return len(self.ring)

    @property
    def num_nonzeros(self) -> int:
        return len(self.ring) * self.columns

    @property
    def tensors(self) -> list[Tensor]:
        return [
            self.indptr,
            self.ring,
            self.shift,
            self.source_base,
            self.source_stride,
            self.target_base,
            self.target_stride,
        ]

    @property
    def sizes(self) -> list[int]:
        return [self.num_target, self.num_source, self.num_values, self.columns]

    @classmethod
    def build(cls, tensors: Sequence[Tensor], sizes: Sequence[int]) -> RingPattern:
        num_target, num_source, _, columns = sizes
        return cls(*tensors, columns, num_source, num_target)  # type: ignore[arg-type, call-arg]

    def coo(self) -> tuple[Tensor, Tensor, Tensor]:
        """(target, source, column of the table) of every nonzero of the full map, each (nnz * M,) int64."""
        rows, ring = rows_of(self.indptr), self.ring.long()
        j = torch.arange(self.columns, device=rows.device)
        target = self.target_base[rows, None] + self.target_stride[rows, None] * j
        turned = (j + self.shift[:, None].long()) % self.columns
        source = self.source_base[ring, None] + self.source_stride[ring, None] * turned
        value = torch.arange(len(rows), device=rows.device)[:, None].expand_as(target)
        return target.reshape(-1), source.reshape(-1), value.reshape(-1)

    def uses(self) -> Tensor:
        """How many nonzeros read each column of the table, (num_values,) int64."""
        return torch.full((self.num_values,), self.columns, device=self.ring.device)

    def prune(self, keep: Tensor) -> RingPattern:
        """The pattern without the table columns where ``keep`` (num_values,) is False."""
        counts = torch.bincount(rows_of(self.indptr)[keep], minlength=len(self.indptr) - 1)
        return replace(self, indptr=counts_to_indptr(counts), ring=self.ring[keep], shift=self.shift[keep])

    def adjoint(self) -> tuple[RingPattern, Tensor]:
        """The transposed pattern, and the column of this table that each column of its table copies."""
        ring = self.ring.long()
        order = torch.argsort(ring, stable=True)
        indptr = counts_to_indptr(torch.bincount(ring, minlength=len(self.source_base)))
        pattern = RingPattern(
            indptr=indptr,
            ring=rows_of(self.indptr)[order].to(torch.int32),
            shift=((-self.shift[order]) % self.columns).to(torch.int32),
            source_base=self.target_base,
            source_stride=self.target_stride,
            target_base=self.source_base,
            target_stride=self.source_stride,
            columns=self.columns,
            num_source=self.num_target,
            num_target=self.num_source,
        )
        return pattern, order


@dataclass(frozen=True)
class BoxedRingPattern(RingPattern):
    """Rings whose entries read sums over boxes of neighbouring points, sizes by source ring and by row.

    The box of size s about a point sums it and its s // 2 neighbours on either side; where s is even, all but the outermost
    two count twice, which adds up to 2 s. Of the two sizes of an entry one is 1. Boxes commute with turns, so the adjoint sums
    over the boxes of what its entries read. Only the engine "cpu" reads such patterns.
    """

    kind: ClassVar[str] = "boxed rings"

    source_box: Tensor  # (source rings,) int64
    target_box: Tensor  # (rows,) int64

    @property
    def tensors(self) -> list[Tensor]:
        return [*super().tensors, self.source_box, self.target_box]

    @classmethod
    def build(cls, tensors: Sequence[Tensor], sizes: Sequence[int]) -> BoxedRingPattern:
        num_target, num_source, _, columns = sizes
        return cls(*tensors[:7], columns, num_source, num_target, *tensors[7:])  # type: ignore[arg-type, call-arg]

    def coo(self) -> tuple[Tensor, Tensor, Tensor]:
        """As for rings, an entry for each point of its box, as often as it counts."""
        rows, ring = rows_of(self.indptr), self.ring.long()
        parts = []
        j = torch.arange(self.columns, device=rows.device)
        box = self.target_box[rows] * self.source_box[ring]
        for size in torch.unique(box).tolist():
            t = (box == size).nonzero()[:, 0]
            half = torch.arange(-(size // 2), size // 2 + 1, device=rows.device)
            steps = half if size % 2 else torch.cat([half[1:], half[:-1]])
            target = (self.target_base[rows[t], None] + self.target_stride[rows[t], None] * j)[..., None]
            turned = (j[:, None] + self.shift[t, None, None].long() + steps) % self.columns
            source = self.source_base[ring[t], None, None] + self.source_stride[ring[t], None, None] * turned
            value = t[:, None, None].expand_as(source)
            parts.append([part.reshape(-1) for part in (target.expand_as(source), source, value)])
        target, source, value = (torch.cat(part) for part in zip(*parts, strict=True))
        return target, source, value

    def adjoint(self) -> tuple[BoxedRingPattern, Tensor]:
        """The transposed pattern, and the column of this table that each column of its table copies."""
        plain, order = super().adjoint()
        sizes = [plain.num_target, plain.num_source, plain.num_values, plain.columns]
        return self.build([*plain.tensors, self.target_box, self.source_box], sizes), order
