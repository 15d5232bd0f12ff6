"""Classifiers: an encoder over ever coarser grids, the mean over the sphere, and two layers on top.

The encoder is that of the U-Net (:mod:`spheregeo.models.sphere.unet`); what it ends in is the integral of every channel, which
no rotation changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from spheregeo.kernels import Rings
from spheregeo.models.blocks import Head, ResidualBlock, check_field, hierarchy, make_conv, make_norm
from spheregeo.models.on_grid import to_image
from spheregeo.models.registry import register
from spheregeo.nn import GlobalPool

if TYPE_CHECKING:
    from spheregeo.grids import Grid
    from spheregeo.kernels import Kernel


@register("disco-classifier", output="label", alias="disco")
class DiscoClassifier(nn.Module):
    """Classifier of residual DISCO blocks, one grid per level, any kind of grid.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid.
        width: channels of the finest level.
        depth: number of levels.
        blocks: residual blocks of each level.
        growth: factor by which channels grow from level to level.
        max_width: most channels of a level.
        kernel: filter basis; None for :class:`~spheregeo.kernels.Rings` ``(3)``.
        spacings: radius of the filters in grid spacings of the level (the coarser one between two levels).
        levels: grids from fine to coarse in place of those that ``grid`` and ``depth`` make.
        skip: how many times the first convolution halves the resolution.
        norm: "batch", "group" or "none".
        dropout: probability with which the head drops a value.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels).
    Units: ``skip`` is how many times the first convolution halves the resolution: ``skip=1`` reads a fine grid and works on
        the next coarser one. ``spacings`` is the filters' radius in grid spacings of the level (the coarser one between
        two levels).
    Equivariance: invariant to O(3), approximate, with an isotropic kernel (the default), so mirror images look alike to
        it: 1.1e-2, 2.9e-3 and 3.9e-4 relative error at HEALPix 16, 32 and 64 with depth 3, weights randomised, signals
        of degree < 8. Exact under the rotations that permute every level's grid. With a directional kernel only those
        about z remain.
    Raises: ValueError when the grid has fewer levels than ``depth``, or x has another shape than promised.
    Reference: Ocampo et al. 2023, arXiv 2209.13603, eq. 4.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import DiscoClassifier
        >>> DiscoClassifier(3, 10, HEALPix(4), width=4, depth=2)(torch.randn(2, 3, 192)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 16,
        depth: int = 4,
        blocks: int = 1,
        growth: int = 2,
        max_width: int = 256,
        kernel: Kernel | None = None,
        spacings: float = 2.0,
        levels: Sequence[Grid] | None = None,
        skip: int = 0,
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 1 or width < 1 or blocks < 0 or skip < 0:
            raise ValueError(
                f"depth {depth} and width {width} must be >= 1, blocks {blocks} and skip {skip} >= 0"
            )
        grids = hierarchy(grid, depth + skip, levels)[skip:]
        kernel = kernel if kernel is not None else Rings(3)
        widths = [min(width * growth**i, max_width) for i in range(len(grids))]
        self.grid, self.levels, self.kernel = grid, tuple(grids), kernel
        self.in_channels, self.out_channels = in_channels, out_channels
        stages: list[nn.Module] = []
        sources, channels = [grid, *grids[:-1]], [in_channels, *widths[:-1]]
        for source, target, before, after in zip(sources, grids, channels, widths, strict=True):
            conv = make_conv(
                before, after, source, target, kernel=kernel, spacings=spacings, bias=norm == "none"
            )
            stages += [conv, make_norm(norm, after), nn.GELU()]
            stages += [
                ResidualBlock(after, target, kernel=kernel, spacings=spacings, norm=norm)
                for _ in range(blocks)
            ]
        self.encoder = nn.Sequential(*stages)
        self.pool = GlobalPool(grids[-1])
        self.head = Head(widths[-1], out_channels, dropout, norm)

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        result: Tensor = self.head(self.pool(self.encoder(x)))
        return result


@register("planar-cnn", output="label", native=to_image, alias="planar")
class PlanarCNN(nn.Module):
    """Planar classifier on the equirectangular image, for comparison: it takes the sphere for a rectangle.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid.
        width: channels of the finest level.
        depth: number of levels.
        blocks: convolutions of each level beyond the first.
        growth: factor by which channels grow from level to level.
        max_width: most channels of a level.
        norm: "batch", "group" or "none".
        padding: "zeros", or "circular" in longitude with the polar rows repeated.
        dropout: probability with which the head drops a value.

    Shape: (B, in_channels, nlat, nlon) -> (B, out_channels).
    Units: ``padding`` is "zeros", the plain network, or "circular" in longitude with the polar rows repeated.
    Equivariance: none with "zeros"; with "circular", invariant to longitude shifts by multiples of 2^(depth-1) pixels.
    Raises: ValueError when the grid has not two axes that halve depth-1 times, or for another padding.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular
        >>> from spheregeo.models import PlanarCNN
        >>> PlanarCNN(3, 10, Equiangular(8, 16), width=4, depth=2)(torch.randn(2, 3, 8, 16)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 16,
        depth: int = 4,
        blocks: int = 1,
        growth: int = 2,
        max_width: int = 256,
        norm: str = "batch",
        padding: str = "zeros",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(grid.shape) != 2 or any(n % 2 ** (depth - 1) for n in grid.shape):
            raise ValueError(
                f"planar-cnn of depth {depth} needs a lat-lon grid whose sides are multiples of {2 ** (depth - 1)}; "
                f"got {grid!r} with shape {tuple(grid.shape)}"
            )
        if padding not in ("zeros", "circular"):
            raise ValueError(f"padding is {padding!r}; expected 'zeros' or 'circular'")
        self.grid, self.in_channels, self.out_channels, self.padding = (
            grid,
            in_channels,
            out_channels,
            padding,
        )
        widths = [min(width * growth**i, max_width) for i in range(depth)]
        self.stages = nn.ModuleList()
        for before, after in zip([in_channels, *widths[:-1]], widths, strict=True):
            convs = [nn.Conv2d(before, after, 3, bias=norm == "none")]
            convs += [nn.Conv2d(after, after, 3, bias=norm == "none") for _ in range(blocks)]
            self.stages.append(
                nn.ModuleList(nn.Sequential(c, make_norm(norm, after), nn.GELU()) for c in convs)
            )
        self.head = Head(widths[-1], out_channels, dropout, norm)

    def _pad(self, x: Tensor) -> Tensor:
        if self.padding == "zeros":
            return nn.functional.pad(x, (1, 1, 1, 1))
        x = nn.functional.pad(x, (1, 1, 0, 0), mode="circular")  # (B, C, H, W + 2)
        return nn.functional.pad(x, (0, 0, 1, 1), mode="replicate")  # (B, C, H + 2, W + 2)

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        for i, stage in enumerate(self.stages):
            if i:
                x = nn.functional.avg_pool2d(x, 2)
            for conv in stage:  # type: ignore[attr-defined]
                x = conv(self._pad(x))  # (B, widths[i], nlat / 2^i, nlon / 2^i)
        result: Tensor = self.head(x.mean((-2, -1)))
        return result


__all__ = ["DiscoClassifier", "PlanarCNN"]
