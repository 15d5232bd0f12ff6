r"""Latitude–longitude grids: equiangular with or without pole rows, and Gauss–Legendre.

Row i lies at colatitude θ_i, north first; column j at longitude φ_j = 2π (j + offset) / nlon. A point's area is the
latitude rule's weight times 2π/nlon: Σ areas · Y_lm is exact for degrees below ``nlat`` (``2 nlat`` on Gauss–Legendre)
and orders |m| < nlon.
Reference: Fejér 1933; Clenshaw & Curtis 1960; Driscoll & Healy 1994 (the shifted rule is Fejér's first).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids import _check
from spheregeo.grids.base import Grid, LatitudeRings, block_children, block_parents, frames_from_angles, wrap
from spheregeo.grids.cache import by_value
from spheregeo.harmonics.quadrature import clenshaw_curtis, fejer1, gauss_legendre


@dataclass(frozen=True)
class LatLon(Grid):
    """Rows of equal colatitude, columns of equal longitude.

    Args:
        nlat: number of rows.
        nlon: number of columns.
        offset: longitude of the first column, in columns.

    Shape: (nlat, nlon), row 0 in the north.
    Units: ``offset`` is the first column's longitude, in columns: φ_j = 2π (j + offset)/nlon. Halves and quarters of a
    column stay exact there, so ``refine`` undoes ``coarsen`` to the bit. A panorama photo, whose first column is centred
    half a pixel after −π, has offset (1 − nlon)/2.
    Raises: TypeError, ValueError for sizes that are not integers of at least 2.

    Example:
        >>> from spheregeo.grids import GaussLegendre, LatLon
        >>> isinstance(GaussLegendre(8, 16), LatLon)
        True
    """

    nlat: int
    nlon: int
    offset: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        _check.integer(self, "nlat", 2)
        _check.integer(self, "nlon", 2)
        _check.number(self, "offset")

    @abstractmethod
    def _rule(self) -> tuple[Tensor, Tensor]:
        """Colatitudes and weights (sum 2) of the rows."""

    # ---- one entry per row or column: cheap at any size

    @property
    def shape(self) -> tuple[int, int]:
        """(nlat, nlon)."""
        return self.nlat, self.nlon

    @property
    def colatitudes(self) -> Tensor:
        """Colatitude of each row. Shape: (nlat,)."""
        return self._cached_rule()[0]

    @property
    def longitudes(self) -> Tensor:
        """Longitude of each column, in [0, 2π). Shape: (nlon,)."""
        return torch.from_numpy(wrap(self._column_angles()))

    @property
    def row_areas(self) -> Tensor:
        """Area of one point of each row; ``areas`` is this, repeated nlon times. Shape: (nlat,). Units: steradians."""
        return self._cached_rule()[1] * (2 * math.pi / self.nlon)

    @by_value
    def _cached_rule(self) -> tuple[Tensor, Tensor]:
        return self._rule()

    def _column_angles(self) -> np.ndarray:
        # wrapped while still exact: small angles then have small errors
        columns = np.mod(np.arange(self.nlon) + self.offset, self.nlon)
        return 2 * np.pi * columns / self.nlon

    @property
    def rings(self) -> LatitudeRings:
        """The rows."""
        return self._rings()

    @by_value
    def _rings(self) -> LatitudeRings:
        start = torch.arange(self.nlat) * self.nlon
        phase = self.longitudes[:1].expand(self.nlat).clone()
        return LatitudeRings(self.colatitudes, torch.full((self.nlat,), self.nlon), start, phase)

    # ---- one entry per point: built when asked for

    @property
    def points(self) -> Tensor:
        """Unit vectors, row by row. Shape: (nlat · nlon, 3)."""
        return self._points()

    @by_value
    def _points(self) -> Tensor:
        cos_theta, sin_theta, cos_phi, sin_phi = self._cosines()
        points = np.empty((self.nlat, self.nlon, 3))
        np.multiply(sin_theta, cos_phi, out=points[..., 0])
        np.multiply(sin_theta, sin_phi, out=points[..., 1])
        points[..., 2] = cos_theta
        return torch.from_numpy(points.reshape(-1, 3))

    @property
    def areas(self) -> Tensor:
        """Quadrature weights, summing to 4π. Shape: (nlat · nlon,)."""
        return self._areas()

    @by_value
    def _areas(self) -> Tensor:
        return self.row_areas.repeat_interleave(self.nlon)

    @by_value
    def _frames(self) -> Tensor:
        return torch.from_numpy(frames_from_angles(*self._cosines()).reshape(-1, 2, 3))

    @by_value
    def _angles(self) -> tuple[Tensor, Tensor]:
        return self.colatitudes.repeat_interleave(self.nlon), self.longitudes.repeat(self.nlat)

    def _cosines(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """cos θ, sin θ (nlat, 1) and cos φ, sin φ (1, nlon); mirror-symmetric, with sin θ = 0 exactly at a pole."""
        theta = self.colatitudes.numpy()
        cos_theta, sin_theta = np.cos(theta), np.sin(theta)
        sin_theta[(theta == 0) | (theta == np.pi)] = 0.0
        cos_theta, sin_theta = (cos_theta - cos_theta[::-1]) / 2, (sin_theta + sin_theta[::-1]) / 2
        phi = self._column_angles()
        return cos_theta[:, None], sin_theta[:, None], np.cos(phi)[None], np.sin(phi)[None]

    # ---- hierarchy: blocks of two rows and two columns, whose centre is the coarse point's

    @property
    def spacing(self) -> float:
        """π/nlat. Units: radians."""
        return math.pi / self.nlat

    def coarsen(self) -> LatLon:
        """Half the rows and columns. Coarse columns sit in the middle of their two fine ones: the offset changes with them.

        Raises: ValueError where a size is odd or would fall below 2.
        """
        for name, size in (("nlat", self.nlat), ("nlon", self.nlon)):
            if size % 2 or size < 4:
                raise ValueError(
                    f"{self!r} cannot be coarsened: {name} is {size}, expected an even number from 4"
                )
        return replace(self, nlat=self.nlat // 2, nlon=self.nlon // 2, offset=(self.offset + 0.5) / 2)

    def refine(self) -> LatLon:
        """Twice the rows and columns; ``coarsen()`` of the result is this grid."""
        return replace(self, nlat=2 * self.nlat, nlon=2 * self.nlon, offset=2 * self.offset - 0.5)

    def parents(self) -> Tensor:
        """Index of each point's 2×2 block. Shape: (N,). On Gauss–Legendre the blocks' centres are approximate in latitude."""
        self.coarsen()  # raises where there is no coarser grid
        return block_parents(self.nlat, self.nlon)

    def children(self) -> Tensor:
        """The four points of each point's 2×2 block one level down. Shape: (N, 4)."""
        return block_children(self.nlat, self.nlon)


@dataclass(frozen=True)
class Equiangular(LatLon):
    """Equidistant colatitudes: cell centres θ_i = (i + ½)π/nlat, or with pole rows θ_i = iπ/(nlat − 1).

    Weights are Fejér's first rule for centres, Clenshaw–Curtis with poles; both are exact for degrees below nlat.

    Args:
        nlat: number of rows.
        nlon: number of columns.
        offset: longitude of the first column, in columns.
        poles: whether the first and last row lie at the poles.

    Example:
        >>> from spheregeo.grids import Equiangular
        >>> Equiangular(8, 16, poles=True).colatitudes[0].item()
        0.0
    """

    poles: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.poles, (bool, np.bool_)):
            raise TypeError(f"Equiangular: poles must be True or False, got {self.poles!r}")
        object.__setattr__(self, "poles", bool(self.poles))

    def _rule(self) -> tuple[Tensor, Tensor]:
        return clenshaw_curtis(self.nlat) if self.poles else fejer1(self.nlat)

    @property
    def spacing(self) -> float:
        """π/nlat between cell centres, π/(nlat − 1) with pole rows. Units: radians."""
        return math.pi / (self.nlat - 1 if self.poles else self.nlat)

    def coarsen(self) -> LatLon:
        """Half the rows and columns; with pole rows every second row and column (nlat odd).

        Raises: ValueError where the sizes do not allow it.
        """
        if not self.poles:
            return super().coarsen()
        if self.nlat % 2 == 0 or self.nlat < 5 or self.nlon % 2 or self.nlon < 4:
            raise ValueError(
                f"{self!r} cannot be coarsened: with poles nlat must be odd from 5 and nlon even from 4"
            )
        return replace(self, nlat=(self.nlat + 1) // 2, nlon=self.nlon // 2, offset=self.offset / 2)

    def refine(self) -> LatLon:
        """Twice the rows and columns; with pole rows, rows and columns in between are added (2 nlat − 1 rows)."""
        if not self.poles:
            return super().refine()
        return replace(self, nlat=2 * self.nlat - 1, nlon=2 * self.nlon, offset=2 * self.offset)

    def parents(self) -> Tensor:
        """Index of each point's 2×2 block. Shape: (N,). Raises: ValueError with pole rows, which form no blocks."""
        return Grid.parents(self) if self.poles else super().parents()

    def children(self) -> Tensor:
        """The four points of each point's block. Shape: (N, 4). Raises: ValueError with pole rows."""
        return Grid.children(self) if self.poles else super().children()


@dataclass(frozen=True)
class GaussLegendre(LatLon):
    """Colatitudes at the roots of the Legendre polynomial P_nlat: exact for degrees below 2 nlat, no point at a pole.

    Args:
        nlat: number of rows.
        nlon: number of columns.
        offset: longitude of the first column, in columns.

    Example:
        >>> from spheregeo.grids import GaussLegendre
        >>> GaussLegendre(8, 16).shape
        (8, 16)
    """

    def _rule(self) -> tuple[Tensor, Tensor]:
        return gauss_legendre(self.nlat)
