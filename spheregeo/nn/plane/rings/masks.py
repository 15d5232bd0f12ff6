r"""Rings of Gaussians in the distance from a kernel's centre, as masks of taps that are as round as the taps allow.

G_j(u) = T(u) exp(−(|u| − r_j)² / 2σ_j²), T(u) = 1 − max(|u| − R + ½, 0)² inside |u| ≤ R + ½, R = (k − 1)/2

The rim taper T removes most of what the taps of a square tell apart from those of a disc. The rest is removed by moments: of all
masks the part that tells the axes from the diagonals is taken away in the lowest orders, |u|⁴cos 4φ and |u|⁶cos 4φ on the plane,
the cubic harmonics of degrees 4 and 6 in space. The removal is linear and fixed, so that rings stay round while they are learned.

Reference: Du et al. 2025, arXiv:2504.02819 (rings of Gaussians).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.constants import table
from spheregeo.nn.exact_buffers import ExactBuffers

NARROWEST = 0.5  # pixels; narrower rings fall between the taps

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _anisotropic(places: Tensor, dims: int) -> list[Tensor]:
    """Polynomials, lowest order first, that tell the axes from the diagonals; none on a line. Shape: (taps, dims) -> (taps)."""
    if dims == 1:
        return []
    squares = places.square()
    r2 = squares.sum(1)
    if dims == 2:
        fourth = squares.square().sum(1) - 6 * squares.prod(1)  # r⁴ cos 4φ
        return [fourth, fourth * r2]
    fourth = squares.square().sum(1) - 0.6 * r2.square()
    return [fourth, fourth * r2, squares.prod(1) + fourth * r2 / 22 - r2**3 / 105]


class RingMasks(ExactBuffers):
    """Masks of the rings of an isotropic kernel, with learned widths.

    Args:
        kernel_size: taps along each axis; the rings are ⌈kernel_size / 2⌉, a spacing of the taps apart, the outermost at
            (kernel_size − 1) / 2. An even kernel has its centre between taps, and its first ring at ½.
        dims: axes of the kernel, 1 to 3.
        width: standard deviation σ of the Gaussians at the start, above 0.5.

    Shape: () -> (rings, *(kernel_size,) * dims), each mask of unit norm at the start.
    Units: widths in spacings of the taps.
    Equivariance: every mask is unchanged by the symmetries of the square or the cube, exact.
    Raises: ValueError for a width of at most 0.5.

    Example:
        >>> RingMasks(5, 2)().shape
        torch.Size([3, 5, 5])
    """

    def __init__(self, kernel_size: int, dims: int, width: float = 0.85) -> None:
        super().__init__()
        if not NARROWEST < width < math.inf:
            raise ValueError(f"width is {width!r}; expected a length above {NARROWEST} spacings of the taps")
        self.kernel_size, self.dims, self.width = kernel_size, dims, float(width)
        self.rings = (kernel_size + 1) // 2
        rim = (kernel_size - 1) / 2
        axis = torch.arange(kernel_size, dtype=torch.float64) - rim
        places = torch.cartesian_prod(*[axis] * dims).view(-1, dims)
        distance = places.norm(dim=1)
        radii = rim - torch.arange(self.rings - 1, -1, -1, dtype=torch.float64)
        taper = (1 - (distance - rim + 0.5).clamp(min=0) ** 2).clamp(min=0) * (distance <= rim + 0.5)
        offsets = distance - radii[:, None]
        # as many moments as there are more distances than rings
        distances = len(torch.unique((distance[taper > 0] ** 2 * 4).round()))
        moments = _anisotropic(places / max(rim, 1), dims)[: max(0, distances - self.rings)]
        self.corrected = len(moments)
        if moments:
            rows = torch.stack(moments)
            self.keep("moments", rows)
            self.keep("removal", torch.linalg.solve((rows * taper) @ rows.T, rows * taper))
        self.keep("offsets", offsets)
        self.keep("taper", taper)
        start = self._round(taper * torch.exp(-0.5 * (offsets / self.width) ** 2), exact=True)
        self.keep("scale", 1 / start.norm(dim=1, keepdim=True))
        self.spread = nn.Parameter(torch.zeros(self.rings))

    def _round(self, masks: Tensor, exact: bool = False) -> Tensor:
        """Take away the anisotropic moments."""
        if not self.corrected:
            return masks
        take = self.exact if exact else self.get_buffer
        return masks - (masks @ take("moments").to(masks.dtype).T) @ take("removal").to(masks.dtype)

    def widths(self, spread: Tensor | None = None) -> Tensor:
        """Return the standard deviation σ_j of each ring, ½ + (width − ½) exp(spread_j).

        Args:
            spread: the rings' parameter; the present one if None.

        Shape: (rings,) -> (rings,).
        """
        spread = self.spread if spread is None else spread
        spread = spread.to(torch.promote_types(spread.dtype, torch.float32))  # not in half
        return NARROWEST + (self.width - NARROWEST) * spread.exp()

    def forward(self, spread: Tensor | None = None, slopes: bool = False) -> Tensor:
        """Return the masks.

        Args:
            spread: the rings' parameter; the present one if None.
            slopes: whether to return the derivative of each mask by its own ``spread`` instead.

        Shape: (rings,) -> (rings, *(kernel_size,) * dims).
        """
        widths = self.widths(spread)[:, None]
        offsets = self.get_buffer("offsets").to(widths.dtype)
        masks = torch.exp(-0.5 * (offsets / widths) ** 2) * self.get_buffer("taper").to(widths.dtype)
        if slopes:
            masks = masks * offsets.square() / widths**3 * (widths - NARROWEST)
        masks = self._round(masks) * self.get_buffer("scale").to(widths.dtype)
        return masks.view(-1, *(self.kernel_size,) * self.dims)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dims={self.dims}, rings={self.rings}, width={self.width}"


def dilated(masks: Tensor, dilation: Sequence[int]) -> Tensor:
    """Masks with zeros between their taps. Shape: (rings, k, ...) -> (rings, dilation (k − 1) + 1, ...)."""
    if all(d == 1 for d in dilation):
        return masks
    sizes = [d * (k - 1) + 1 for d, k in zip(dilation, masks.shape[1:])]
    wide = masks.new_zeros(masks.shape[0], *sizes)
    wide[(slice(None), *(slice(None, None, d) for d in dilation))] = masks
    return wide


def smoothed(masks: Tensor, taps: Sequence[Sequence[float]]) -> Tensor:
    """Masks convolved with a row of taps along each axis. Shape: (rings, k, ...) -> (rings, k + taps − 1, ...)."""
    conv, y = CONV[masks.ndim - 1], masks[:, None]
    for axis, row in enumerate(taps):
        if len(row) > 1:
            shape, pad = [1] * y.ndim, [0] * (y.ndim - 2)
            shape[axis + 2], pad[axis] = len(row), len(row) - 1
            y = conv(y, table(row, masks).view(shape), padding=pad)
    return y[:, 0]
