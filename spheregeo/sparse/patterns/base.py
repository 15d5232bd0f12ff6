"""What every pattern offers, and how patterns become tensors and integers and are made of them again.

A map sends Q source points to P target points; entry t of target row p reads source point q_t with K coefficients.
Coefficients live in a table of ``num_values`` columns, and several rows may read the same columns, so that a pattern stores
each symmetry class once. The adjoint of a pattern is again a pattern, reading the same table in another ``order``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from spheregeo.lazy import cached_property


class Memo:
    """``memo`` is where engines keep what they prepare from an object that never changes; no copy of the object has it."""

    @cached_property
    def memo(self) -> dict[Any, Any]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "memo"}


class Pattern(Protocol):
    """Where the nonzeros of a sparse map sit; ``tensors`` and ``sizes`` are what :meth:`build` takes to make it again."""

    kind: ClassVar[str]

    @property
    def num_source(self) -> int: ...
    @property
    def num_target(self) -> int: ...
    @property
    def num_values(self) -> int:
        """Columns of the table of coefficients."""

    @property
    def num_nonzeros(self) -> int:
        """Nonzeros of the full map, those that share coefficients counted one by one."""

    @property
    def memo(self) -> dict[Any, Any]: ...
    @property
    def tensors(self) -> list[Tensor]: ...
    @property
    def sizes(self) -> list[int]: ...
    @classmethod
    def build(cls, tensors: Sequence[Tensor], sizes: Sequence[int]) -> Pattern: ...
    def coo(self) -> tuple[Tensor, Tensor, Tensor]:
        """(target, source, column of the table) of every nonzero, each (nnz,) int64."""

    def uses(self) -> Tensor:
        """How many nonzeros read each column of the table, (num_values,) int64."""

    def prune(self, keep: Tensor) -> Pattern:
        """The pattern without the table columns where ``keep`` (num_values,) is False."""

    def adjoint(self) -> tuple[Pattern, Tensor]:
        """The transposed pattern, and the column of this table that each column of its table copies."""


KINDS: dict[str, type[Pattern]] = {}
"""Kinds of pattern by name, in the order of their codes."""


def pack(pattern: Pattern) -> tuple[list[Tensor], list[int]]:
    """A pattern as tensors and integers: code of its kind, numbers of its tensors and integers, the integers."""
    tensors, sizes = pattern.tensors, pattern.sizes
    return tensors, [list(KINDS).index(pattern.kind), len(tensors), len(sizes), *sizes]


def unpack(tensors: Sequence[Tensor], sizes: Sequence[int]) -> tuple[Pattern, int, int]:
    """The pattern at the head of some tensors and integers, and how many of each it took."""
    code, count, length = sizes[:3]
    kind = list(KINDS.values())[code]
    return kind.build(tensors[:count], sizes[3 : 3 + length]), count, 3 + length


def counts_to_indptr(counts: Tensor) -> Tensor:
    """Row boundaries from numbers of entries: (P,) -> (P + 1,)."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def rows_of(indptr: Tensor) -> Tensor:
    """Row of each entry, (nnz,)."""
    return torch.repeat_interleave(torch.arange(len(indptr) - 1, device=indptr.device), indptr.diff())
