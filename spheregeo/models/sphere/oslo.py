"""OSLO, compression on HEALPix, and its twin on equirectangular images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from spheregeo.models.on_grid import to_healpix, to_image
from spheregeo.models.registry import register
from spheregeo.models.sphere.hyperprior import Rated, ScaleHyperprior
from spheregeo.nn import HEALPixConv, HEALPixHops, PixelShuffle

if TYPE_CHECKING:
    from spheregeo.grids import Grid, HEALPix


def _to_nested(grid: Grid) -> HEALPix:
    """The HEALPix grid whose number of points is nearest, in nested order, in which pooling and shuffling are views."""
    native = to_healpix(grid)
    return native if native is grid else replace(native, order="nested")


@register("oslo", output="codec", native=_to_nested)
class OSLO(ScaleHyperprior):
    """Compression of omnidirectional images on HEALPix: nine-neighbour convolutions, GDN, a scale hyperprior.

    Args:
        in_channels, out_channels: channels of the fields, equally many.
        grid: HEALPix grid of the fields, nside a multiple of 2^(depth + 2).
        width: channels inside, N of the publication (128 there).
        latent: channels of the latents, M of the publication (192 there); 3/2 of the width if None.
        depth: halvings of nside between fields and latents (4 in the publication).
        hops: successive convolutions of a level, whose outputs are added.
        missing: rule for the 24 pixels that lack a neighbour, see :class:`spheregeo.nn.HEALPixConv`.

    Shape: (B, C, N) -> (B, C, N).
    Equivariance: exact for quarter turns about z where the children of pixels keep their places; not SO(3), see
        :class:`spheregeo.nn.HEALPixConv`.
    Raises: ValueError for another grid than HEALPix, one that cannot be coarsened so often, or x of another shape.
    Reference: Mahmoudian Bidgoli et al. 2021, arXiv 2107.09179.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import OSLO
        >>> OSLO(3, 3, HEALPix(8, "nested"), width=4, depth=1)(torch.randn(2, 3, 768)).shape
        torch.Size([2, 3, 768])
    """

    convolutions = (HEALPixConv,)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 32,
        latent: int | None = None,
        depth: int = 4,
        hops: int = 2,
        missing: str = "drop",
    ) -> None:
        self._missing = missing
        super().__init__(
            in_channels, out_channels, grid, width=width, latent=latent or 3 * width // 2, depth=depth, hops=hops
        )  # fmt: skip

    def filter(self, before: int, after: int, grid: Grid, hops: int) -> nn.Module:
        return HEALPixHops(before, after, cast("HEALPix", grid), hops=hops, missing=self._missing)

    def shuffle(self, grid: Grid) -> nn.Module:
        return PixelShuffle(cast("HEALPix", grid))


class _WrapHops(nn.Module):
    """Successive 3 x 3 convolutions, circular in longitude, edge rows repeated at the poles; their outputs are added."""

    def __init__(self, before: int, after: int, hops: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(after if k else before, after, 3) for k in range(hops))

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for conv in self.convs:
            x = torch.cat([x[..., -1:], x, x[..., :1]], -1)  # also of a single column
            x = conv(torch.cat([x[..., :1, :], x, x[..., -1:, :]], -2))
            outputs.append(x)
        return torch.stack(outputs).sum(0)


@register("oslo-planar", output="codec", native=to_image)
class PlanarOSLO(ScaleHyperprior):
    """The twin of :class:`OSLO` on equirectangular images: planar convolutions, circular in longitude.

    Args:
        in_channels, out_channels: channels of the images, equally many.
        grid: equirectangular grid of the images, rows a multiple of 2^(depth + 2), and more than one of them.
        width: channels inside.
        latent: channels of the latents; 3/2 of the width if None.
        depth: halvings between images and latents.
        hops: successive convolutions of a level, whose outputs are added.

    Shape: (B, C, nlat, nlon) -> (B, C, nlat, nlon).
    Equivariance: exact for shifts of longitude by multiples of 2^(depth + 2) pixels; no other rotation.
    Raises: ValueError for a grid without rows and columns, one that cannot be coarsened so often, or x of another shape.
    Reference: Ballé et al. 2018, arXiv 1802.01436.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular
        >>> from spheregeo.models import PlanarOSLO
        >>> PlanarOSLO(3, 3, Equiangular(16, 32), width=4, depth=1)(torch.randn(2, 3, 16, 32)).shape
        torch.Size([2, 3, 16, 32])
    """

    convolutions = (nn.Conv2d,)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 32,
        latent: int | None = None,
        depth: int = 4,
        hops: int = 2,
    ) -> None:
        if len(grid.shape) != 2:
            raise ValueError(f"oslo-planar needs a grid of rows and columns; got {grid!r}")
        super().__init__(
            in_channels, out_channels, grid, width=width, latent=latent or 3 * width // 2, depth=depth, hops=hops
        )  # fmt: skip

    def filter(self, before: int, after: int, grid: Grid, hops: int) -> nn.Module:
        return _WrapHops(before, after, hops)

    def shuffle(self, grid: Grid) -> nn.Module:
        return nn.PixelShuffle(2)


__all__ = ["OSLO", "PlanarOSLO", "Rated", "ScaleHyperprior"]
