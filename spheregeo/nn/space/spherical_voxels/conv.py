r"""Convolution of functions on shells: rotations act on the sphere alone, and radii mix like channels.

    F'^l[o, h, m] = Σ_c Σ_t ψ^l[o, c, t] F^l[c, h + t, m]

one matrix for each degree over channels and near shells: the zonal form, which any number of radii shares. The lifted form
correlates with filters of any shape to functions on SO(3), takes a SiLU there and projects back by a learned kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from spheregeo.checks import check_least, check_tensor
from spheregeo.grids import Grid
from spheregeo.nn.sphere.spectral import NearIdentity, S2Conv, SO3ToS2, ZonalConv
from spheregeo.nn.sphere.spectral.base import degree_between
from spheregeo.spectral import resolved_degree


class SphericalVoxelConv(nn.Module):
    """Convolution between functions on spherical voxels.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: of each shell.
        lmax: largest degree kept; None for the largest that the grid holds.
        taps: shells that a filter spans, an odd number.
        anchors: degrees at which a zonal filter's response is learned, linear between them; None for all.
        lift: whether to go by SO(3), with filters that are not zonal: 64 (lmax + 1)³ samples a shell.
        bias: whether to add a learned constant to every output channel.

    Shape: (B, in_channels, H, *grid.shape) -> (B, out_channels, H, *grid.shape); beyond the end shells is nothing.
    Equivariance: SO(3) about the centre, exact for signals of degree ≤ lmax (1e-15 in float64); zonal filters commute with
        reflections, too. The SiLU of the lifted form, which tells mirror images apart, aliases: 4e-3.
    Raises: ValueError for an even number of taps, sizes below 1, other shapes.
    Reference: You et al. 2020, arXiv:1811.09361, section 3.2; Esteves et al. 2018, arXiv:1711.06721; Cohen et al. 2018,
        arXiv:1801.10130.

    Example:
        >>> from spheregeo.grids import Equiangular
        >>> conv = SphericalVoxelConv(2, 3, Equiangular(8, 8), lmax=2)
        >>> conv(torch.randn(1, 2, 5, 8, 8)).shape
        torch.Size([1, 3, 5, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        lmax: int | None = None,
        taps: int = 3,
        anchors: int | None = None,
        lift: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_least(in_channels=(in_channels, 1), out_channels=(out_channels, 1), taps=(taps, 1))
        if taps % 2 == 0:
            raise ValueError(f"taps is {taps}; expected an odd number of shells, such as 3")
        self.in_channels, self.grid, self.taps = in_channels, grid, taps
        count = in_channels * taps
        if lift:
            degree = degree_between(lmax, resolved_degree(grid, "layer"))
            fine = 2 * degree + 1  # twice the bandwidth, so that the SiLU aliases little
            self.layers: nn.Module = nn.Sequential(
                S2Conv(count, out_channels, grid, fine, lmax=degree, kernel=NearIdentity(), bias=bias), nn.SiLU(),
                SO3ToS2(out_channels, out_channels, fine, grid, lmax=degree, kernel=NearIdentity(), bias=bias),
            )  # fmt: skip
        else:
            self.layers = ZonalConv(count, out_channels, grid, lmax=lmax, anchors=anchors, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if x.ndim != 5 or x.shape[1] != self.in_channels or x.shape[3:] != self.grid.shape:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (B, {self.in_channels}, H, "
                f"{', '.join(map(str, self.grid.shape))})"
            )
        batch, _, shells = x.shape[:3]
        reach = self.taps // 2
        padded = functional.pad(x, (0, 0, 0, 0, reach, reach))
        near = torch.cat([padded[:, :, t : t + shells] for t in range(self.taps)], 1)
        y: Tensor = self.layers(near.transpose(1, 2).flatten(0, 1))
        return y.unflatten(0, (batch, shells)).transpose(1, 2)
