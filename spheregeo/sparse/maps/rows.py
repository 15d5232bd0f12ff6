"""``RowMaps``: a small matrix for each row, applied to all channels of the point that the row names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo.sparse.forms.rows import ROWS, G, RowStructure, RowTables, X
from spheregeo.sparse.maps.base import FixedMap
from spheregeo.sparse.maps.paths import Path, bits_of, integers, path_tables
from spheregeo.sparse.multilinear import is_traced


class Rows(NamedTuple):
    """Which point each row names, and the rows of each point.

    Shape: source (R,) int64 below ``points``; order (R,): rows order[indptr[i]], ..., order[indptr[i + 1] - 1] name point i.
    """

    source: Tensor
    indptr: Tensor
    order: Tensor
    points: int

    @classmethod
    def of(cls, index: Tensor, points: int, *, ordered: bool = False) -> Rows:
        """Rows that name the points of ``index``; ``ordered`` where it does not decrease. Indices are trusted."""
        order = (
            torch.arange(index.shape[0], device=index.device)
            if ordered
            else torch.argsort(index, stable=True)
        )
        indptr = index.new_zeros(points + 1)
        indptr[1:] = index.new_zeros(points).index_add(0, index, torch.ones_like(index)).cumsum(0)
        return cls(index, indptr, order, points)


class RowMaps(FixedMap):
    r"""z_r = (C : x_{i(r)} y_r) for rows r, channel by channel, with matrices (C : y_r) that are made once and used often.

    It is :class:`~spheregeo.sparse.Coupling` with one pair a row; that is for sums over many pairs with matrices used
    once, this for few channels at a time, many layers, and the way back: ``adjoint`` sums over the rows of each point.

    Args:
        blocks, groups, paths, pair_dim, engine: as of ``Coupling``.

    Shape:
        ``coefficients(y)``: (R, pair_dim) -> (R, K). ``maps(x, k, rows)``: x planar (points * inputs,), k (R, K) -> planar
        (R * outputs,). ``maps.adjoint(z, k, rows)``: planar (R * outputs,) -> planar (points * inputs,).
    Equivariance: that of the constants. Linear in features and coefficients; every derivative exists.
    Raises: ValueError for sizes that disagree.
    """

    blocks: Tensor
    functions: Tensor
    bits: Tensor

    def __init__(
        self,
        blocks: Sequence[tuple[int, int]],
        groups: Sequence[int],
        paths: Sequence[Path],
        pair_dim: int,
        *,
        engine: str | None = None,
    ) -> None:
        super().__init__(engine)
        tables = path_tables(blocks, groups, paths, pair_dim)
        self.pair_dim, self.groups = pair_dim, tables.groups
        self.inputs, self.outputs = tables.inputs, tables.outputs
        rows, constants = list[tuple[int, ...]](), list[Tensor]()
        self.width = 0
        for row, own in zip(tables.blocks, tables.paths, strict=True):
            rows.append((*row, self.width))
            for path in own:
                constants.append(path.constants.to(torch.float64).flatten(0, 1))
                self.width += len(constants[-1])
        self._keep("blocks", integers(rows, 6))
        self._keep("functions", integers([row[:5] for row in tables.functions], 5))
        self._keep("bits", bits_of(constants, pair_dim))

    def _tables(self) -> RowTables:
        found: RowTables | None = self._made.get("tables")
        if found is None or found.blocks is not self._buffers["blocks"]:
            found = RowTables(self.blocks, self.functions, self.inputs, self.outputs, self.width)
            self._made["tables"] = found
        return found

    def coefficients(self, y: Tensor) -> Tensor:
        """The rows' matrices from their data. Shape: (R, pair_dim) -> (R, K)."""
        return y @ self.bits.view(torch.float64).to(y.dtype).T

    def _call(self, a: Tensor, k: Tensor, rows: Rows, slot: int) -> Tensor:
        count = rows.source.shape[0]
        expected = rows.points * self.inputs if slot == G else count * self.outputs
        if a.shape != (expected,) or k.shape != (count, self.width):
            raise ValueError(
                f"features have shape {tuple(a.shape)} and coefficients {tuple(k.shape)}; expected ({expected},) and "
                f"({count}, {self.width})"
            )
        arguments = (a, k, None) if slot == G else (None, k, a)
        named = (rows.source, rows.indptr, rows.order)
        if is_traced(a):
            tensors = [self.blocks, self.functions, *named]
            sizes = [self.inputs, self.outputs, self.width, rows.points]
            return ROWS.traced(self.engine, (tensors, sizes), arguments, (slot,))[0]
        return ROWS.direct(self.engine, RowStructure(self._tables(), *named, rows.points), arguments, slot)

    def forward(self, x: Tensor, k: Tensor, rows: Rows) -> Tensor:
        return self._call(x, k, rows, G)

    def adjoint(self, z: Tensor, k: Tensor, rows: Rows) -> Tensor:
        """The rows of each point, each taken back by its transposed matrix, summed."""
        return self._call(z, k, rows, X)

    def split(self, z: Tensor, count: int) -> list[Tensor]:
        """The groups of a result, each (R, d_g, columns), without a copy."""
        parts = z.split([count * d * c for d, c in self.groups])
        return [p.view(count, d, c) for p, (d, c) in zip(parts, self.groups, strict=True)]
