r"""Quadrature over rings, for analysis: a weight for each ring, or exact integration of trigonometric polynomials on few rings.

Degrees to lmax need a rule that is exact for products, degree 2 lmax: Gauss–Legendre has it from lmax + 1 rings, equidistant
rings from 2 lmax + 1. Equidistant rings determine degrees to lmax from lmax + 1 rings already (lmax + 2 with poles): Fourier
coefficients of order m continue over the poles as F_m(−θ) = (−1)^{m+s} F_m(θ), so they are polynomials in cos kθ or sin kθ that
the rings' values determine, and their integrals against functions of the same kind are known. With C the matrix from values to
coefficients and I_jk = ∫ cos jθ cos kθ sin θ dθ (or sines) then a = Λᵀ Cᵀ I C F for each parity: a symmetric matrix in place of
a diagonal of weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.grids import Equiangular, GaussLegendre, HEALPix, LatLon
from spheregeo.grids.base import Grid, LatitudeRings

USES = ("analysis", "synthesis", "layer")


@dataclass(frozen=True, eq=False)
class Weights:
    """What stands between ring stage and Legendre stage in an analysis: (R,) weights, or matrices (R, R) for even and odd m.

    Symmetric, so that the transpose of the analysis has the very same.
    """

    diagonal: Tensor | None = None
    matrices: tuple[Tensor, Tensor] | None = None

    def to(self, like: Tensor) -> Weights:
        """On the device and in the type of a tensor."""
        if self.matrices is None:
            assert self.diagonal is not None
            return Weights(self.diagonal.to(like))
        even, odd = self.matrices
        return Weights(None, (even.to(like), odd.to(like)))

    def apply(self, values: Tensor) -> Tensor:
        """Weighted ring values. Shape: (M, R, K) -> (M, R, K)."""
        if self.matrices is None:
            assert self.diagonal is not None
            return values * self.diagonal[:, None]
        out = torch.empty_like(values)
        for parity, matrix in enumerate(self.matrices):
            out[parity::2] = matrix @ values[parity::2]
        return out


def resolved_degree(grid: Grid, use: str = "analysis") -> int:
    """The largest degree that a grid resolves: on lat-lon grids to that degree analysis is exact, on HEALPix it is 2 nside.

    On other grids it is a degree of half as many coefficients as points, at most 40, for least squares.

    Args:
        grid: the grid.
        use: "analysis"; "synthesis" leaves out the bound of 40, for grids that fields are only evaluated on; "layer" is what
            layers keep, whose analysis has one iteration on HEALPix: 2 nside − 1 there and half of √N on other grids.

    Raises: ValueError for another use.
    """
    if use not in USES:
        raise ValueError(f"use is {use!r}; expected one of {', '.join(map(repr, USES))}")
    if isinstance(grid, HEALPix):
        return 2 * grid.nside - (use == "layer")
    found = _limits(grid)
    if found:
        return min(degree for degree, _ in found)
    if use == "layer":
        return int(math.sqrt(grid.num_points) / 2)
    most = math.isqrt(max(grid.num_points // 2, 1)) - 1
    return max(most if use == "synthesis" else min(most, 40), 0)


def _limits(grid: Grid) -> list[tuple[int, str]]:
    """Degrees that each property of a grid of rings allows an analysis, with the reason."""
    found = []
    if isinstance(grid, HEALPix):
        found.append((3 * grid.nside - 1, "iterations stall from 3 nside on"))
    elif isinstance(grid, GaussLegendre):
        found.append(
            (grid.nlat - 1, f"nlat = {grid.nlat} rings of Gauss–Legendre determine degrees to nlat − 1")
        )
    elif isinstance(grid, Equiangular):
        lost = 2 if grid.poles else 1
        why = f"nlat = {grid.nlat} equidistant rings determine degrees to nlat − {lost}"
        found.append((max(grid.nlat - lost, 0), why))
    if isinstance(grid, LatLon):
        found.append(((grid.nlon - 1) // 2, f"nlon = {grid.nlon} longitudes determine orders below nlon/2"))
    return found


def check_lmax(grid: Grid, lmax: int) -> None:
    """Raises: ValueError where the rings of a grid do not determine all degrees to lmax, with the largest that they do."""
    for largest, why in sorted(_limits(grid)):
        if lmax > largest:
            raise ValueError(f"lmax is {lmax}; expected at most {largest} on {grid!s}: {why}")


def ring_weights(grid: Grid, rings: LatitudeRings, lmax: int, spin: int, kind: str) -> Weights:
    """The weights of an analysis on a grid of rings, for degrees to lmax."""
    if isinstance(grid, Equiangular) and 2 * lmax >= grid.nlat:
        matrices = _exact(rings.colatitude, lmax, grid.poles)
        scaled = tuple(matrix * (2 * math.pi / grid.nlon) for matrix in matrices)
        return Weights(None, scaled if spin % 2 == 0 else scaled[::-1])  # type: ignore[arg-type]
    first = torch.as_tensor(0) if isinstance(grid, HEALPix) else rings.start
    weights = grid.areas[first].expand(len(rings.length)).clone()
    if kind == "ring":
        assert isinstance(grid, HEALPix)
        top = min(2 * lmax, 3 * grid.nside)  # beyond, weights grow without bound
        weights *= healpix_ring_weights(rings, top)
    return Weights(weights)


def healpix_ring_weights(rings: LatitudeRings, lmax: int) -> Tensor:
    """Factors on the area of each HEALPix ring, the nearest to one that integrate zonal harmonics of degrees to lmax exactly.

    Shape: (R,), mirror-symmetric.
    """
    north = (len(rings.length) + 1) // 2
    x, theta = torch.cos(rings.colatitude[:north]), rings.colatitude
    share = rings.length[:north].to(torch.float64)
    share[:-1] *= 2
    share /= share.sum()
    p = torch.stack([x.new_ones(north), x])
    rows = [p[0]]
    for l in range(2, lmax + 1):  # Legendre polynomials, even ones kept
        p = torch.stack([p[1], ((2 * l - 1) * x * p[1] - (l - 1) * p[0]) / l])
        if l % 2 == 0:
            rows.append(p[1])
    legendre = torch.stack(rows) * share.sqrt()
    excess = -legendre @ share.sqrt()
    excess[0] += 1.0
    weights = 1 + torch.linalg.lstsq(legendre, excess[:, None], driver="gelsd").solution[:, 0] / share.sqrt()
    return torch.cat([weights, weights[: len(theta) - north].flip(0)])


def _exact(theta: Tensor, lmax: int, poles: bool) -> tuple[Tensor, Tensor]:
    """Cᵀ I C for cosine polynomials and for sine polynomials of degree lmax through values at equidistant colatitudes."""
    k = torch.arange(lmax + 1, dtype=torch.float64)
    found = []
    for function, sign in ((torch.cos, 1.0), (torch.sin, -1.0)):
        basis = function(theta[:, None] * k)
        if sign < 0:
            basis[:, 0] = 0.0
            if poles:
                basis[[0, -1]] = 0.0
        # equidistant rings: columns are orthogonal with unit weights (half of them at poles)
        w = torch.ones_like(theta)
        if poles:
            w[0] = w[-1] = 0.5
        norm = (basis * basis * w[:, None]).sum(0)
        inverse = (basis * w[:, None]).T / norm.clamp(min=1e-3)[:, None]
        integrals = 0.5 * (_moment(k[:, None] - k) + sign * _moment(k[:, None] + k))
        found.append(inverse.T @ integrals @ inverse)
    return found[0], found[1]


def _moment(j: Tensor) -> Tensor:
    """∫_0^π cos jθ sin θ dθ."""
    even = j.remainder(2) == 0
    return torch.where(even, 2 / (1 - j * j + (~even).to(j)), 0.0)
