"""Layers without weights on the charts: pooling to the next coarser grid, interpolation to the finer, orientations to scalars."""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.deprecation import renamed_arguments
from spheregeo.grids import Icosahedral
from spheregeo.nn.sphere.icosahedral.charts import (
    ORIENTATIONS,
    OnCharts,
    check_level,
    clear,
    corners,
    orientations,
)
from spheregeo.nn.sphere.icosahedral.padding import Padding

REDUCE = ("mean", "max")


def _check_reduce(reduce: str) -> str:
    if reduce not in REDUCE:
        raise ValueError(f"reduce is {reduce!r}; expected one of {', '.join(map(repr, REDUCE))}")
    return reduce


class IcosahedralPool(OnCharts):
    """Mean or maximum over a point and its six neighbours, at the points of the next coarser grid.

    Regular fields are transported: each orientation meets the same direction at the neighbours. None of the seven points
    is a corner.

    Args:
        channels: number of fields.
        grid: of the input, an ``Icosahedral`` or its level.
        in_type: "scalar" or "regular".
        reduce: "mean" or "max" over the seven points.

    Shape: (B, channels [· 6], N) -> (B, channels [· 6], N'), or the same in chart layout.
    Equivariance: exact under the 60 rotations of the icosahedron.
    Raises: ValueError for a level below 2, another type or ``reduce``, or an input that does not fit.
    Reference: Cohen, Weiler, Kicanaoglu & Welling 2019, arXiv:1902.04615, section 6.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.nn import IcosahedralPool
        >>> IcosahedralPool(4, Icosahedral(2))(torch.randn(1, 24, 162)).shape
        torch.Size([1, 24, 42])
    """

    @renamed_arguments(level="grid")
    def __init__(
        self, channels: int, grid: Icosahedral | int, *, in_type: str = "regular", reduce: str = "mean"
    ) -> None:
        size = orientations("in_type", in_type)
        level = check_level(grid, 2, "the coarser grid must have points that are no corners")
        super().__init__(level, level - 1, check_count("channels", channels) * size, in_type)
        self.in_channels, self.in_type, self.reduce = channels, in_type, _check_reduce(reduce)
        self.padding = Padding(level, size, halved=True)

    def on_charts(self, x: Tensor) -> Tensor:
        p = self.padding(x)  # (B, 5, n + 1, 2n + 1, C), first row 1, first column -1
        here, before, after = slice(1, None, 2), slice(0, -1, 2), slice(2, None, 2)
        taps = [
            p[:, :, rows, columns]
            for rows, columns in (
                (here, here),
                (here, after),
                (before, after),
                (before, here),
                (here, before),
                (after, before),
                (after, here),
            )
        ]
        if self.reduce == "max":
            # Equal values share the gradient: no tap comes before another. The way back looks at amax, so clear a copy.
            y = torch.stack(taps).amax(0).clone()
        else:
            y = taps[0] + taps[1]
            for tap in taps[2:]:
                y = y + tap
            y = y / len(taps)
        return clear(y, 2).permute(0, 4, 1, 2, 3)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, level={self.level}, in_type={self.in_type!r}, reduce={self.reduce!r}"


class IcosahedralUpsample(OnCharts):
    """Linear interpolation to the next finer grid: points of the coarse grid stay, midpoints are means of their two ends.

    Regular fields are transported to the midpoint; where one end is a corner, the other alone counts.

    Args:
        channels: number of fields.
        grid: of the input, an ``Icosahedral`` or its level.
        in_type: "scalar" or "regular".

    Shape: (B, channels [· 6], N) -> (B, channels [· 6], N'), or the same in chart layout.
    Equivariance: exact under the 60 rotations of the icosahedron.
    Raises: ValueError for a level below 1, another type, or an input that does not fit.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.nn import IcosahedralUpsample
        >>> IcosahedralUpsample(4, Icosahedral(1))(torch.randn(1, 24, 42)).shape
        torch.Size([1, 24, 162])
    """

    near: Tensor

    @renamed_arguments(level="grid")
    def __init__(self, channels: int, grid: Icosahedral | int, *, in_type: str = "regular") -> None:
        size = orientations("in_type", in_type)
        level = check_level(grid)
        super().__init__(level, level + 1, check_count("channels", channels) * size, in_type)
        self.in_channels, self.in_type = channels, in_type
        self.padding = Padding(level, size)
        self.register_buffer("near", corners(level + 1).neighbors.flatten(), persistent=False)

    def on_charts(self, x: Tensor) -> Tensor:
        p = self.padding(x)  # (B, 5, n + 2, 2n + 2, C), first row 0, first column -1
        here, north = p[:, :, 1:-1, 1:-1], p[:, :, :-2, 1:-1]
        east, northeast = p[:, :, 1:-1, 2:], p[:, :, :-2, 2:]
        odd_row = torch.stack([here + north, here + northeast], 4) / 2  # (B, 5, n, 2n, 2, C)
        even_row = torch.stack([here, (here + east) / 2], 4)
        fine = torch.stack([odd_row, even_row], 3).flatten(4, 5).flatten(2, 3)  # (B, 5, 2n, 4n, C)
        if self.in_type == "regular":
            flat = fine.flatten(1, 3)
            flat.index_add_(1, self.near, flat[:, self.near])  # half of a zero corner was in them
        return clear(fine, 2).permute(0, 4, 1, 2, 3)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, level={self.level}, in_type={self.in_type!r}"


class OrientationPool(OnCharts):
    """Regular fields to scalars: maximum or mean over the six orientations.

    Args:
        channels: number of fields.
        grid: of the input, an ``Icosahedral`` or its level.
        reduce: "max" or "mean" over the six orientations.

    Shape: (B, channels · 6, N) -> (B, channels, N), or the same in chart layout.
    Equivariance: exact under the 60 rotations of the icosahedron.
    Raises: ValueError for another ``reduce``, or an input that does not fit.
    Reference: Cohen, Weiler, Kicanaoglu & Welling 2019, arXiv:1902.04615, section 6.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.nn import OrientationPool
        >>> OrientationPool(4, Icosahedral(2))(torch.randn(1, 24, 162)).shape
        torch.Size([1, 4, 162])
    """

    @renamed_arguments(level="grid")
    def __init__(self, channels: int, grid: Icosahedral | int, *, reduce: str = "max") -> None:
        level = check_level(grid)
        super().__init__(level, level, check_count("channels", channels) * ORIENTATIONS, "scalar")
        self.in_channels, self.in_type, self.reduce = channels, "regular", _check_reduce(reduce)

    def on_charts(self, x: Tensor) -> Tensor:
        fields = x.permute(0, 2, 3, 4, 1).unflatten(4, (self.in_channels, ORIENTATIONS))
        return (fields.amax(5) if self.reduce == "max" else fields.mean(5)).permute(0, 4, 1, 2, 3)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, level={self.level}, reduce={self.reduce!r}"
