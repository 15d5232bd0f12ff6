"""Networks of gauge-equivariant convolutions on the icosahedron: a U-Net and a classifier.

All features between the first layer and the last are regular fields on the five charts, so that a layer is one ``conv2d`` and
nothing is converted in between. Reference: Cohen, Weiler, Kicanaoglu & Welling 2019, arXiv:1902.04615, section 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spheregeo.grids import Icosahedral
from spheregeo.models.blocks import check_field
from spheregeo.models.on_grid import to_icosahedral
from spheregeo.models.registry import register
from spheregeo.nn import GlobalPool, SampleDropout
from spheregeo.nn.sphere.icosahedral import (
    FromCharts,
    IcosahedralBatchNorm,
    IcosahedralConv,
    IcosahedralUpsample,
    OrientationPool,
    ToCharts,
)

if TYPE_CHECKING:
    from spheregeo.grids import Grid


def _level(name: str, grid: Grid, depth: int, width: int) -> int:
    """Level of the grid, once it is found to have ``depth`` levels of which none is the icosahedron itself."""
    if not isinstance(grid, Icosahedral):
        raise ValueError(
            f"grid is {grid!r}; {name} takes Icosahedral(level) alone; resample the field to such a grid, or build the "
            f"network with spheregeo.models.create({name!r}, ...), which does so"
        )
    if not 1 <= depth <= grid.level:
        raise ValueError(
            f"depth is {depth} and the grid {grid!r}; expected 1 <= depth <= {grid.level}: at level 0 all points are corners"
        )
    if width < 1:
        raise ValueError(f"width is {width}; expected at least 1")
    return grid.level


def _norm(kind: str, channels: int, level: int) -> nn.Module:
    if kind == "batch":
        return IcosahedralBatchNorm(channels, level)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"norm is {kind!r}; choose batch or none")


def _unit(
    channels_in: int, channels_out: int, level: int, norm: str, in_type: str = "regular", stride: int = 1
) -> nn.Sequential:
    """Convolution to regular fields, norm, ReLU."""
    conv = IcosahedralConv(
        channels_in, channels_out, level, in_type=in_type, stride=stride, bias=norm == "none"
    )
    return nn.Sequential(conv, _norm(norm, channels_out, level - stride + 1), nn.ReLU())


class IcosahedralBlock(nn.Module):
    """Convolution, norm, ReLU, convolution, norm, added to the input; then ReLU.

    Args:
        channels: regular fields, six channels each.
        level: of the icosahedral grid.
        norm: "batch" or "none".

    Shape: chart layout (B, channels · 6, 5, n, 2n) -> the same.
    Equivariance: exact under the 60 rotations of the icosahedron.

    Example:
        >>> import torch
        >>> from spheregeo.models import IcosahedralBlock
        >>> IcosahedralBlock(2, 2)(torch.randn(1, 12, 5, 4, 8)).shape
        torch.Size([1, 12, 5, 4, 8])
    """

    def __init__(self, channels: int, level: int, norm: str = "batch") -> None:
        super().__init__()
        self.first = _unit(channels, channels, level, norm)
        self.second = IcosahedralConv(channels, channels, level, bias=norm == "none")
        self.norm = _norm(norm, channels, level)
        if isinstance(self.norm, IcosahedralBatchNorm):
            nn.init.zeros_(
                self.norm.weight
            )  # the block starts as the identity (Goyal et al. 2017, section 5.1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x + self.norm(self.second(self.first(x))))


@register("icosahedral-unet", native=to_icosahedral, alias="icosahedral")
class IcosahedralUNet(nn.Module):
    """U-Net on the icosahedron: residual blocks of regular fields, strided convolutions, interpolation, skips.

    Values at the grid's twelve corners are not read; the output there is the mean of the five neighbours.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid, an ``Icosahedral``.
        width: regular fields, of six channels each, on the first level.
        depth: number of levels.
        blocks: residual blocks of each level, on the way down and on the way up.
        growth: factor by which the fields grow from level to level.
        max_width: most fields of a level.
        norm: "batch" or "none".

    Shape: (B, in_channels, N) -> (B, out_channels, N), N points of ``grid``, an ``Icosahedral``.
    Equivariance: exact under the 60 rotations of the icosahedron, 4e-15 in float64. For others it is not: with depth 3, random
        weights and signals of degree < 8 the relative error is 45, 40 and 31 % at levels 3, 4 and 5
        (docs/guides/equivariance.md).
    Raises: ValueError for another kind of grid, more levels than it has, or x of another shape.
    Reference: Cohen et al. 2019, section 6; Ronneberger, Fischer & Brox 2015, arXiv:1505.04597.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.models import IcosahedralUNet
        >>> IcosahedralUNet(3, 2, Icosahedral(2), width=2, depth=2)(torch.randn(1, 3, 162)).shape
        torch.Size([1, 2, 162])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 8,
        depth: int = 4,
        blocks: int = 1,
        growth: int = 2,
        max_width: int = 64,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        level = _level("icosahedral-unet", grid, depth, width)
        if blocks < 0 or growth < 1:
            raise ValueError(f"blocks is {blocks} and growth {growth}; expected blocks >= 0, growth >= 1")
        self.grid, self.in_channels, self.out_channels = grid, in_channels, out_channels
        widths = [min(width * growth**i, max(width, max_width)) for i in range(depth)]

        def stage(i: int) -> nn.Sequential:
            return nn.Sequential(*(IcosahedralBlock(widths[i], level - i, norm) for _ in range(blocks)))

        steps = range(depth - 1)
        self.enter = ToCharts(level)
        self.stem = _unit(in_channels, widths[0], level, norm, in_type="scalar")
        self.encoder = nn.ModuleList(stage(i) for i in range(depth))
        self.down = nn.ModuleList(_unit(widths[i], widths[i + 1], level - i, norm, stride=2) for i in steps)
        self.up = nn.ModuleList(IcosahedralUpsample(widths[i + 1], level - i - 1) for i in steps)
        self.merge = nn.ModuleList(
            _unit(widths[i + 1] + widths[i], widths[i], level - i, norm) for i in steps
        )
        self.decoder = nn.ModuleList(stage(i) for i in steps)
        self.head = nn.Sequential(
            OrientationPool(widths[0], level),
            IcosahedralConv(
                widths[0], out_channels, level, in_type="scalar", out_type="scalar", kernel_size=1
            ),
            FromCharts(level),
        )

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        x = self.encoder[0](self.stem(self.enter(x)))  # (B, 6 width, 5, n, 2n)
        skips = []
        for down, stage in zip(self.down, list(self.encoder)[1:], strict=True):
            skips.append(x)
            x = stage(down(x))  # one level coarser
        for i in reversed(range(len(self.up))):
            x = self.decoder[i](self.merge[i](torch.cat([self.up[i](x), skips[i]], dim=1)))
        result: Tensor = self.head(x)
        return result


@register("icosahedral-classifier", output="label", native=to_icosahedral, alias="icosahedral")
class IcosahedralClassifier(nn.Module):
    """Classifier on the icosahedron: convolutions of strides 1, 2, 1, 2, 1, ..., orientation pooling, mean, three linear layers.

    With width 8 and depth 4 it has regular fields 8, 16, 16, 24, 24, 32, 64 with strides 1, 2, 1, 2, 1, 2, 1.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid, an ``Icosahedral``.
        width: regular fields, of six channels each, of the first convolution.
        depth: number of levels.
        norm: "batch" or "none".
        dropout: probability with which a value before the last layer is dropped.

    Shape: (B, in_channels, N) -> (B, out_channels), N points of ``grid``, an ``Icosahedral``.
    Equivariance: invariant to the 60 rotations of the icosahedron, 1e-15 in float64; to others only as far as it learns it.
    Raises: ValueError for another kind of grid, more levels than it has, or x of another shape.
    Reference: Cohen et al. 2019, section 6.1 (spherical MNIST).

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.models import IcosahedralClassifier
        >>> IcosahedralClassifier(3, 10, Icosahedral(2), width=2, depth=2)(torch.randn(2, 3, 162)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 8,
        depth: int = 4,
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        level = _level("icosahedral-classifier", grid, depth, width)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; expected 0 (none) to below 1")
        self.grid, self.in_channels, self.out_channels = grid, in_channels, out_channels
        units: list[nn.Module] = [_unit(in_channels, width, level, norm, in_type="scalar")]
        channels = width
        for i in range(1, depth):
            wider, last = width * (i + 1), width * depth * 2
            units.append(_unit(channels, wider, level - i + 1, norm, stride=2))
            channels = last if i == depth - 1 else wider
            units.append(_unit(wider, channels, level - i, norm))
        self.encoder = nn.Sequential(ToCharts(level), *units)
        coarsest = level - depth + 1
        self.pool = nn.Sequential(
            OrientationPool(channels, coarsest), FromCharts(coarsest), GlobalPool(Icosahedral(coarsest))
        )
        self.head = nn.Sequential(
            nn.Linear(channels, channels),
            nn.ReLU(),
            nn.Linear(channels, max(channels // 2, out_channels)),
            nn.ReLU(),
            SampleDropout(dropout),
            nn.Linear(max(channels // 2, out_channels), out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        result: Tensor = self.head(self.pool(self.encoder(x)))
        return result


__all__ = ["IcosahedralBlock", "IcosahedralClassifier", "IcosahedralUNet"]
