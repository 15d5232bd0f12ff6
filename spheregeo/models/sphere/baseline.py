"""Baselines that a spherical network has to beat: one pixel at a time, and the flat U-Net that ignores the sphere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spheregeo.models.blocks import Pointwise, check_channels, make_norm
from spheregeo.models.on_grid import to_image
from spheregeo.models.registry import register

if TYPE_CHECKING:
    from spheregeo.grids import Grid


@register("pixel-mlp")
class PixelMLP(nn.Module):
    """Multilayer perceptron on each point's own channels; it sees no neighbour.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid.
        width: channels of the hidden layers.
        depth: number of hidden layers.
        norm: "batch", "group" or "none".

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape).
    Equivariance: exact for every permutation of the points.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular
        >>> from spheregeo.models import PixelMLP
        >>> PixelMLP(3, 2, Equiangular(8, 16))(torch.randn(2, 3, 8, 16)).shape
        torch.Size([2, 2, 8, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 64,
        depth: int = 3,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.grid, self.in_channels, self.out_channels = grid, in_channels, out_channels
        layers: list[nn.Module] = []
        channels = in_channels
        for _ in range(depth - 1):
            layers += [Pointwise(channels, width), make_norm(norm, width), nn.GELU()]
            channels = width
        self.layers = nn.Sequential(*layers, Pointwise(channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        check_channels(x, self.in_channels)
        result: Tensor = self.layers(x)
        return result


class _WrapConv(nn.Module):
    """3x3 convolution, circular in longitude, edge rows repeated at the poles."""

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, bias=norm == "none")
        self.norm = make_norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(x, (1, 1, 0, 0), mode="circular")  # (B, C, H, W + 2)
        x = nn.functional.pad(x, (0, 0, 1, 1), mode="replicate")  # (B, C, H + 2, W + 2)
        return nn.functional.gelu(self.norm(self.conv(x)))


@register("planar-unet", native=to_image, alias="planar")
class PlanarUNet(nn.Module):
    """U-Net of planar 3x3 convolutions on the equirectangular image, circular in longitude.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid.
        width: channels of the finest level, twice as many on each further one.
        depth: number of levels.
        norm: "batch", "group" or "none".

    Shape: (B, in_channels, nlat, nlon) -> (B, out_channels, nlat, nlon); nlat, nlon multiples of 2^(depth-1).
    Equivariance: longitude shifts by multiples of 2^(depth-1) pixels, exact; no other rotation.
    Raises: ValueError when the grid has not two axes that halve depth-1 times.
    Reference: Ronneberger, Fischer & Brox 2015, arXiv 1505.04597.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular
        >>> from spheregeo.models import PlanarUNet
        >>> PlanarUNet(3, 2, Equiangular(8, 16), width=4, depth=2)(torch.randn(2, 3, 8, 16)).shape
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
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if len(grid.shape) != 2 or any(n % 2 ** (depth - 1) for n in grid.shape):
            raise ValueError(
                f"planar-unet of depth {depth} needs a lat-lon grid whose sides are multiples of {2 ** (depth - 1)}; "
                f"got {grid!r} with shape {tuple(grid.shape)}"
            )
        self.grid, self.in_channels, self.out_channels = grid, in_channels, out_channels
        widths = [width * 2**i for i in range(depth)]

        def pair(channels_in: int, channels_out: int) -> nn.Sequential:
            return nn.Sequential(
                _WrapConv(channels_in, channels_out, norm), _WrapConv(channels_out, channels_out, norm)
            )

        self.encoder = nn.ModuleList(
            pair(widths[i - 1] if i else in_channels, widths[i]) for i in range(depth)
        )
        self.decoder = nn.ModuleList(pair(widths[i + 1] + widths[i], widths[i]) for i in range(depth - 1))
        self.head = Pointwise(widths[0], out_channels)

    def forward(self, x: Tensor) -> Tensor:
        check_channels(x, self.in_channels)
        skips = []
        for i, stage in enumerate(self.encoder):
            if i:
                skips.append(x)
                x = nn.functional.avg_pool2d(x, 2)
            x = stage(x)  # (B, widths[i], nlat / 2^i, nlon / 2^i)
        for i in reversed(range(len(self.decoder))):
            x = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
            x = self.decoder[i](torch.cat([x, skips[i]], dim=1))
        result: Tensor = self.head(x)
        return result
