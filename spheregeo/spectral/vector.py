r"""Vector harmonic transforms, and what winds are made of.

With potentials V = ∇S + curl T, by south and east (∂_θ S + ∂_φ T/sin θ, ∂_φ S/sin θ − ∂_θ T), the velocity potential is χ = S,
the streamfunction ψ = −T, the divergence ∇²χ and the vorticity ∇²ψ. Winds are pairs (u, v) by east and north: u = V_φ, v = −V_θ.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.grids.base import Grid
from spheregeo.spectral.operators import roots
from spheregeo.spectral.sht import SHT, InverseSHT
from spheregeo.spectral.stages.quadrature import resolved_degree


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


class WindFields(nn.Module):
    """Vorticity, divergence, potentials and the two parts of winds.

    Args:
        grid: of the winds.
        lmax: largest degree; None for the largest that the grid determines (2 nside on HEALPix).
        radius: of the sphere, for example 6.371e6 for winds of the Earth in metres per second.
        engine: who evaluates the Legendre stage; None for the fastest there is.

    Shape: winds (..., 2, *grid.shape), (u, v) by east and north; scalars (..., *grid.shape).
    Units: ``radius`` in metres and winds in m/s give 1/s for vorticity and divergence, m²/s for potentials.
    Equivariance: exact for winds of degrees to ``lmax`` on grids with exact analysis; details beyond are lost.
    Raises: as :class:`SHT`; ValueError for a radius that is not positive.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre
        >>> from spheregeo.spectral import WindFields
        >>> WindFields(GaussLegendre(8, 16)).vorticity(torch.randn(2, 8, 16)).shape
        torch.Size([8, 16])
    """

    def __init__(
        self, grid: Grid, lmax: int | None = None, radius: float = 1.0, *, engine: str | None = None
    ) -> None:
        super().__init__()
        if not radius > 0:
            raise ValueError(f"radius is {radius}; expected a positive number")
        lmax = resolved_degree(grid) if lmax is None else lmax
        self.grid, self.lmax, self.radius = grid, lmax, float(radius)
        self.analysis = VectorSHT(grid, lmax, engine=engine)
        self.vectors = InverseVectorSHT(grid, lmax, engine=engine)
        self.scalars = InverseSHT(grid, lmax, engine=engine)

    def forward(self, wind: Tensor) -> dict[str, Tensor]:
        """All six fields by name."""
        c = self.coefficients(wind)
        return {
            "vorticity": self._scalar(c, 1, 1.0, 1),
            "divergence": self._scalar(c, 0, -1.0, 1),
            "streamfunction": self._scalar(c, 1, -1.0, -1),
            "velocity_potential": self._scalar(c, 0, 1.0, -1),
            "rotational_wind": self._part(c, 1),
            "divergent_wind": self._part(c, 0),
        }

    def coefficients(self, wind: Tensor) -> Tensor:
        """Gradient and curl coefficients of winds. Shape: (..., 2, *grid.shape) -> (..., 2, (lmax + 1)²)."""
        return self.analysis(turned(wind, self.grid))

    def vorticity(self, wind: Tensor) -> Tensor:
        """ζ = ∂v/∂x − ∂u/∂y, the upward component of the curl: positive where winds turn counter-clockwise."""
        return self._scalar(self.coefficients(wind), 1, 1.0, 1)

    def divergence(self, wind: Tensor) -> Tensor:
        """δ = ∂u/∂x + ∂v/∂y on the sphere."""
        return self._scalar(self.coefficients(wind), 0, -1.0, 1)

    def streamfunction(self, wind: Tensor) -> Tensor:
        """ψ of mean zero with ∇²ψ = ζ; the rotational wind is (−∂ψ/∂y, ∂ψ/∂x)."""
        return self._scalar(self.coefficients(wind), 1, -1.0, -1)

    def velocity_potential(self, wind: Tensor) -> Tensor:
        """χ of mean zero with ∇²χ = δ; the divergent wind is ∇χ."""
        return self._scalar(self.coefficients(wind), 0, 1.0, -1)

    def rotational_wind(self, wind: Tensor) -> Tensor:
        """The part of winds without divergence."""
        return self._part(self.coefficients(wind), 1)

    def divergent_wind(self, wind: Tensor) -> Tensor:
        """The part of winds without vorticity."""
        return self._part(self.coefficients(wind), 0)

    def wind(self, vorticity: Tensor, divergence: Tensor) -> Tensor:
        """Winds with these coefficients of vorticity and divergence. Shape: two (..., (lmax + 1)²) -> (..., 2, *grid.shape)."""
        root = roots(self.lmax, vorticity)
        inverse = torch.where(root > 0, self.radius / root.clamp(min=1), torch.zeros_like(root))
        return winds(self.vectors(torch.stack([-divergence * inverse, vorticity * inverse], -2)), self.grid)

    def _scalar(self, c: Tensor, part: int, sign: float, power: int) -> Tensor:
        """The field of coefficients of one part times sign (√(l(l+1))/radius)^power, without a mean."""
        root = roots(self.lmax, c)
        factor = sign * root / self.radius
        if power < 0:
            factor = torch.where(root > 0, sign * self.radius / root.clamp(min=1), torch.zeros_like(root))
        return self.scalars(c[..., part, :] * factor)

    def _part(self, c: Tensor, part: int) -> Tensor:
        kept = c[..., part, :]
        other = torch.zeros_like(kept)
        return winds(self.vectors(torch.stack([other, kept] if part else [kept, other], -2)), self.grid)


def turned(wind: Tensor, grid: Grid) -> Tensor:
    """Components by south and east of winds (u, v) by east and north. Shape: (..., 2, *grid.shape) -> (..., 2, *grid.shape)."""
    check_tensor(wind, "wind")
    axis = wind.ndim - len(grid.shape) - 1
    if axis < 0 or wind.shape[axis] != 2:
        raise ValueError(
            f"wind has shape {tuple(wind.shape)}; expected (..., 2, {', '.join(map(str, grid.shape))})"
        )
    u, v = wind.unbind(axis)
    return torch.stack([-v, u], axis)


def winds(x: Tensor, grid: Grid) -> Tensor:
    """Winds (u, v) by east and north of components by south and east. Shape: (..., 2, *grid.shape) -> (..., 2, *grid.shape)."""
    axis = x.ndim - len(grid.shape) - 1
    south, east = x.unbind(axis)
    return torch.stack([east, -south], axis)
