"""Networks of needlets for fields on the sphere: maps to maps, and a classifier on SO(3), by convolution and shrinkage.

Reference: Yi et al. 2022, arXiv:2206.10385 (needlets on SO(3)); Donoho & Johnstone 1994 (shrinkage).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.blocks import Head, check_field
from spheregeo.models.registry import register
from spheregeo.nn import NeedletBlock, NeedletConv, NeedletLift, ScaleInvariants
from spheregeo.nn.irreps import working_dtype
from spheregeo.spectral import SHT, InverseSHT, NeedletFrame, SO3NeedletFrame, resolved_degree

if TYPE_CHECKING:
    from spheregeo.grids import Grid
    from spheregeo.nn.sphere.spectral import SpectralKernel


@register("needlet-denoiser", output="field", alias="needlet")
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
        self.lmax = max(1, resolved_degree(grid, "layer")) if lmax is None else lmax
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


@register("needlet-cnn", output="label", alias="needlet")
class NeedletCNN(nn.Module):
    """Classifier of needlets on SO(3) (NES): lift, blocks of convolution and shrinkage, invariants of every scale of every block.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the fields' grid.
        width: channels on SO(3).
        depth: number of blocks.
        lmax: largest degree; None for the largest that the grid resolves, at most 8.
        B: dilation of the needlets.
        taps: rings of a filter.
        threshold, start: of the shrinkage, see :class:`~spheregeo.nn.Shrinkage`.
        oversampling: of the grids of the bands on SO(3); more costs time and makes the network commute with rotations better.
        kernel: of the lift from the sphere, such as :class:`~spheregeo.nn.NearIdentity`; None for rings up to π/4.
        norm: of the head, "batch", "group" or "none".
        dropout: probability with which the head drops a value.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels).
    Equivariance: invariant to SO(3), up to the aliasing of the thresholds, as the guide of needlets says; mirror images differ.
    Raises: ValueError for sizes below 1 or a field that is not on the grid.
    Reference: Yi et al. 2022, arXiv:2206.10385.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import NeedletCNN
        >>> NeedletCNN(2, 10, HEALPix(4), width=4, depth=1, lmax=4)(torch.randn(3, 2, 192)).shape
        torch.Size([3, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 8,
        depth: int = 2,
        lmax: int | None = None,
        B: float = 2.0,
        taps: int = 2,
        threshold: str = "relative",
        start: float = 0.3,
        oversampling: float = 1.0,
        kernel: SpectralKernel | None = None,
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_least(width=(width, 1), depth=(depth, 1))
        self.in_channels, self.out_channels, self.grid = in_channels, out_channels, grid
        self.lmax = max(1, min(resolved_degree(grid, "layer"), 8)) if lmax is None else lmax
        self.analysis = SHT(grid, self.lmax)
        self.lift = NeedletLift(in_channels, width, self.lmax, kernel)
        frame = SO3NeedletFrame(self.lmax, B, oversampling=oversampling)
        self.frame = frame
        self.blocks = nn.ModuleList(
            NeedletBlock(width, width, frame, taps=taps, threshold=threshold, start=start)
            for _ in range(depth)
        )
        self.invariants = ScaleInvariants(frame)
        self.head = Head(2 * frame.num_scales * width * depth, out_channels, dropout, norm)

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        with torch.autocast(x.device.type, enabled=False):
            h = self.lift(self.analysis(x.to(working_dtype(x))))
            found = []
            for i, block in enumerate(self.blocks):
                bands = block.bands(h)  # type: ignore[operator]
                found.append(self.invariants(bands))
                if i + 1 < len(self.blocks):
                    h = h + self.frame.reconstruct(bands)
        result: Tensor = self.head(torch.cat(found, 1).to(x.dtype))
        return result


__all__ = ["NeedletCNN", "NeedletDenoiser"]
