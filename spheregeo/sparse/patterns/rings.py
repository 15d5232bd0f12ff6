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
