"""Vector harmonic transforms: tangent vector fields and their gradient and curl coefficients."""

from __future__ import annotations

from spheregeo.grids.base import Grid
from spheregeo.spectral.sht import SHT, InverseSHT


class InverseVectorSHT(InverseSHT):
    """Synthesis of a tangent vector field from its gradient and curl coefficients.

    V = Σ g_lm ∇Y_lm/√(l(l+1)) + t_lm curl Y_lm/√(l(l+1)), orthonormal, with ∇S = (∂_θ S, ∂_φ S/sin θ) and
    curl T = (∂_φ T/sin θ, −∂_θ T) by south and east; the case spin = 1 of :class:`InverseSHT`.

    Args:
        grid: where the field is evaluated.
        lmax: largest degree.
        engine: who evaluates the Legendre stage; None for the fastest there is.

    Shape: (..., 2, (lmax + 1)²) -> (..., 2, *grid.shape), components along south and east.
    Equivariance: exact.
    Raises: as :class:`InverseSHT`.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre
        >>> from spheregeo.spectral import InverseVectorSHT
        >>> InverseVectorSHT(GaussLegendre(9, 18), 8)(torch.randn(2, 81)).shape
        torch.Size([2, 9, 18])
    """

    def __init__(self, grid: Grid, lmax: int, *, engine: str | None = None) -> None:
        super().__init__(grid, lmax, 1, engine=engine)


class VectorSHT(SHT):
    """Analysis of a tangent vector field: its gradient and curl coefficients.

    With V = ∇S + curl T they are √(l(l+1)) times the coefficients of S and T; the case spin = 1 of :class:`SHT`, whose
    arguments and exactness it has.

    Args:
        grid: where the field is given.
        lmax: largest degree.
        iterations: of the analysis on HEALPix.
        weights: "grid" or "ring", see :class:`SHT`.
        engine: who evaluates the Legendre stage; None for the fastest there is.

    Shape: (..., 2, *grid.shape), components along south and east, -> (..., 2, (lmax + 1)²).
    Equivariance: exact where the analysis is.
    Raises: as :class:`SHT`.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre
        >>> from spheregeo.spectral import VectorSHT
        >>> VectorSHT(GaussLegendre(9, 18), 8)(torch.randn(2, 9, 18)).shape
        torch.Size([2, 81])
    """

    def __init__(
        self,
        grid: Grid,
        lmax: int,
        *,
        iterations: int = 3,
        weights: str = "grid",
        engine: str | None = None,
    ) -> None:
        super().__init__(grid, lmax, 1, iterations=iterations, weights=weights, engine=engine)
