r"""G-padding: a frame of neighbours round each chart, every value in the directions of the chart that reads it.

A chart's border cells belong to charts k - 1 and k + 1, whose direction 0 may point elsewhere. With (i, j) closed lattice
coordinates, n = 2^level and s the turn in steps of 60 degrees, f[rho] at the cell is f_owner[(rho + s) mod 6], where

    (k; 0, j)       is (k+1; j, 0),       s = -1,   0 < j < n       (k; n+1, j)    is (k-1; 1, n+j),     s =  0,   0 <= j < n
    (k; 0, j)       is (k+1; n, j-n),     s =  0,   n < j < 2n      (k; n+1, n+i)  is (k-1; i+1, 2n-1),  s = -1,   0 <= i < n
    (k; i, 2n)      is (k+1; n, n+i),     s = +1,   0 < i < n       (k; i, -1)     is (k-1; 1, i-1),     s = +1,   1 <= i <= n

and the six corners follow the rule of :mod:`.charts`. Cells that no tap reads are zero.
Reference: Cohen, Weiler, Kicanaoglu & Welling 2019, arXiv:1902.04615, section 5 (gauge padding).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.autograd import Function
from spheregeo.nn.sphere.icosahedral.charts import corners


def border(n: int) -> Iterator[tuple[int, int, int, int, int, int]]:
    """(i, j, chart offset, i, j, s): cell of a chart, its owner's chart and cell there, and the turn."""
    for j in range(1, n):
        yield 0, j, +1, j, 0, -1
        yield 0, n + j, +1, n, j, 0
        yield j, 2 * n, +1, n, n + j, +1
    for j in range(n):
        yield n + 1, j, -1, 1, n + j, 0
        yield n + 1, n + j, -1, j + 1, 2 * n - 1, -1
        yield j + 1, -1, -1, 1, j, +1


@dataclass(frozen=True)
class Frames:
    """Index tables of the charts in their frames, flattened (chart, row, column), and of the bare charts likewise.

    ``cells`` (M,) take the values at ``owners`` (M,) of the bare charts, their orientations in the order ``turned`` (M, 6),
    or (M, 1) for scalars; ``mean_cells`` (K,) take the mean over ``mean_of`` (K, 5); ``blank`` are zero.
    """

    cells: Tensor
    owners: Tensor
    turned: Tensor
    mean_cells: Tensor
    mean_of: Tensor
    blank: Tensor


@lru_cache(maxsize=64)
def frames(level: int, size: int, halved: bool) -> Frames:
    """Tables for fields of ``size`` channels; ``halved`` leaves out row 0 and column 2n, which stride 2 does not read."""
    n = 1 << level
    first, rows, columns = (1, n + 1, 2 * n + 1) if halved else (0, n + 2, 2 * n + 2)
    inside = lambda i, j: first <= i < first + rows and -1 <= j < columns - 1  # noqa: E731
    cell = lambda k, i, j: (k * rows + i - first) * columns + j + 1  # noqa: E731
    entries = [
        (cell(k, i, j), ((k + dk) % 5 * n + i2 - 1) * 2 * n + j2, s)
        for k in range(5)
        for i, j, dk, i2, j2, s in border(n)
        if inside(i, j)
    ]
    cells, owners, shift = torch.tensor(entries).unbind(1)
    corner = corners(level)
    seen = torch.tensor([inside(i, j) for _, i, j in corner.cells.tolist()])
    corner_cells = torch.tensor([cell(*c) for c in corner.cells[seen].tolist()])
    blank = torch.ones(5, rows, columns, dtype=torch.bool)
    blank[:, 1 - first : 1 - first + n, 1 : 2 * n + 1] = False
    blank.view(-1)[cells] = False
    blank.view(-1)[corner_cells] = size > 1
    kept = 0 if size > 1 else len(corner_cells)
    return Frames(
        cells,
        owners,
        (torch.arange(size) + shift[:, None]) % size,
        corner_cells[:kept],
        corner.neighbors[corner.which[seen][:kept]],
        blank.view(-1).nonzero()[:, 0],
    )


def _orient(values: Tensor, turned: Tensor) -> Tensor:
    """values (B, M, C) with the orientations of each field taken in the order ``turned`` (M, size)."""
    if turned.shape[1] == 1:
        return values
    fields = values.unflatten(2, (values.shape[2] // turned.shape[1], turned.shape[1]))
    return fields.gather(3, turned[:, None].expand_as(fields)).flatten(2)


class _Pad(Function):
    """(B, C, 5, n, 2n) -> (B, 5, rows, columns, C): the charts copied into their frames once, then the frames filled."""

    @staticmethod
    def forward(  # type: ignore[override]
        x: Tensor,
        cells: Tensor,
        owners: Tensor,
        turned: Tensor,
        mean_cells: Tensor,
        mean_of: Tensor,
        blank: Tensor,
        halved: bool,
    ) -> Tensor:
        charts = x.permute(0, 2, 3, 4, 1)  # (B, 5, n, 2n, C)
        b, _, n, m, c = charts.shape
        top = 0 if halved else 1
        framed = charts.new_empty(b, 5, n + 1 + top, m + 1 + top, c)
        framed[:, :, top : top + n, 1 : m + 1] = charts
        flat, points = framed.flatten(1, 3), charts.flatten(1, 3)
        flat[:, cells] = _orient(points[:, owners], turned)
        flat[:, mean_cells] = points[:, mean_of].mean(2)
        flat[:, blank] = 0
        return framed

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, *tables, ctx.halved = inputs
        ctx.save_for_backward(*tables)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        cells, owners, turned, mean_cells, mean_of, blank = ctx.saved_tensors
        back = _Unpad.apply(g, cells, owners, turned, mean_cells, mean_of, blank, ctx.halved)
        return back, None, None, None, None, None, None, None


class _Unpad(Function):
    """The transpose of :class:`_Pad`."""

    @staticmethod
    def forward(  # type: ignore[override]
        g: Tensor,
        cells: Tensor,
        owners: Tensor,
        turned: Tensor,
        mean_cells: Tensor,
        mean_of: Tensor,
        blank: Tensor,
        halved: bool,
    ) -> Tensor:
        b, _, rows, columns, c = g.shape
        top = 0 if halved else 1
        n, m = rows - 1 - top, columns - 1 - top
        charts = g.new_empty(b, 5, n, m, c)
        charts.copy_(g[:, :, top : top + n, 1 : m + 1])
        charts[:, :, -1, ::n] = 0
        flat, points = g.flatten(1, 3), charts.flatten(1, 3)
        points.index_add_(1, owners, _orient(flat[:, cells], turned.argsort(1)))
        share = (flat[:, mean_cells] / mean_of.shape[1])[:, :, None].expand(-1, -1, mean_of.shape[1], -1)
        points.index_add_(1, mean_of.flatten(), share.flatten(1, 2))
        return charts.permute(0, 4, 1, 2, 3)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, *tables, ctx.halved = inputs
        ctx.save_for_backward(*tables)

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        cells, owners, turned, mean_cells, mean_of, blank = ctx.saved_tensors
        again = _Pad.apply(x, cells, owners, turned, mean_cells, mean_of, blank, ctx.halved)
        return again, None, None, None, None, None, None, None


class Padding(nn.Module):
    """Charts in a frame of one cell; with ``halved`` without the sides that a layer of stride 2 does not read.

    Shape: (B, C, 5, n, 2n) -> (B, 5, n + 2, 2n + 2, C), or (B, 5, n + 1, 2n + 1, C) halved; channel last.
    """

    cells: Tensor
    owners: Tensor
    turned: Tensor
    mean_cells: Tensor
    mean_of: Tensor
    blank: Tensor

    def __init__(self, level: int, size: int, halved: bool = False) -> None:
        super().__init__()
        self.halved = halved
        for name, table in vars(frames(level, size, halved)).items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Pad.apply(
            x, self.cells, self.owners, self.turned, self.mean_cells, self.mean_of, self.blank, self.halved
        )
        return out
