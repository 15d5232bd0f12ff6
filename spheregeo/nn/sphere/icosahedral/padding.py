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
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.nn.sphere.icosahedral.charts import ORIENTATIONS, corners


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


Tables = tuple[Tensor, ...]


@lru_cache(maxsize=64)
def padding_tables(level: int, halved: bool) -> Tables:
    """Index tables of the padded charts, flattened (chart, row, column); the source's likewise, without padding.

    ``halved`` leaves out row 0 and column 2n, which a layer of stride 2 does not read.

    Returns: cells (M,) that take a value from another chart, where from (M,), orientation there (M, 6); corner cells,
        which of the twelve corners each is; cells that stay zero.
    """
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
    target, source, shift = torch.tensor(entries).unbind(1)
    corner = corners(level)
    seen = torch.tensor([inside(i, j) for _, i, j in corner.cells.tolist()])
    corner_cells = torch.tensor([cell(*c) for c in corner.cells[seen].tolist()])
    unread = torch.ones(5, rows, columns, dtype=torch.bool)
    unread[:, 1 - first : 1 - first + n, 1 : 2 * n + 1] = False
    unread.view(-1)[target] = unread.view(-1)[corner_cells] = False
    turned = (torch.arange(ORIENTATIONS) + shift[:, None]) % ORIENTATIONS
    return target, source, turned, corner_cells, corner.which[seen], unread.view(-1).nonzero()[:, 0]


def _orient(values: Tensor, turned: Tensor, regular: bool) -> Tensor:
    """values (B, M, C) with the orientations of each regular field taken in the order ``turned`` (M, 6)."""
    if not regular:
        return values
    fields = values.unflatten(2, (-1, ORIENTATIONS))
    return fields.gather(3, turned[:, None].expand_as(fields)).flatten(2)


class _Pad(torch.autograd.Function):
    """(B, C, 5, n, 2n) -> (B, 5, rows, columns, C): the charts copied into their frames once, then the frames filled."""

    @staticmethod
    def forward(x: Tensor, regular: bool, halved: bool, *tables: Tensor) -> Tensor:  # type: ignore[override]
        target, source, turned, corner_cells, which, unread, neighbors = tables
        charts = x.permute(0, 2, 3, 4, 1)  # (B, 5, n, 2n, C)
        b, _, n, m, c = charts.shape
        top = 0 if halved else 1
        out = charts.new_empty(b, 5, n + 1 + top, m + 1 + top, c)
        out[:, :, top : top + n, 1 : m + 1] = charts
        cells, points = out.flatten(1, 3), charts.flatten(1, 3)
        cells[:, target] = _orient(points[:, source], turned, regular)
        cells[:, corner_cells] = (
            cells.new_zeros(()) if regular else points[:, neighbors].mean(2)[:, which]
        )
        cells[:, unread] = 0
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.regular, ctx.halved, *tables = inputs
        ctx.save_for_backward(*tables)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return _Unpad.apply(g, ctx.regular, ctx.halved, *ctx.saved_tensors), *[None] * 9


class _Unpad(torch.autograd.Function):
    """The transpose of :class:`_Pad`."""

    @staticmethod
    def forward(g: Tensor, regular: bool, halved: bool, *tables: Tensor) -> Tensor:  # type: ignore[override]
        target, source, turned, corner_cells, which, _, neighbors = tables
        b, _, rows, columns, c = g.shape
        top = 0 if halved else 1
        n, m = rows - 1 - top, columns - 1 - top
        out = g.new_empty(b, 5, n, m, c)
        out.copy_(g[:, :, top : top + n, 1 : m + 1])
        out[:, :, -1, ::n] = 0
        cells, points = g.flatten(1, 3), out.flatten(1, 3)
        back = turned.argsort(1) if regular else turned
        points.index_add_(1, source, _orient(cells[:, target], back, regular))
        if not regular:
            twelve = g.new_zeros(b, len(neighbors), c).index_add_(1, which, cells[:, corner_cells])
            share = (twelve / neighbors.shape[1])[:, :, None].expand(-1, -1, neighbors.shape[1], -1)
            points.index_add_(1, neighbors.flatten(), share.flatten(1, 2))
        return out.permute(0, 4, 1, 2, 3)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.regular, ctx.halved, *tables = inputs
        ctx.save_for_backward(*tables)

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return _Pad.apply(x, ctx.regular, ctx.halved, *ctx.saved_tensors), *[None] * 9


class Padding(nn.Module):
    """Charts in a frame of one cell; with ``halved`` without the sides that a layer of stride 2 does not read.

    Shape: (B, C, 5, n, 2n) -> (B, 5, n + 2, 2n + 2, C), or (B, 5, n + 1, 2n + 1, C) halved; channel last.
    """

    def __init__(self, level: int, regular: bool, halved: bool = False) -> None:
        super().__init__()
        self.regular, self.halved = regular, halved
        tables = (*padding_tables(level, halved), corners(level).neighbors)
        self._names = [f"table{i}" for i in range(len(tables))]
        for name, table in zip(self._names, tables, strict=True):
            self.register_buffer(name, table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        tables = [getattr(self, name) for name in self._names]
        out: Tensor = _Pad.apply(x, self.regular, self.halved, *tables)
        return out
