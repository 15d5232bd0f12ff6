"""Where the nonzeros of a sparse map sit, stored once per symmetry class rather than once per nonzero.

A map sends Q source points to P target points; entry t of target row p reads source point q_t with K coefficients.
Coefficients live in a table of ``num_values`` columns, and several rows may read the same columns. Two layouts:

* ``CSRPattern``: each row lists its source points; ``start[p]`` says where its coefficients begin, so rows that
  a rotation of the grid carries into each other share one stretch of the table.
* ``RingPattern``: source and target are rings of M equidistant points and the map commutes with their rotation
  (it is block-circulant), so an entry is (ring, shift) and serves all M points of its target ring.
  A ring of s*M points is s interleaved rings, which covers strides: ring r's j-th point is ``base[r] + stride[r] * j``.

The adjoint of a pattern is again a pattern, reading the same table in another ``order``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor


def _counts_to_indptr(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _rows(indptr: Tensor) -> Tensor:
    """Row of each entry, (nnz,)."""
    return torch.repeat_interleave(torch.arange(len(indptr) - 1, device=indptr.device), indptr.diff())


@dataclass(frozen=True)
class CSRPattern:
    """Rows of source indices; ``start`` (P,) is each row's first column in the coefficient table.

    ``members`` (P,) lists the rows in the order of the table, those that share coefficients one after another.
    """

    kind: ClassVar[str] = "csr"

    indptr: Tensor  # (P + 1,) int64
    indices: Tensor  # (nnz,) int32
    start: Tensor  # (P,) int64
    members: Tensor  # (P,) int32
    num_source: int
    num_values: int
    shares: bool  # whether some rows share coefficients; if none do, members are 0, 1, 2, ...

    @classmethod
    def of(
        cls,
        indptr: Tensor,
        indices: Tensor,
        num_source: int,
        start: Tensor | None = None,
        num_values: int | None = None,
    ) -> CSRPattern:
        """A pattern from its rows; without ``start`` every row has its own stretch of the table."""
        indices = indices.to(torch.int32)
        shares = start is not None and not torch.equal(start, indptr[:-1])
        start = indptr[:-1].clone() if start is None else start
        members = (
            torch.argsort(start, stable=True) if shares else torch.arange(len(start), device=start.device)
        )
        num_values = len(indices) if num_values is None else num_values
        return cls(indptr, indices, start, members.to(torch.int32), num_source, num_values, shares)

    @property
    def num_target(self) -> int:
        return len(self.indptr) - 1

    @property
    def tensors(self) -> list[Tensor]:
        return [self.indptr, self.indices, self.start, self.members]

    @property
    def sizes(self) -> list[int]:
        return [self.num_target, self.num_source, self.num_values, int(self.shares)]

    @classmethod
    def build(cls, tensors: list[Tensor], sizes: list[int]) -> CSRPattern:
        indptr, indices, start, members = tensors
        return cls(indptr, indices, start, members, sizes[1], sizes[2], bool(sizes[3]))

    def coo(self) -> tuple[Tensor, Tensor, Tensor]:
        """(target, source, column of the table) of every nonzero, each (nnz,) int64."""
        rows = _rows(self.indptr)
        value = self.start[rows] + torch.arange(len(rows), device=rows.device) - self.indptr[rows]
        return rows, self.indices.long(), value

    def prune(self, keep: Tensor) -> CSRPattern:
        """The pattern without the table columns where ``keep`` (num_values,) is False."""
        rows, _columns, value = self.coo()
        kept = keep[value]
        indptr = _counts_to_indptr(torch.bincount(rows[kept], minlength=self.num_target))
        before = _counts_to_indptr(keep.long())
        return CSRPattern.of(indptr, self.indices[kept], self.num_source, before[self.start], int(before[-1]))

    def adjoint(self) -> tuple[CSRPattern, Tensor]:
        """The transposed pattern, and the column of this table that each column of its table copies.

        Where rows share coefficients, columns do too as a rule: transposed rows whose lists of table columns
        are equal are given one stretch.
        """
        rows, columns, value = self.coo()
        order = torch.argsort(columns, stable=True)
        indptr = _counts_to_indptr(torch.bincount(columns, minlength=self.num_source))
        rows, value = rows[order], value[order]
        if self.num_values == len(value):
            start, table = indptr[:-1].clone(), value
        else:
            # Put each transposed row in the order of the table, so that equivalent rows list equal columns.
            target = columns[order]
            by_value = torch.argsort(value, stable=True)
            by_value = by_value[torch.argsort(target[by_value], stable=True)]
            rows, value = rows[by_value], value[by_value]
            start, table = _share_rows(indptr, value)
        return CSRPattern.of(indptr, rows, self.num_target, start, len(table)), table


def _share_rows(indptr: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Find rows with equal lists of values; return each row's start in a table that holds every list once."""
    rows = _rows(indptr)
    position = torch.arange(len(value), device=value.device) - indptr[rows]
    # A 62-bit polynomial hash of (position, value) a row; equal lists are then compared entry by entry.
    mixed = (value + 1) * 0x9E3779B97F4A7C1 + (position + 1) * 0x2545F4914F6CDD1D
    mixed = (mixed ^ (mixed >> 29)) * 0x3C79AC492BA7B653
    key = torch.zeros_like(indptr[1:]).index_add_(0, rows, mixed)
    key = key * 31 + indptr.diff()
    _, group = torch.unique(key, return_inverse=True)
    first = group.new_full((int(group.max()) + 1 if len(group) else 0,), len(indptr))
    first = first.scatter_reduce(0, group, torch.arange(len(group), device=group.device), "amin")
    representative = first[group]
    same = indptr.diff() == indptr.diff()[representative]
    shifted = indptr[representative[rows]] + position
    differs = value[shifted.clamp_max(len(value) - 1)] != value
    if not bool(same.all()) or bool(differs.any()):
        return indptr[:-1].clone(), value  # a hash collision: keep every row's own stretch
    keep = representative == torch.arange(len(representative), device=group.device)
    lengths = torch.where(keep, indptr.diff(), 0)
    starts = _counts_to_indptr(lengths)[:-1]
    return starts[representative], value[keep[rows]]


@dataclass(frozen=True)
class RingPattern:
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
    def build(cls, tensors: list[Tensor], sizes: list[int]) -> RingPattern:
        indptr, ring, shift, *places = tensors
        source_base, source_stride, target_base, target_stride = places
        return cls(
            indptr,
            ring,
            shift,
            source_base,
            source_stride,
            target_base,
            target_stride,
            sizes[3],
            sizes[1],
            sizes[0],
        )

    def coo(self) -> tuple[Tensor, Tensor, Tensor]:
        """(target, source, column of the table) of every nonzero of the full map, each (nnz * M,) int64."""
        rows, ring = _rows(self.indptr), self.ring.long()
        j = torch.arange(self.columns, device=rows.device)
        target = self.target_base[rows, None] + self.target_stride[rows, None] * j
        turned = (j + self.shift[:, None].long()) % self.columns
        source = self.source_base[ring, None] + self.source_stride[ring, None] * turned
        value = torch.arange(len(rows), device=rows.device)[:, None].expand_as(target)
        return target.reshape(-1), source.reshape(-1), value.reshape(-1)

    def prune(self, keep: Tensor) -> RingPattern:
        """The pattern without the table columns where ``keep`` (num_values,) is False."""
        counts = torch.bincount(_rows(self.indptr)[keep], minlength=len(self.indptr) - 1)
        return replace(self, indptr=_counts_to_indptr(counts), ring=self.ring[keep], shift=self.shift[keep])

    def adjoint(self) -> tuple[RingPattern, Tensor]:
        """The transposed pattern, and the column of this table that each column of its table copies."""
        ring = self.ring.long()
        order = torch.argsort(ring, stable=True)
        indptr = _counts_to_indptr(torch.bincount(ring, minlength=len(self.source_base)))
        pattern = RingPattern(
            indptr=indptr,
            ring=_rows(self.indptr)[order].to(torch.int32),
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


class Pattern(Protocol):
    """What every kind of pattern offers; ``tensors`` and ``sizes`` are what :meth:`build` takes to make it again."""

    kind: ClassVar[str]

    @property
    def num_source(self) -> int: ...
    @property
    def num_target(self) -> int: ...
    @property
    def num_values(self) -> int: ...
    @property
    def tensors(self) -> list[Tensor]: ...
    @property
    def sizes(self) -> list[int]: ...
    @classmethod
    def build(cls, tensors: list[Tensor], sizes: list[int]) -> Pattern: ...
    def coo(self) -> tuple[Tensor, Tensor, Tensor]: ...
    def prune(self, keep: Tensor) -> Pattern: ...
    def adjoint(self) -> tuple[Pattern, Tensor]: ...


KINDS: dict[str, Any] = {"csr": CSRPattern, "rings": RingPattern}
"""Kinds of pattern by name; :mod:`spheregeo.sparse.blocks` adds the composite one."""
