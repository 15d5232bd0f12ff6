r"""Features on the five charts of an icosahedral grid, and how they come there and back.

Chart layout is (B, channels, 5, n, 2n), n = 2^level: chart k, row i - 1, column j of the points that chart k owns
(:class:`spheregeo.grids.Icosahedral`); its memory is channel-last, so that it is the points layout (B, channels, N) without
the two poles. A *scalar* field is one channel. A *regular* field is six, f[0] ... f[5]: one for each lattice direction
d = 0 ... 5, counter-clockwise from (0, +1), as seen from the chart that owns the point.

Corners. Twelve points, the vertices of the icosahedron, have five neighbours and no six directions, so a layer can give no
answer there. All layers keep one rule: **a regular field is zero at a corner, a scalar is the mean of its five neighbours.**
It is applied where values are read, so what a chart holds at its two corners in between has no meaning (layers leave zero
there), and what an input holds at the twelve points is not looked at. The rule refers to no chart, so the symmetry stays exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.autograd import Function, is_transformed, is_watched
from spheregeo.checks import check_tensor
from spheregeo.deprecation import renamed_arguments
from spheregeo.grids import Icosahedral

ORIENTATIONS = 6
TYPES = {"scalar": 1, "regular": ORIENTATIONS}
MEMORY = torch.channels_last_3d


def orientations(name: str, value: str) -> int:
    """Channels of one field: 1 for "scalar", 6 for "regular". Raises: ValueError for another type."""
    if value not in TYPES:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, TYPES))}")
    return TYPES[value]


def check_level(
    grid: Icosahedral | int, least: int = 1, why: str = "at level 0 all points are corners"
) -> int:
    """Level of an icosahedral grid, given as the grid or as the level. Raises: ValueError below ``least`` or for other things."""
    level = grid.level if isinstance(grid, Icosahedral) else grid
    if not isinstance(level, int) or isinstance(level, bool) or level < least:
        raise ValueError(
            f"level is {level!r}; expected an integer >= {least}: {why}; or give the grid, Icosahedral(level)"
        )
    return level


@dataclass(frozen=True)
class Corners:
    """The twelve corners of a level: U_0 ... U_4, L_0 ... L_4, north pole, south pole.

    ``neighbors`` (12, 5) are points of the charts, flattened (chart, row, column); ``owned`` (10,) those of U and L;
    ``cells`` (30,) and ``which`` (30,) say where closed charts hold corners, as (chart, i, j) rows, and which of the twelve.
    """

    neighbors: Tensor
    owned: Tensor
    cells: Tensor
    which: Tensor


@lru_cache(maxsize=32)
def corners(level: int) -> Corners:
    """Corners of the grid of this level, see :class:`Corners`."""
    n = 1 << level
    flat = lambda k, i, j: (k % 5 * n + i - 1) * 2 * n + j  # noqa: E731
    charts = range(5)
    upper = [
        [flat(k, n, 1), flat(k, n - 1, 1), flat(k, n - 1, 0), flat(k - 1, 1, n - 1), flat(k - 1, 1, n)]
        for k in charts
    ]
    lower = [
        [
            flat(k, n, n + 1),
            flat(k, n - 1, n + 1),
            flat(k, n - 1, n),
            flat(k, n, n - 1),
            flat(k - 1, 1, 2 * n - 1),
        ]
        for k in charts
    ]
    poles = [[flat(k, 1, 0) for k in charts], [flat(k, n, 2 * n - 1) for k in charts]]
    owned = [flat(k, n, 0) for k in charts] + [flat(k, n, n) for k in charts]
    cells, which = [], []
    for k in charts:
        cells += [(k, 0, 0), (k, n, 0), (k, 0, n), (k, n, n), (k, 0, 2 * n), (k, n, 2 * n)]
        which += [10, k, (k + 1) % 5, 5 + k, 5 + (k + 1) % 5, 11]
    return Corners(*map(torch.tensor, (upper + lower + poles, owned, cells, which)))


def enter(x: Tensor, level: int, channels: int) -> Tensor:
    """Features in chart layout, from points or chart layout. Raises: ValueError for any other shape."""
    check_tensor(x)
    n = 1 << level
    points = 10 * n * n + 2
    if x.ndim == 3 and tuple(x.shape[1:]) == (channels, points):
        return x[:, :, :-2].unflatten(2, (5, n, 2 * n))
    if x.ndim == 5 and tuple(x.shape[1:]) == (channels, 5, n, 2 * n):
        return x
    raise ValueError(
        f"x has shape {tuple(x.shape)}; expected (batch, {channels}, {points}), the fields of Icosahedral(level={level}), "
        f"or (batch, {channels}, 5, {n}, {2 * n}) on its charts (a regular field is six channels)"
    )


def _own_corners(x: Tensor, rows: int) -> Tensor:
    return x.select(rows, -1).unflatten(rows, (2, -1)).select(rows + 1, 0)


class _Clear(Function):
    """Zero at the charts' own corners, row n - 1, columns 0 and n, in place; the gradient likewise."""

    @staticmethod
    def forward(x: Tensor, rows: int) -> Tensor:  # type: ignore[override]
        _own_corners(x, rows).zero_()
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        x, ctx.rows = inputs
        ctx.mark_dirty(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        # Layers that keep the rule send nothing back to corners: where a look is cheap it spares a copy of the field.
        eager = g.device.type == "cpu" and not torch.is_grad_enabled() and not is_watched()
        if eager and not _own_corners(g, ctx.rows).any():
            return g, None
        return clear(g.clone(), ctx.rows), None


def clear(x: Tensor, rows: int) -> Tensor:
    """Freshly made features, axes ``rows`` and ``rows`` + 1 of size n and 2n, zero at the charts' own corners (in place)."""
    if is_transformed():
        keep = torch.ones(x.shape[rows : rows + 2], dtype=torch.bool, device=x.device)
        _own_corners(keep, 0).zero_()
        return torch.where(keep.view(*keep.shape, *[1] * (x.ndim - rows - 2)), x, 0)
    out: Tensor = _Clear.apply(x, rows)
    return out


class Leaving(nn.Module):
    """What can leave the charts: holds the points next to the corners, and those of the corners that charts own."""

    near_corners: Tensor
    own_corners: Tensor

    def _place(self, level: int) -> None:
        corner = corners(level)
        self.register_buffer("near_corners", corner.neighbors, persistent=False)
        self.register_buffer("own_corners", corner.owned, persistent=False)

    def leave(self, x: Tensor, kind: str) -> Tensor:
        """Points layout (B, C, N), corners by the rule. Its memory is channel-last, as the charts' is."""
        flat = x.permute(0, 2, 3, 4, 1).flatten(1, 3)  # (B, N - 2, C)
        twelve = flat[:, self.near_corners].mean(2)  # (B, 12, C)
        if kind == "regular":
            twelve = torch.zeros_like(twelve)
        flat = flat.index_copy(1, self.own_corners, twelve[:, :10])
        return torch.cat([flat, twelve[:, 10:]], 1).transpose(1, 2)


class OnCharts(Leaving):
    """Base of the icosahedral layers: takes points or chart layout and answers in the layout it was asked in."""

    def __init__(self, level: int, out_level: int, in_channels: int, out_type: str) -> None:
        super().__init__()
        self._between(level, out_level, in_channels, out_type)

    def _between(self, level: int, out_level: int, in_channels: int, out_type: str) -> None:
        self.level, self.out_level, self.out_type = level, out_level, out_type
        self._in = in_channels  # channels of the tensor
        self._place(out_level)

    @property
    def source(self) -> Icosahedral:
        """Grid of the input."""
        return Icosahedral(self.level)

    @property
    def target(self) -> Icosahedral:
        """Grid of the output."""
        return Icosahedral(self.out_level)

    def on_charts(self, x: Tensor) -> Tensor:
        """The layer itself, from chart layout to chart layout."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y = self.on_charts(enter(x, self.level, self._in))
        return self.leave(y, self.out_type) if x.ndim == 3 else y


class ToCharts(nn.Module):
    """Points layout to chart layout, once at the entrance of a network.

    The values at the twelve corners are dropped: no layer reads them.

    Args:
        grid: of the input, an ``Icosahedral`` or its level.

    Shape: (B, C, N) -> (B, C, 5, n, 2n), n = 2^level; C is any number of channels.
    Equivariance: exact under the 60 rotations.
    Raises: ValueError for a level below 1 or an input that is not on the grid.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.nn import ToCharts
        >>> ToCharts(Icosahedral(2))(torch.randn(1, 3, 162)).shape
        torch.Size([1, 3, 5, 4, 8])
    """

    @renamed_arguments(level="grid")
    def __init__(self, grid: Icosahedral | int) -> None:
        super().__init__()
        self.level = check_level(grid)

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        charts = enter(x, self.level, _channels(x))
        return charts if is_transformed() else charts.contiguous(memory_format=MEMORY)

    def extra_repr(self) -> str:
        return f"level={self.level}"


class FromCharts(Leaving):
    """Chart layout to points layout, once at the exit of a network; corners are zero or the mean of their neighbours.

    Args:
        grid: of the input, an ``Icosahedral`` or its level.
        in_type: "scalar" or "regular", which says what the twelve corners get.

    Shape: (B, C, 5, n, 2n) -> (B, C, N).
    Equivariance: exact under the 60 rotations.
    Raises: ValueError for a level below 1, another type, or an input that is not on the charts.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.nn import FromCharts
        >>> FromCharts(Icosahedral(2))(torch.randn(1, 3, 5, 4, 8)).shape
        torch.Size([1, 3, 162])
    """

    @renamed_arguments(level="grid")
    def __init__(self, grid: Icosahedral | int, in_type: str = "scalar") -> None:
        super().__init__()
        self.level, self.in_type = check_level(grid), in_type
        orientations("in_type", in_type)
        self._place(self.level)

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        return self.leave(enter(x, self.level, _channels(x)), self.in_type)

    def extra_repr(self) -> str:
        return f"level={self.level}, in_type={self.in_type!r}"


def _channels(x: Tensor) -> int:
    return x.shape[1] if x.ndim > 1 else 0
