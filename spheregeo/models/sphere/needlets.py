"""Networks of needlets for fields on the sphere: maps to maps by convolution and shrinkage, scale by scale.

Reference: Yi et al. 2022, arXiv:2206.10385 (needlets on SO(3)); Donoho & Johnstone 1994 (shrinkage).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.grids import HEALPix, LatLon
from spheregeo.models.blocks import check_field
from spheregeo.models.registry import register
from spheregeo.nn import NeedletBlock, NeedletConv
from spheregeo.nn.irreps import working_dtype
from spheregeo.spectral import SHT, InverseSHT, NeedletFrame

if TYPE_CHECKING:
    from spheregeo.grids import Grid


def largest_degree(grid: Grid) -> int:
    """Largest degree that the network takes from a grid: rings − 1, on HEALPix 2 nside − 1, elsewhere half of √N."""
    if isinstance(grid, LatLon):
        return max(min(grid.nlat - 1 - int(bool(getattr(grid, "poles", False))), (grid.nlon - 1) // 2), 1)
    if isinstance(grid, HEALPix):
        return 2 * grid.nside - 1
    return max(int(math.sqrt(grid.num_points) / 2), 1)


@register("needlet-denoiser", output="field", family="needlet")
class NeedletDenoiser(nn.Module):
    """Fields to fields by needlets: an isotropic filter of every degree, plus what blocks of convolution and shrinkage find.

    The output has degrees up to ``lmax``. At first it is the input up to there, where there are as many channels out as in, and
    else a random mixture of the channels: the last convolution of the blocks' way starts at zero.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the fields' grid.
        width: channels of the blocks.
        depth: number of blocks.
        lmax: largest degree; None for the largest that the grid resolves (HEALPix: 2 nside − 1).
        B: dilation of the needlets.
        taps: rings of a filter.
        threshold: of the shrinkage, "learned", "relative" or "noise", see :class:`~spheregeo.nn.Shrinkage`.
        start: the thresholds at first.
        lowest: scale of the first detail band; coarser ones are not thresholded.
        oversampling: of the grids of the bands; more costs time and makes the network commute with rotations better.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape).
    Equivariance: SO(3) and reflections, up to the aliasing of the thresholds: for random weights, width 4, depth 2, on
        ``GaussLegendre(18, 36)`` and signals of degree < 8: see the guide of needlets.
    Raises: ValueError for sizes below 1 or a field that is not on the grid.
    Reference: Yi et al. 2022, arXiv:2206.10385, with filters that are zonal.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import NeedletDenoiser
        >>> NeedletDenoiser(2, 1, HEALPix(4), width=4, depth=1)(torch.randn(3, 2, 192)).shape
        torch.Size([3, 1, 192])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 16,
        depth: int = 2,
        lmax: int | None = None,
        B: float = 2.0,
        taps: int = 3,
        threshold: str = "relative",
        start: float = 0.3,
        lowest: int = 0,
        oversampling: float = 1.0,
    ) -> None:
        super().__init__()
        check_least(width=(width, 1), depth=(depth, 0))
        self.in_channels, self.out_channels, self.grid = in_channels, out_channels, grid
        self.lmax = largest_degree(grid) if lmax is None else lmax
        frame = NeedletFrame(self.lmax, B, lowest=lowest, oversampling=oversampling)
        self.analysis, self.synthesis = SHT(grid, self.lmax), InverseSHT(grid, self.lmax)
        self.frame = frame
        self.lift = NeedletConv(in_channels, width, frame, taps=taps, bias=False)
        self.blocks = nn.ModuleList(
            NeedletBlock(width, width, frame, taps=taps, threshold=threshold, start=start)
            for _ in range(depth)
        )
        self.last = NeedletConv(width, out_channels, frame, taps=taps, bias=False)
        nn.init.zeros_(self.last.weight)
        gain = (
            torch.eye(in_channels) if in_channels == out_channels else torch.randn(out_channels, in_channels)
        )
        self.gain = nn.Parameter(
            (gain / (1 if in_channels == out_channels else in_channels**0.5)).repeat(self.lmax + 1, 1, 1)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        with torch.autocast(x.device.type, enabled=False):
            c = self.analysis(x.to(working_dtype(x)))
            h = self._summed(self.lift, c)
            for block in self.blocks:
                h = block(h)
            y: Tensor = self.synthesis(self._summed(self.last, h) + self._filtered(c))
            y = y + self.bias.to(y.dtype).reshape(-1, *[1] * len(self.grid.shape))
            return y.to(x.dtype)

    def _summed(self, conv: NeedletConv, c: Tensor) -> Tensor:
        """The sum of a convolution's scales, without a way over grids."""
        return self.frame.combine(conv.spectra(c))

    def _filtered(self, c: Tensor) -> Tensor:
        """Channels mixed degree by degree."""
        sizes = [2 * degree + 1 for degree in range(self.lmax + 1)]
        gains = self.gain.to(c.dtype).unbind(0)
        return torch.cat([gain @ part for gain, part in zip(gains, c.split(sizes, -1))], -1)


__all__ = ["NeedletDenoiser"]
