r"""Random band-limited signals, known exactly everywhere, and the band-limited part of a sampled field.

f = Σ_{l < L} Σ_m a_lm S_lm with independent a_lm of equal variance: a distribution that no rotation changes. The part of
a field y below degree L is the weighted least-squares fit min_c Σ_i a_i (y_i − Σ c_lm S_lm(p_i))²; it returns the
coefficients of a band-limited field to rounding on every grid, whatever the grid's quadrature is worth.
Large grids of rings are served by the transforms of :mod:`spheregeo.spectral`, others by blocks of harmonics.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.harmonics import real_harmonics
from spheregeo.spectral import InverseSHT, degrees, rotate_coefficients

BLOCK = 1 << 22  # harmonics worked on at once, as numbers: 32 MiB
KEPT = 1 << 24  # a fit keeps its harmonics up to here, 128 MiB, and computes them anew beyond


FEW = 1 << 20  # harmonics are faster than transforms up to here


def _by_transform(grid: Grid, lmax: int) -> bool:
    return grid.rings is not None and grid.num_points * lmax * lmax > FEW


def random_coefficients(fields: int, lmax: int, generator: torch.Generator) -> Tensor:
    """Coefficients of fields with degrees l < lmax and mean square 1 over the sphere.

    Shape: (fields, lmax²) float64.
    """
    a = torch.randn(fields, lmax * lmax, dtype=torch.float64, generator=generator)
    return a * (math.sqrt(4 * math.pi) / a.norm(dim=1, keepdim=True))


def _blocks(points: Tensor, lmax: int) -> Iterator[tuple[slice, Tensor]]:
    size = max(1, BLOCK // (lmax * lmax))
    for start in range(0, len(points), size):
        part = slice(start, start + size)
        yield part, real_harmonics(points[part], lmax - 1)  # (block, lmax²)


def evaluate(coefficients: Tensor, points: Tensor) -> Tensor:
    """Values of band-limited fields at any points.

    Shape: coefficients (..., lmax²), points (N, 3) -> (..., N) float64.
    """
    lmax = math.isqrt(coefficients.shape[-1])
    out = coefficients.new_empty((*coefficients.shape[:-1], len(points)))
    for part, harmonics in _blocks(points, lmax):
        out[..., part] = coefficients @ harmonics.T
    return out


def evaluate_on_grid(coefficients: Tensor, grid: Grid, rotation: Tensor | None = None) -> Tensor:
    """Values of band-limited fields f, or of f(R⁻¹ p), at a grid's points.

    Shape: coefficients (..., lmax²), rotation (3, 3), a reflection allowed, -> (..., N) float64.
    """
    lmax = math.isqrt(coefficients.shape[-1])
    if not _by_transform(grid, lmax):
        return evaluate(coefficients, grid.points if rotation is None else grid.points @ rotation)
    if rotation is not None:
        if torch.linalg.det(rotation) < 0:  # a rotation and p -> -p, under which degrees l have parity (−1)^l
            coefficients, rotation = coefficients * (1.0 - 2 * (degrees(lmax - 1) % 2)), -rotation
        coefficients = rotate_coefficients(coefficients, rotation)
    values: Tensor = InverseSHT(grid, lmax - 1)(coefficients)
    return values.flatten(-len(grid.shape))


def moments(y: Tensor, grid: Grid, lmax: int) -> Tensor:
    """Σ_i a_i y_i S_lm(p_i) of degrees l < lmax. Shape: (..., N) -> (..., lmax²)."""
    if _by_transform(grid, lmax):
        weighted = (y * grid.areas).unflatten(-1, grid.shape)
        return InverseSHT(grid, lmax - 1).adjoint(weighted)
    a = y.new_zeros((*y.shape[:-1], lmax * lmax))
    for part, harmonics in _blocks(grid.points, lmax):
        a += (y[..., part] * grid.areas[part]) @ harmonics
    return a


def analyse(y: Tensor, grid: Grid, lmax: int, lmin: int) -> Tensor:
    """Coefficients by the grid's quadrature, exact or nearly, of degrees lmin ≤ l < lmax; zero below.

    Shape: (..., N) -> (..., lmax²).
    """
    a = moments(y, grid, lmax)
    a[..., : lmin * lmin] = 0
    return a


class BandFit:
    """Least-squares projection of fields on a grid onto degrees below ``lmax``; its normal matrix is built once."""

    def __init__(self, grid: Grid, lmax: int) -> None:
        self.grid, self.lmax = grid, lmax
        size = lmax * lmax
        self._dense = not _by_transform(grid, lmax)
        few = self._dense and grid.num_points * size <= KEPT
        self._kept = list(_blocks(grid.points, lmax)) if few else None
        gram = torch.zeros(size, size, dtype=torch.float64)
        if self._dense:
            for part, harmonics in self._parts():
                gram += (harmonics * grid.areas[part, None]).T @ harmonics
        else:
            step = max(1, BLOCK // grid.num_points)
            for part in torch.eye(size, dtype=torch.float64).split(step):
                at = int(part[0].argmax())
                gram[at : at + len(part)] = moments(evaluate_on_grid(part, grid), grid, lmax)
        self._factor = torch.linalg.cholesky(gram)

    def _parts(self) -> Iterable[tuple[slice, Tensor]]:
        return _blocks(self.grid.points, self.lmax) if self._kept is None else self._kept

    def __call__(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of the fit, and what it leaves. Shape: (..., N) -> (..., lmax²), (..., N)."""
        if self._dense:
            moment = y.new_zeros((*y.shape[:-1], self.lmax**2))
            for part, harmonics in self._parts():
                moment += (y[..., part] * self.grid.areas[part]) @ harmonics
        else:
            moment = moments(y, self.grid, self.lmax)
        flat = moment.reshape(-1, self.lmax**2)
        band = torch.cholesky_solve(flat.T, self._factor).T.reshape(moment.shape)
        if not self._dense:
            return band, y - evaluate_on_grid(band, self.grid)
        rest = y.clone()
        for part, harmonics in self._parts():
            rest[..., part] -= band @ harmonics.T
        return band, rest


def resolved_degree(grid: Grid) -> int:
    """Degrees below this have four samples or more to a wave: half the grid's Nyquist degree π/spacing."""
    return max(1, int(math.pi / (2 * grid.spacing)))
