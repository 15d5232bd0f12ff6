r"""Copies of source points, for padding and reordering: the form behind ``Gather``.

    F(x, g) = sum_{b,j,c} g[b,j,c] ( x[b,i_j,c] + sum over extras e with t_e = j of w_e x[b,s_e,c] ),   no copy where i_j = -1

for x (B, Q, C) and g (B, M, C), channels last: rows are moved whole, so that a pass costs what memory does. The adjoint is of
that kind, too (a source point keeps the first row that copies it, and the others become extras): a structure holds two tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from spheregeo.sparse.multilinear import Multilinear, register
from spheregeo.sparse.patterns.base import Memo

X, G = range(2)


@dataclass(frozen=True)
class Table(Memo):
    """The point that each row copies (any, where there is none), rows without one, and rows, points and weights of the extras."""

    index: Tensor
    empty: Tensor
    target: Tensor
    source: Tensor
    weight: Tensor

    @property
    def num_rows(self) -> int:
        return self.index.shape[0]

    @property
    def tensors(self) -> list[Tensor]:
        return [self.index, self.empty, self.target, self.source, self.weight]


@dataclass(frozen=True)
class GatherStructure(Memo):
    """Both tables."""

    ahead: Table
    back: Table

    @property
    def tensors(self) -> list[Tensor]:
        return [*self.ahead.tensors, *self.back.tensors]

    @property
    def sizes(self) -> list[int]:
        return []


class GatherForm(Multilinear):
    """See the head of this module."""

    name = "gather"
    arguments = ("x", "g")
    features = frozenset({X, G})
    contiguous = True
    widened = False

    def build(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> GatherStructure:
        """The structure from its tensors and sizes."""
        return GatherStructure(Table(*tensors[:5]), Table(*tensors[5:]))

    def shape(
        self, slot: int, arguments: Sequence[Tensor | None], structure: GatherStructure
    ) -> tuple[int, ...]:
        """Shape of a partial derivative."""
        given = arguments[G if slot == X else X]
        assert given is not None
        table = structure.ahead if slot == G else structure.back
        return given.shape[0], table.num_rows, given.shape[2]


GATHER = register(GatherForm())
