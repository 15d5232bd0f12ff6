"""Rows that list their source points one by one; rows may share stretches of the table of coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spheregeo.sparse.patterns.base import Memo, counts_to_indptr, rows_of


@dataclass(frozen=True)
class CSRPattern(Memo):
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
    def num_nonzeros(self) -> int:
        return len(self.indices)

    @property
    def tensors(self) -> list[Tensor]:
        return [self.indptr, self.indices, self.start, self.members]

    @property
    def sizes(self) -> list[int]:
        return [self.num_target, self.num_source, self.num_values, int(self.shares)]

    @classmethod
    def build(cls, tensors: Sequence[Tensor], sizes: Sequence[int]) -> CSRPattern:
        indptr, indices, start, members = tensors
        return cls(indptr, indices, start, members, sizes[1], sizes[2], bool(sizes[3]))

    def coo(self) -> tuple[Tensor, Tensor, Tensor]:
        """(target, source, column of the table) of every nonzero, each (nnz,) int64."""
        rows = rows_of(self.indptr)
        value = self.start[rows] + torch.arange(len(rows), device=rows.device) - self.indptr[rows]
        return rows, self.indices.long(), value

    def uses(self) -> Tensor:
        """How many nonzeros read each column of the table, (num_values,) int64."""
        return torch.bincount(self.coo()[2], minlength=self.num_values)

    def prune(self, keep: Tensor) -> CSRPattern:
        """The pattern without the table columns where ``keep`` (num_values,) is False."""
        rows, _columns, value = self.coo()
        kept = keep[value]
        indptr = counts_to_indptr(torch.bincount(rows[kept], minlength=self.num_target))
        before = counts_to_indptr(keep.long())
        return CSRPattern.of(indptr, self.indices[kept], self.num_source, before[self.start], int(before[-1]))

    def adjoint(self) -> tuple[CSRPattern, Tensor]:
        """The transposed pattern, and the column of this table that each column of its table copies.

        Where rows share coefficients, columns do too as a rule: transposed rows whose lists of table columns
        are equal are given one stretch.
        """
        rows, columns, value = self.coo()
        order = torch.argsort(columns, stable=True)
        indptr = counts_to_indptr(torch.bincount(columns, minlength=self.num_source))
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
    rows = rows_of(indptr)
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
    starts = counts_to_indptr(lengths)[:-1]
    return starts[representative], value[keep[rows]]
