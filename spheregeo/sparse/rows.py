"""``RowMaps``: a small matrix for each row, applied to all channels of the point that the row names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spheregeo.sparse.coupling import Path
from spheregeo.sparse.engines import check_engine
from spheregeo.sparse.row_form import G, X, row_form


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


class RowMaps(nn.Module):
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
        super().__init__()
        for path in paths:
            shape = (groups[path.group], blocks[path.block][0], pair_dim)
            if tuple(path.constants.shape) != shape:
                raise ValueError(
                    f"constants of a path have shape {tuple(path.constants.shape)}; expected {shape}"
                )
        self.engine, self.pair_dim = check_engine(engine), pair_dim
        columns = [sum(blocks[p.block][1] for p in paths if p.group == g) for g in range(len(groups))]
        self.groups = list(zip(groups, columns, strict=True))
        self.inputs = sum(d * m for d, m in blocks)
        self.outputs = sum(d * c for d, c in self.groups)
        firsts = [sum(d * c for d, c in self.groups[:g]) for g in range(len(groups))]
        taken, place = [0] * len(groups), []
        for path in paths:
            place.append(taken[path.group])
            taken[path.group] += blocks[path.block][1]
        table, functions, constants = list[tuple[int, ...]](), list[tuple[int, ...]](), list[Tensor]()
        column = width = 0
        for b, (d, mul) in enumerate(blocks):
            begin, at = len(functions), width
            for p, path in enumerate(paths):
                if path.block == b:
                    size, wide = self.groups[path.group]
                    functions += [(firsts[path.group], size * wide, m, wide, place[p]) for m in range(size)]
                    constants.append(path.constants.to(torch.float64).reshape(size * d, pair_dim))
                    width += size * d
            table.append((column, d, mul, begin, len(functions), at))
            column += d * mul
        self.width = width
        self.register_buffer(
            "blocks", torch.tensor(table, dtype=torch.int64).reshape(-1, 6), persistent=False
        )
        self.register_buffer(
            "functions", torch.tensor(functions, dtype=torch.int64).reshape(-1, 5), persistent=False
        )
        # as integers, so that no change of the module's dtype rounds them
        every = torch.cat(constants) if constants else torch.zeros(0, pair_dim, dtype=torch.float64)
        self.register_buffer("bits", every.view(torch.int64), persistent=False)

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
        tensors = [self.blocks, self.functions, rows.source, rows.indptr, rows.order]
        sizes = [rows.points, self.inputs, self.outputs, self.width]
        x, g = (a.contiguous(), None) if slot == G else (None, a.contiguous())
        result: Tensor = row_form(x, k, g, slot, tensors, sizes, self.engine)
        return result

    def forward(self, x: Tensor, k: Tensor, rows: Rows) -> Tensor:
        return self._call(x, k, rows, G)

    def adjoint(self, z: Tensor, k: Tensor, rows: Rows) -> Tensor:
        """The rows of each point, each taken back by its transposed matrix, summed."""
        return self._call(z, k, rows, X)

    def split(self, z: Tensor, count: int) -> list[Tensor]:
        """The groups of a result, each (R, d_g, columns), without a copy."""
        parts = z.split([count * d * c for d, c in self.groups])
        return [p.view(count, d, c) for p, (d, c) in zip(parts, self.groups, strict=True)]
