"""Pixels for channels and back: four channels of a pixel become its four children of twice the nside."""

from __future__ import annotations

from torch import Tensor

from spheregeo.grids import HEALPix
from spheregeo.grids.cache import geometry
from spheregeo.nn.sphere.healpix.padding import OnHEALPix
from spheregeo.sparse import Gather


class PixelShuffle(OnHEALPix):
    """Field of 4C channels as one of C channels on twice the nside, losing nothing.

    Channel i C + c of pixel p becomes channel c of p's child i, which in nested order is pixel 4p + i: with channels last in
    memory a view. (``torch.nn.PixelShuffle`` takes channel 4c + i.)

    Args:
        grid: of the input, the coarse HEALPix grid.

    Shape: (B, 4 C, N) -> (B, C, 4 N).
    Equivariance: exact for quarter turns about z; others of the grid's rotations permute the four channels.
    Raises: ValueError for another grid than HEALPix, channels that are no multiple of 4, or an input that is not on the grid.
    Reference: Mahmoudian Bidgoli et al. 2021, arXiv:2107.09179; Shi et al. 2016, arXiv:1609.05158.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import PixelShuffle
        >>> PixelShuffle(HEALPix(4))(torch.randn(2, 12, 192)).shape
        torch.Size([2, 3, 768])
    """

    def __init__(self, grid: HEALPix) -> None:
        super().__init__(grid)
        self.source, self.target = self.grid, self.grid.refine()
        self.gather = None if self.grid.nested else _from_children(self.grid)

    def forward(self, x: Tensor) -> Tensor:
        self._check_field(x)
        if x.shape[1] % 4:
            raise ValueError(f"x has {x.shape[1]} channels; expected a multiple of 4")
        rows = x.transpose(1, 2)  # (B, N, 4 C)
        y = rows.reshape(x.shape[0], 4 * x.shape[2], x.shape[1] // 4).transpose(
            1, 2
        )  # (B, C, 4 N), children one after another
        return y if self.gather is None else self.gather(y)


class PixelUnshuffle(OnHEALPix):
    """The inverse of :class:`PixelShuffle`: the four children of a pixel become its channels.

    Args:
        grid: of the input, the fine HEALPix grid.

    Shape: (B, C, N) -> (B, 4 C, N / 4).
    Equivariance: as for :class:`PixelShuffle`.
    Raises: ValueError for another grid than HEALPix, an odd nside, or an input that is not on the grid.
    Reference: as for :class:`PixelShuffle`.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import PixelUnshuffle
        >>> PixelUnshuffle(HEALPix(4))(torch.randn(2, 3, 192)).shape
        torch.Size([2, 12, 48])
    """

    def __init__(self, grid: HEALPix) -> None:
        super().__init__(grid)
        self.source, self.target = self.grid, self.grid.coarsen()
        self.gather = None if self.grid.nested else _to_children(self.target)

    def forward(self, x: Tensor) -> Tensor:
        self._check_field(x)
        y = x if self.gather is None else self.gather(x)  # (B, C, N), children one after another
        rows = y.transpose(1, 2)  # (B, N, C)
        return rows.reshape(x.shape[0], x.shape[2] // 4, 4 * x.shape[1]).transpose(1, 2)


def _to_children(coarse: HEALPix) -> Gather:
    def build() -> Gather:
        children = coarse.children().reshape(-1)
        return Gather(children, len(children))

    return geometry.get(("healpix to children", coarse), build).shared()


def _from_children(coarse: HEALPix) -> Gather:
    def build() -> Gather:
        children = coarse.children().reshape(-1)
        return Gather(children.argsort(), len(children))

    return geometry.get(("healpix from children", coarse), build).shared()
