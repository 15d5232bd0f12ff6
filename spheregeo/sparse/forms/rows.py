"""A small matrix for each row, applied to features of the point that the row names: the form behind ``RowMaps``.

    Phi(x, k, g) = sum over rows r, functions f, channels c of  g_r[f, c]  sum_m k_r[f, m]  x_{i(r)}[m, c]

Features are planar as in :mod:`spheregeo.sparse.forms.coupling`: x (points * inputs,), g (R * outputs,); coefficients k (R, K):
block after block, function after function, d numbers each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from spheregeo.sparse.multilinear import Multilinear, register
from spheregeo.sparse.patterns.base import Memo

X, K, G = range(3)


@dataclass(frozen=True)
class RowTables(Memo):
    """Structure of the rows' matrices as integer tables.

    Shape: blocks (B, 6): first column of the source, components d, channels, first and last function, first coefficient;
        functions (F, 5): first column of the group, its columns, component, columns of one component, column within it.
    """

    blocks: Tensor
    functions: Tensor
    inputs: int
    outputs: int
    width: int


@dataclass(frozen=True)
class RowStructure(Memo):
    """Tables with some rows: row r names point index[r]; rows order[indptr[i]], ..., order[indptr[i + 1] - 1] name point i."""

    tables: RowTables
    index: Tensor
    indptr: Tensor
    order: Tensor
    points: int

    @property
    def num_rows(self) -> int:
        return self.index.shape[0]

    @property
    def tensors(self) -> list[Tensor]:
        return [self.tables.blocks, self.tables.functions, self.index, self.indptr, self.order]

    @property
    def sizes(self) -> list[int]:
        return [self.tables.inputs, self.tables.outputs, self.tables.width, self.points]


class RowForm(Multilinear):
    """See the head of this module."""

    name = "rows"
    arguments = ("x", "k", "g")
    features = frozenset({X, G})
    contiguous = True

    def build(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> RowStructure:
        """The structure from its tensors and sizes."""
        blocks, functions, index, indptr, order = tensors
        inputs, outputs, width, points = sizes
        return RowStructure(
            RowTables(blocks, functions, inputs, outputs, width), index, indptr, order, points
        )

    def shape(
        self, slot: int, arguments: Sequence[Tensor | None], structure: RowStructure
    ) -> tuple[int, ...]:
        """Shape of a partial derivative."""
        tables, rows = structure.tables, structure.num_rows
        if slot == K:
            return rows, tables.width
        return (structure.points * tables.inputs if slot == X else rows * tables.outputs,)


ROWS = register(RowForm())
