"""Spherical harmonic transforms between fields on a grid and coefficients of real orthonormal harmonics."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count
from spheregeo.grids import HEALPix
from spheregeo.grids.base import Grid
from spheregeo.grids.cache import geometry
from spheregeo.spectral.engines import check_engine
from spheregeo.spectral.plans import Plan, kept_bytes, rings_of, transformed
from spheregeo.spectral.stages.points import harmonics_at
from spheregeo.spectral.stages.quadrature import check_lmax, resolved_degree

DENSE = 1 << 29  # most bytes of a matrix of harmonics, where a grid has no rings


class _Transform(nn.Module):
    """A grid, a largest degree and a spin, and the linear maps between them."""

    _matrix: Tensor  # of grids without rings

    def __init__(self, grid: Grid, lmax: int, spin: int, engine: str | None) -> None:
        super().__init__()
        if not isinstance(grid, Grid) or not grid.is_sphere:
            raise TypeError(f"grid is {grid!r}; expected a grid of spheregeo.grids on the sphere")
        self.grid, self.lmax = grid, check_count("lmax", lmax, 0)
        self.spin, self.engine = check_count("spin", spin, 0), check_engine(engine)
        self._rings = rings_of(grid) is not None
        self._plan = ""
        self._parts = (2,) if self.spin else ()
        if not self._rings:
            size = 8 * math.prod(self._field) * math.prod(self._coefficients)
            if size > DENSE:
                raise ValueError(
                    f"lmax is {lmax} on {grid!s}, which has no rings of latitude: its matrix of harmonics would take "
                    f"{size >> 20} MiB; expected at most {DENSE >> 20} MiB"
                )

    @property
    def _field(self) -> tuple[int, ...]:
        return (*self._parts, *self.grid.shape)

    @property
    def _coefficients(self) -> tuple[int, ...]:
        return (*self._parts, (self.lmax + 1) ** 2)

    def _map(
        self,
        x: Tensor,
        name: str,
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
        rule: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """A linear map of the trailing axes, from one shape to the other, in the input's type."""
        before, after = shapes
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} is {type(x).__name__}; expected a tensor")
        if x.ndim < len(before) or x.shape[x.ndim - len(before) :] != before:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; expected (..., {', '.join(map(str, before))}) for lmax "
                f"{self.lmax}, spin {self.spin} on {self.grid!s}"
            )
        if x.is_complex():
            return torch.complex(self._map(x.real, name, shapes, rule), self._map(x.imag, name, shapes, rule))
        if not x.is_floating_point():
            raise TypeError(f"{name} is {x.dtype}; expected floating or complex numbers")
        wide = x.dtype if x.dtype == torch.float64 else torch.float32
        with torch.autocast(x.device.type, enabled=False):
            y = rule(x.reshape(-1, math.prod(before)).to(wide))
        return y.view(*x.shape[: x.ndim - len(before)], *after).to(x.dtype)

    def _exact(self) -> Tensor:
        """The matrix of a transform on a grid without rings, in float64."""
        return self._harmonics()

    def _apply(self, *args: Any, **options: Any) -> Any:
        """Matrices stay in float64, whatever the module's type becomes."""
        moved = super()._apply(*args, **options)
        if not self._rings:
            self._matrix = self._exact().to(self._matrix.device)
        return moved

    def _apply_map(self, transpose: bool, x: Tensor) -> Tensor:
        if self._rings:
            return transformed(x, self._plan, transpose)
        matrix = self._matrix.to(x.dtype)
        return x @ (matrix if transpose else matrix.T)

    def _harmonics(self) -> Tensor:
        """The matrix of the synthesis, for grids without rings. Shape: (field, coefficients)."""

        def compute() -> Tensor:
            made = harmonics_at(self.grid.colatitude, self.grid.longitude, self.lmax, self.spin)
            return made.view(math.prod(self._field), math.prod(self._coefficients))

        return geometry.get(("harmonics", self.grid, self.lmax, self.spin), compute)

    def memory_bytes(self) -> int:
        """Bytes that the transform keeps for float32: matrices, index lists, the portable engine's Legendre functions.

        Functions are shared by all transforms on the same rings with equal ``lmax`` and ``spin``.
        """
        own = sum(b.numel() * b.element_size() for b in self.buffers())
        return own + (kept_bytes(self._plan) if self._rings else 0)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.grid!s}, lmax={self.lmax}" + (f", spin={self.spin}" if self.spin else "")


class InverseSHT(_Transform):
    """Synthesis: the field on a grid whose coefficients of real orthonormal harmonics are given.

    Args:
        grid: where the field is evaluated.
        lmax: largest degree.
        spin: order of the tangent field; 0 for scalars.
        engine: who evaluates the Legendre stage, see :mod:`spheregeo.spectral.engines`; None for the fastest there is.

    Shape: (..., (lmax + 1)²) -> (..., *grid.shape), index l² + l + m; for spin s ≠ 0 (..., 2, (lmax + 1)²), gradient and curl
        coefficients, -> (..., 2, *grid.shape), components along south and east. Coefficients below degree s are without effect.
        Complex coefficients give complex fields.
    Equivariance: exact.
    Raises: TypeError, ValueError for another grid, degree or spin than these, an engine that does not run, other shapes;
        ValueError on grids without rings of latitude where the matrix of harmonics would exceed 512 MiB.
    Reference: healpy's ``alm2map`` and ``alm2map_spin``, with E = gradient and B = −curl.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre
        >>> from spheregeo.spectral import InverseSHT
        >>> InverseSHT(GaussLegendre(9, 18), 8)(torch.randn(2, 81)).shape
        torch.Size([2, 9, 18])
    """

    def __init__(self, grid: Grid, lmax: int, spin: int = 0, *, engine: str | None = None) -> None:
        super().__init__(grid, lmax, spin, engine)
        if self._rings:
            self._plan = Plan("synthesis", repr(grid), self.lmax, self.spin, self.engine).text
        else:
            self.register_buffer("_matrix", self._exact(), persistent=False)

    def forward(self, coefficients: Tensor) -> Tensor:
        """The field with these coefficients."""
        return self._map(
            coefficients, "coefficients", (self._coefficients, self._field), partial(self._apply_map, False)
        )

    def adjoint(self, x: Tensor) -> Tensor:
        """The transpose of the synthesis: sums over points, without weights. Shape: that of a field -> coefficients."""
        return self._map(x, "x", (self._field, self._coefficients), partial(self._apply_map, True))


class SHT(_Transform):
    """Analysis: the coefficients of a field on a grid.

    Exact for fields of degrees to ``lmax`` on lat-lon grids: on Gauss–Legendre grids from nlat = lmax + 1 rows, on equidistant
    rows from lmax + 1 (lmax + 2 with poles), where fields are continued over the poles if 2 lmax + 1 rows are not there, and
    from nlon = 2 lmax + 1 columns. On HEALPix quadrature is approximate, and iterations c ← c + A(x − S c) mend it: for lmax =
    2 nside the error of white coefficients is 1e-2, 1e-3, 1e-4 and 1e-5 of the largest after 0 … 3. Elsewhere coefficients are
    those of least squares with the grid's areas as weights, exact for fields of degrees to ``lmax``.

    Args:
        grid: where the field is given.
        lmax: largest degree.
        spin: order of the tangent field; 0 for scalars.
        iterations: of the analysis on HEALPix; without meaning on other grids.
        weights: "grid" for the grid's own quadrature; "ring" for factors on HEALPix rings, the nearest to one that integrate
            zonal degrees to min(2 lmax, 3 nside) exactly: for lmax ≤ 1.5 nside an iteration then gains three digits in place of
            one and a half.
        engine: who evaluates the Legendre stage, see :mod:`spheregeo.spectral.engines`; None for the fastest there is.

    Shape: (..., *grid.shape) -> (..., (lmax + 1)²), index l² + l + m; with spin as :class:`InverseSHT`.
    Equivariance: exact where the analysis is.
    Raises: TypeError, ValueError for other arguments and shapes; ValueError for an ``lmax`` that the grid does not determine (on
        HEALPix from 3 nside on, where iterations stall).
    Reference: Driscoll & Healy 1994; healpy's ``map2alm`` with the same number of iterations.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre
        >>> from spheregeo.spectral import SHT
        >>> SHT(GaussLegendre(9, 18), 8)(torch.randn(2, 9, 18)).shape
        torch.Size([2, 81])
    """

    def __init__(
        self,
        grid: Grid,
        lmax: int,
        spin: int = 0,
        *,
        iterations: int = 3,
        weights: str = "grid",
        engine: str | None = None,
    ) -> None:
        super().__init__(grid, lmax, spin, engine)
        self.iterations = check_count("iterations", iterations, 0)
        self.weights = weights
        healpix = isinstance(grid, HEALPix)
        if weights not in ("grid", "ring") or (weights == "ring" and not healpix):
            raise ValueError(f"weights is {weights!r} on {grid!s}; expected 'grid', or 'ring' on HEALPix")
        if self._rings:
            check_lmax(grid, self.lmax)
            rounds = self.iterations if healpix else 0
            self._plan = Plan("analysis", repr(grid), self.lmax, self.spin, self.engine, rounds, weights).text
        else:
            self.register_buffer("_matrix", self._exact(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The field's coefficients."""
        return self._map(x, "x", (self._field, self._coefficients), partial(self._apply_map, False))

    def adjoint(self, coefficients: Tensor) -> Tensor:
        """The transpose of the analysis. Shape: that of coefficients -> field."""
        return self._map(
            coefficients, "coefficients", (self._coefficients, self._field), partial(self._apply_map, True)
        )

    def _exact(self) -> Tensor:
        """The analysis by least squares, (coefficients, field). Raises: ValueError where points do not determine coefficients."""

        def compute() -> Tensor:
            root = self.grid.areas.sqrt().repeat(2 if self.spin else 1)
            low = self.spin**2
            kept = torch.ones(self._coefficients, dtype=torch.bool)
            kept[..., :low] = False
            kept = kept.view(-1)
            harmonics = self._harmonics()[:, kept] * root[:, None]
            singular = torch.linalg.svdvals(harmonics) if len(harmonics) >= harmonics.shape[1] else None
            if singular is not None and harmonics.shape[1] == 0:
                singular = torch.ones(1)
            if singular is None or singular[-1] < 1e-6 * singular[0]:
                raise ValueError(
                    f"lmax is {self.lmax} on {self.grid!s}: its {self.grid.num_points} points do not determine "
                    f"{int(kept.sum())} coefficients; expected a smaller lmax"
                )
            inverse = root.new_zeros(len(kept), len(root))
            inverse[kept] = torch.linalg.pinv(harmonics) * root
            return inverse

        return geometry.get(("least squares", self.grid, self.lmax, self.spin), compute)


def harmonic_resample(
    x: Tensor, source: Grid, target: Grid, lmax: int | None = None, spin: int = 0
) -> Tensor:
    """A field on another grid through its harmonics: analysis on the source, synthesis on the target.

    Args:
        x: field on the source grid.
        source: the grid x is on.
        target: the grid wanted.
        lmax: largest degree; None for the largest that both grids resolve (:func:`resolved_degree`), so that a coarser grid
            holds no aliases. Details beyond are lost.
        spin: order of the tangent field; 0 for scalars.

    Shape: (..., *source.shape) -> (..., *target.shape); with a spin (..., 2, *source.shape) -> (..., 2, *target.shape).
    Units: those of x.
    Equivariance: exact for fields of degrees to ``lmax`` where the source's analysis is.
    Raises: as :class:`SHT`.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre, HEALPix
        >>> harmonic_resample(torch.randn(8, 16), GaussLegendre(8, 16), HEALPix(4)).shape
        torch.Size([192])
    """
    if lmax is None:
        lmax = max(min(resolved_degree(source), resolved_degree(target, "synthesis")), spin)
    coefficients = SHT(source, lmax, spin)(x)
    if rings_of(target) is not None:
        return InverseSHT(target, lmax, spin)(coefficients)
    # points one block after another: no matrix of all harmonics at all points
    parts = 2 if spin else 1
    flat = coefficients.flatten(coefficients.ndim - (2 if spin else 1))
    block = max(1, DENSE // (8 * parts * flat.shape[-1] * parts * 4))
    found = []
    wide = flat.float() if flat.dtype in (torch.float16, torch.bfloat16) else flat
    for theta, phi in zip(target.colatitude.split(block), target.longitude.split(block), strict=True):
        harmonics = harmonics_at(theta, phi, lmax, spin).reshape(-1, flat.shape[-1]).to(wide)
        with torch.autocast(x.device.type, enabled=False):
            found.append((wide @ harmonics.T).unflatten(-1, (parts, len(theta))))
    values = torch.cat(found, -1).to(flat.dtype)
    return values if spin else values.squeeze(-2)
