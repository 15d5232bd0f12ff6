"""Spherical harmonic transforms between fields on a grid and coefficients of real orthonormal harmonics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid
from spheregeo.harmonics import real_harmonics


class InverseSHT(nn.Module):
    """Synthesis: the field on a grid whose coefficients are given.

    Args:
        grid: where the field is evaluated.
        lmax: largest degree.
        spin: order of the tangent field; 0 for scalars.

    Shape: (..., (lmax + 1)²) -> (..., *grid.shape), index l² + l + m; for spin s ≠ 0 (..., 2, (lmax + 1)²), gradient and curl
        coefficients, -> (..., 2, *grid.shape), components along south and east.
    Equivariance: exact.
    Raises: ValueError for other shapes.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre
        >>> from spheregeo.spectral import InverseSHT
        >>> InverseSHT(GaussLegendre(9, 18), 8)(torch.randn(2, 81)).shape
        torch.Size([2, 9, 18])
    """

    def __init__(self, grid: Grid, lmax: int, spin: int = 0) -> None:
        super().__init__()
        if spin:
            raise ValueError("spin is not supported yet")
        self.grid, self.lmax, self.spin = grid, lmax, spin
        self.register_buffer("_harmonics", real_harmonics(grid.points, lmax), persistent=False)

    def forward(self, coefficients: Tensor) -> Tensor:
        """The field with these coefficients."""
        flat = coefficients @ self._harmonics.to(coefficients.dtype).T
        return flat.unflatten(-1, self.grid.shape)

    def adjoint(self, x: Tensor) -> Tensor:
        """The transpose of the synthesis: sums over points, without weights."""
        flat = x.flatten(x.ndim - len(self.grid.shape))
        return flat @ self._harmonics.to(x.dtype)


class SHT(nn.Module):
    """Analysis: the coefficients of a field on a grid.

    Args:
        grid: where the field is given.
        lmax: largest degree.
        spin: order of the tangent field; 0 for scalars.

    Shape: (..., *grid.shape) -> (..., (lmax + 1)²), index l² + l + m; see :class:`InverseSHT`.
    Equivariance: exact where the grid's quadrature is.
    Raises: ValueError for other shapes.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre
        >>> from spheregeo.spectral import SHT
        >>> SHT(GaussLegendre(9, 18), 8)(torch.randn(2, 9, 18)).shape
        torch.Size([2, 81])
    """

    def __init__(self, grid: Grid, lmax: int, spin: int = 0) -> None:
        super().__init__()
        self.grid, self.lmax, self.spin = grid, lmax, spin
        self._synthesis = InverseSHT(grid, lmax, spin)
        root = grid.areas.sqrt()
        inverse = torch.linalg.pinv(self._synthesis._harmonics * root[:, None]) * root
        self.register_buffer("_inverse", inverse, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The field's coefficients."""
        flat = x.flatten(x.ndim - len(self.grid.shape))
        return flat @ self._inverse.to(x.dtype).T
