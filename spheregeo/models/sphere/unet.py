"""A U-Net of DISCO convolutions on a hierarchy of spherical grids, any kind of grid at each level.

Encoder and decoder are those of Ronneberger, Fischer & Brox 2015 (arXiv 1505.04597) with the planar convolution
replaced by the discrete-continuous one (Ocampo, Price & McEwen 2023, arXiv 2209.13603), which maps between any two
grids: going down is a convolution evaluated at the coarse points with the fine quadrature, going up one evaluated
at the fine points with the coarse quadrature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spheregeo.kernels import Rings
from spheregeo.models.blocks import (
    Activated,
    Checkpointed,
    Pointwise,
    ResidualBlock,
    check_field,
    hierarchy,
    make_conv,
    make_norm,
)
from spheregeo.models.registry import register
from spheregeo.nn import ExactBuffers

if TYPE_CHECKING:
    from spheregeo.grids import Grid
    from spheregeo.kernels import Kernel


@register("sphere-unet", family="disco")
class SphericalUNet(Checkpointed, ExactBuffers):
    """U-Net on the sphere: residual DISCO blocks, skip connections, one grid per level.

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
        norm: "batch", "group" or "none".
        checkpoint: whether to compute each stage again in the backward pass instead of keeping it.
        position: whether the sine of the latitude is one more input channel.
        polar: how convolutions treat the crowded rows of lat-lon grids, see :class:`spheregeo.nn.DiscoConv`.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape).
    Equivariance: SO(3), approximate, with an isotropic kernel (the default) and ``position=False``: 0.3 % relative
        error for the small size on 64x128, signals of degree < 8, weights randomised; exact under the rotations that
        permute every level's grid. With ``position=True`` or a directional kernel only those about z remain.
    Raises: ValueError when the grid has fewer levels than ``depth``, or x has another shape than promised.
    Reference: Ronneberger et al. 2015; Ocampo et al. 2023, eq. 4.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular
        >>> from spheregeo.models import SphericalUNet
        >>> SphericalUNet(3, 2, Equiangular(8, 16), width=4, depth=2)(torch.randn(2, 3, 8, 16)).shape
        torch.Size([2, 2, 8, 16])
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
        norm: str = "batch",
        checkpoint: bool = False,
        position: bool = False,
        polar: str = "exact",
    ) -> None:
        super().__init__()
        if depth < 1 or width < 1 or blocks < 0:
            raise ValueError(f"depth {depth} and width {width} must be >= 1, blocks {blocks} >= 0")
        grids = hierarchy(grid, depth, levels)
        kernel = kernel if kernel is not None else Rings(3)
        widths = [min(width * growth**i, max_width) for i in range(len(grids))]
        self.grid, self.levels, self.kernel = grid, tuple(grids), kernel
        self.in_channels, self.out_channels = in_channels, out_channels
        self.checkpoint, self.position = checkpoint, position
        if position:
            self.keep("height", grid.points[:, 2].reshape(grid.shape))  # sine of the latitude

        def bridge(channels_in: int, channels_out: int, source: Grid, target: Grid) -> nn.Sequential:
            conv = make_conv(
                channels_in,
                channels_out,
                source,
                target,
                kernel=kernel,
                spacings=spacings,
                bias=norm == "none",
                polar=polar,
            )
            return Activated(conv, make_norm(norm, channels_out))

        def stage(channels: int, at: Grid) -> nn.Sequential:
            return nn.Sequential(
                *(
                    self._block(channels, at, kernel=kernel, spacings=spacings, norm=norm, polar=polar)
                    for _ in range(blocks)
                )
            )

        self.stem = bridge(in_channels + position, widths[0], grid, grid)
        self.encoder = nn.ModuleList(stage(w, g) for w, g in zip(widths, grids, strict=True))
        steps = range(len(grids) - 1)
        self.down = nn.ModuleList(bridge(widths[i], widths[i + 1], grids[i], grids[i + 1]) for i in steps)
        self.up = nn.ModuleList(bridge(widths[i + 1], widths[i], grids[i + 1], grids[i]) for i in steps)
        self.merge = nn.ModuleList(
            Activated(Pointwise(2 * widths[i], widths[i], bias=norm == "none"), make_norm(norm, widths[i]))
            for i in steps
        )
        self.decoder = nn.ModuleList(stage(widths[i], grids[i]) for i in steps)
        self.head = Pointwise(widths[0], out_channels)

    def _block(self, channels: int, at: Grid, **options: Any) -> nn.Module:
        """What the stages are made of."""
        return ResidualBlock(channels, at, **options)

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        if self.position:
            height = self.height.to(x.dtype).expand(x.shape[0], 1, *self.grid.shape)  # type: ignore[operator]
            x = torch.cat([x, height], dim=1)  # (B, in_channels + 1, *shape)
        x = self.run(self.encoder[0], self.run(self.stem, x))  # (B, widths[0], *grid.shape)
        skips = []
        for down, stage in zip(self.down, list(self.encoder)[1:], strict=True):
            skips.append(x)
            x = self.run(stage, self.run(down, x))  # one level coarser
        for i in reversed(range(len(self.up))):
            x = torch.cat([self.run(self.up[i], x), skips[i]], dim=1)  # (B, 2 widths[i], *levels[i].shape)
            x = self.run(self.decoder[i], self.run(self.merge[i], x))
        result: Tensor = self.head(x)
        return result


@register("sphere-unet-small", alias="disco", options_of=SphericalUNet)
def small(
    in_channels: int, out_channels: int, grid: Grid, *, width: int = 16, depth: int = 4, **options: Any
) -> SphericalUNet:
    """The small spherical U-Net: width 16, 4 levels, one block per level; trains on two CPU cores in minutes."""
    return SphericalUNet(in_channels, out_channels, grid, width=width, depth=depth, **options)


@register("sphere-unet-base", family="disco", options_of=SphericalUNet)
def base(
    in_channels: int,
    out_channels: int,
    grid: Grid,
    *,
    width: int = 32,
    depth: int = 5,
    blocks: int = 2,
    **options: Any,
) -> SphericalUNet:
    """The base spherical U-Net: width 32, 5 levels, two blocks per level; for a GPU."""
    return SphericalUNet(in_channels, out_channels, grid, width=width, depth=depth, blocks=blocks, **options)
