r"""Convolutions on HEALPix that run as planar convolutions of its twelve faces.

    y_o(p) = b_o + sum_c sum_{k=0}^{8} W_ock x_c(n_k(p)),     n_0 = p, n_1 … n_8 = SW, W, NW, N, NE, E, SE, S

Within a face the nine taps are a 3 × 3 stencil, and across its borders too once the face has been padded from its
neighbours; so a layer is one gather into padded faces, one ``conv2d`` with the faces in the batch axis, one gather back.
Reference: Mahmoudian Bidgoli et al. 2021 (OSLO), arXiv:2107.09179; faces: Karlbauer et al. 2024,
arXiv:2311.06253.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from spheregeo.grids import HEALPix
from spheregeo.nn.sphere.healpix.faces import (
    MISSING,
    OFFSETS,
    face_pixels,
    from_images,
    missing_cells,
    padding_map,
    pixels_map,
    to_images,
)
from spheregeo.nn.sphere.healpix.padding import OnHEALPix

# which of the nine taps each entry of a 3 x 3 kernel holds, row after row
_TAPS = [OFFSETS.index((dx, dy)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


class HEALPixFaceConv(OnHEALPix):
    """Planar convolution of the twelve faces, padded from their neighbours; any odd kernel.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: HEALPix grid, either order.
        kernel_size: odd, up to 2 nside + 1; rows of the kernel go north-west and columns north-east.
        stride: keeps every ``stride``-th row and column of a face; with 2, child 0 of each pixel of the coarser grid.
        groups, bias: as in ``torch.nn.Conv2d``.
        missing: what stands in the two tiles that a face lacks at three-valent corners: "mean", the neighbours on both
            sides, averaged on the diagonal (:mod:`spheregeo.nn.sphere.healpix.faces`); "drop", nothing; "renormalize",
            nothing, and the sum is divided by the share of the taps that are there, before the bias.

    Shape: (B, in_channels, N) -> (B, out_channels, N / stride²), channels last in memory; weight (out, in/groups, k, k).
    Equivariance: exact for quarter turns about z. Half turns about x and y turn the faces by half: exact under them for
        kernels that this leaves as they are. Not SO(3): see :class:`HEALPixConv`.
    Raises: ValueError for another grid than HEALPix, for sizes, stride or rule that do not fit, or an input that is not
        on the grid.
    Reference: Karlbauer et al. 2024, arXiv:2311.06253.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import HEALPixFaceConv
        >>> HEALPixFaceConv(3, 8, HEALPix(4), kernel_size=5)(torch.randn(2, 3, 192)).shape
        torch.Size([2, 8, 192])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: HEALPix,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        missing: str = "mean",
    ) -> None:
        super().__init__(grid)
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "groups": groups, "stride": stride}
        for name, value in sizes.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a positive integer")
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups is {groups} but in_channels is {in_channels} and out_channels {out_channels}; "
                "groups must divide both"
            )
        if missing == "renormalise":
            warnings.warn(
                'missing="renormalise" is spelled "renormalize" now; the former spelling will go in 0.3',
                DeprecationWarning,
                stacklevel=2,
            )
            missing = "renormalize"
        n = grid.nside
        if not isinstance(kernel_size, int) or kernel_size % 2 == 0 or not 1 <= kernel_size <= 2 * n + 1:
            raise ValueError(f"kernel_size is {kernel_size!r}; expected an odd number from 1 to {2 * n + 1}")
        if n % stride:
            raise ValueError(f"stride is {stride}; expected a divisor of nside, which is {n}")
        if missing not in MISSING:
            raise ValueError(f"missing is {missing!r}; expected one of {', '.join(map(repr, MISSING))}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.missing = kernel_size, stride, missing
        self.source, self.target = grid, replace(grid, nside=n // stride)
        self.weight = nn.Parameter(self._empty_weight())
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.pad = padding_map(grid, kernel_size // 2, missing)
        self.unpad = pixels_map(self.target)
        if missing == "renormalize":
            pixel, present = self._partial()
            self.register_buffer("partial", pixel, persistent=False)
            self.register_buffer("present", present, persistent=False)
        self.reset_parameters()

    def _empty_weight(self) -> Tensor:
        return torch.empty(
            self.out_channels, self.in_channels // self.groups, self.kernel_size, self.kernel_size
        )

    def _kernel(self) -> Tensor:
        """The weights as (out, in/groups, k, k), rows north-west and columns north-east."""
        return self.weight

    def _partial(self) -> tuple[Tensor, Tensor]:
        """Output pixels that lack taps, and how many they have. Shape: (n,) int64 each."""
        gap = torch.from_numpy(missing_cells(self.grid.nside, self.kernel_size // 2))
        lacking = nn.functional.avg_pool2d(
            gap[:, None].double(), self.kernel_size, self.stride, divisor_override=1
        )
        lacking = lacking.reshape(-1).round().long()
        (cell,) = np.nonzero(lacking.numpy())
        pixel = torch.from_numpy(face_pixels(self.target).reshape(-1)[cell])
        return pixel, self.kernel_size**2 - lacking[cell]

    def reset_parameters(self) -> None:
        """Draw weights and bias as ``torch.nn.Conv2d`` does."""
        bound = 1 / math.sqrt(self.in_channels // self.groups * self.kernel_size**2)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        self._check_field(x, self.in_channels)
        side = self.grid.nside + 2 * (self.kernel_size // 2)
        images = to_images(self.pad(x), side)  # (12 B, in_channels, side, side)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        y = nn.functional.conv2d(images, self._kernel().to(x.dtype), bias, self.stride, groups=self.groups)
        y = self.unpad(from_images(y))  # (B, out_channels, N / stride^2)
        if self.missing == "renormalize":
            pixel, present = self.get_buffer("partial"), self.get_buffer("present").to(y.dtype)
            rows = y.transpose(1, 2)
            found = rows.index_select(1, pixel)  # (B, n, out_channels)
            found = found if self.bias is None else found - self.bias.to(y.dtype)  # no part of the sum
            more = self.kernel_size**2 / present - 1
            y = rows.index_add(1, pixel, found * more[:, None]).transpose(1, 2)
        return y

    def flops(self) -> int:
        """Multiplications and additions of one forward pass of one sample."""
        taps = self.kernel_size**2
        return 2 * taps * self.in_channels * self.out_channels // self.groups * self.target.num_points

    def memory_bytes(self) -> int:
        """Bytes of geometry this layer holds; layers over equal grids share one copy."""
        return self.pad.memory_bytes() + self.unpad.memory_bytes()

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, {self.grid!r}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, groups={self.groups}, bias={self.bias is not None}, missing={self.missing!r}"
        )


class HEALPixConv(HEALPixFaceConv):
    """Convolution of each pixel with its eight neighbours, in healpy's order.

    Weights of tap 0 meet the pixel itself, those of taps 1 … 8 its neighbours SW, W, NW, N, NE, E, SE, S as
    ``healpy.get_all_neighbours`` lists them. 24 pixels, three around each of the eight three-valent corners, lack one of
    the diagonal neighbours (at nside 1 all pixels lack two).

    Args:
        in_channels, out_channels: channels of input and output.
        grid: HEALPix grid, either order.
        stride: 2 keeps child 0 of each pixel of the coarser grid.
        groups, bias: as in ``torch.nn.Conv2d``.
        missing: for the pixels that lack a neighbour: "drop" leaves its term out (as OSLO does); "renormalize" then
            multiplies the sum by 9/8, before the bias; "mean" takes the mean of the two adjacent neighbours for it.

    Shape: (B, in_channels, N) -> (B, out_channels, N / stride²), channels last in memory; weight (out, in/groups, 9).
    Equivariance: exact for quarter turns about z; for the half turns about x and y with weights that are equal at
        opposite taps. Not SO(3): the taps' directions turn by up to 42° (edge neighbours) and 52° (corner neighbours)
        between the equator and the poles. Measured relative error for signals of degree < 8 at nside 16 / 32 / 64:
        49 / 25 / 13 % with random weights; 130 / 140 / 140 % where they sum to zero (edges, gradients), so it does not
        go away; about 7 / 3 / 3 % with one weight for the four edge and one for the four corner neighbours. Where
        rotations matter take :class:`~spheregeo.nn.GaugeConv` or :class:`~spheregeo.nn.DiscoConv`.
    Raises: ValueError for another grid than HEALPix, for sizes, stride or rule that do not fit, or an input that is not
        on the grid.
    Reference: Mahmoudian Bidgoli et al. 2021, arXiv:2107.09179.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import HEALPixConv
        >>> HEALPixConv(3, 8, HEALPix(4))(torch.randn(2, 3, 192)).shape
        torch.Size([2, 8, 192])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: HEALPix,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        missing: str = "drop",
    ) -> None:
        super().__init__(
            in_channels, out_channels, grid, stride=stride, groups=groups, bias=bias, missing=missing
        )
        self.register_buffer("taps", torch.tensor(_TAPS), persistent=False)

    def _empty_weight(self) -> Tensor:
        return torch.empty(self.out_channels, self.in_channels // self.groups, 9)

    def _kernel(self) -> Tensor:
        return self.weight.index_select(2, self.get_buffer("taps")).unflatten(2, (3, 3))

    def extra_repr(self) -> str:
        return super().extra_repr().replace(f"kernel_size={self.kernel_size}, ", "")
