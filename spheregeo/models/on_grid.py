"""A network of one grid, used on another: interpolated to its own grid before, and back after.

Icosahedral and HEALPix networks know one kind of grid, and planar ones images. ``--model.network icosahedral`` on
panoramas therefore works on the icosahedral grid whose spacing is nearest to the panorama's. Both interpolations are
linear, fixed and differentiable; they cost the finest details: a bilinear step to points between the samples damps the
shortest waves, and an output made on the coarser grid has no finer one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

from spheregeo.grids import Equiangular, HEALPix, Icosahedral, LatLon
from spheregeo.nn import Resample

if TYPE_CHECKING:
    from spheregeo.grids import Grid


class OnGrid(nn.Module):
    """A model between two linear interpolations: ``grid`` to ``native`` before it, and back after it for fields.

    Args:
        model: network built for ``native``.
        grid: of input and output.
        native: the grid that the model knows.
        output: "field" for a value per point, interpolated back; else the model's output as it is.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape), or (B, out_channels) for output "label".
    Equivariance: that of the model, lessened by the interpolations, which are of second order in the spacing.
    Raises: ValueError for an input that is not on ``grid``.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular, HEALPix
        >>> from spheregeo.models import HEALPixUNet, OnGrid
        >>> model = OnGrid(HEALPixUNet(3, 2, HEALPix(4), width=4, depth=2), Equiangular(8, 16), HEALPix(4))
        >>> model(torch.randn(2, 3, 8, 16)).shape
        torch.Size([2, 2, 8, 16])
    """

    def __init__(self, model: nn.Module, grid: Grid, native: Grid, output: str = "field") -> None:
        super().__init__()
        self.model, self.grid, self.native = model, grid, native
        self.before = Resample(grid, native)
        self.after = Resample(native, grid) if output == "field" else nn.Identity()
        self.in_channels = getattr(model, "in_channels", None)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.after(self.model(self.before(x)))
        return result


def _nearest_level(grid: Grid, count: float) -> int:
    """log4 of the ratio of the grid's number of points to ``count``, rounded, at least 0."""
    return max(0, round(math.log(grid.num_points / count, 4)))


def to_icosahedral(grid: Grid) -> Icosahedral:
    """The icosahedral grid whose number of points is nearest (by ratio) to the grid's; an icosahedral one is kept."""
    return grid if isinstance(grid, Icosahedral) else Icosahedral(_nearest_level(grid, 10))


def to_healpix(grid: Grid) -> HEALPix:
    """The HEALPix grid whose number of points is nearest (by ratio) to the grid's, in ring order; a HEALPix one is kept."""
    return grid if isinstance(grid, HEALPix) else HEALPix(2 ** _nearest_level(grid, 12))


def to_image(grid: Grid) -> Grid:
    """The equirectangular grid of as many points, rows a multiple of 8; a lat-lon one is kept."""
    if isinstance(grid, LatLon):
        return grid
    rows = max(8, 8 * round(math.sqrt(grid.num_points / 2) / 8))
    return Equiangular(rows, 2 * rows)
