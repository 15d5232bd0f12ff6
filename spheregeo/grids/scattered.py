r"""Scattered points on the sphere, each standing for its spherical Voronoi cell.

Reference: Caroli et al. 2009, "Robust and efficient Delaunay triangulations of points on or close to a sphere";
areas by ``scipy.spatial.SphericalVoronoi``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids.base import Grid
from spheregeo.grids.cache import by_value

UNIT = 1e-5  # float32 rounding of a unit vector stays well below; a wrong unit does not
APART = 1e-9  # radians: closer points are duplicates


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Scattered(Grid):
    """Any distinct unit vectors; areas are their spherical Voronoi cells' unless given.

    Points off the unit sphere by rounding are normalised. Two grids are equal when their points and given areas are, to
    the bit. Given areas are used as they are (they need not sum to 4π: a partial sky may say what it covers).

    Args:
        points: (N, 3) unit vectors.
        areas: (N,) area of each point's cell; None for the areas of Voronoi cells.

    Shape: points (N, 3); areas (N,) or None. Units: steradians.
    Raises: ValueError for points that are not finite, not unit vectors or not distinct, for fewer than 4 points without
    areas, and for areas of the wrong shape, negative or not finite.

    Example:
        >>> from spheregeo.grids import Fibonacci, Scattered
        >>> Scattered(Fibonacci(50).points).shape
        (50,)
    """

    _positions: Tensor
    _given: Tensor | None
    _digest: str

    def __init__(self, points: Any, areas: Any = None) -> None:
        positions = _validated(points)
        given = None if areas is None else _validated_areas(areas, len(positions))
        if given is None and len(positions) < 4:
            raise ValueError(
                f"Scattered: {len(positions)} points have no Voronoi cells, 4 are needed; pass areas="
            )
        digest = hashlib.sha256(positions.tobytes())
        digest.update(b"" if given is None else b"areas" + given.tobytes())
        object.__setattr__(self, "_positions", torch.from_numpy(positions))
        object.__setattr__(self, "_given", None if given is None else torch.from_numpy(given))
        object.__setattr__(self, "_digest", digest.hexdigest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scattered) and other._digest == self._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        areas = "" if self._given is None else f", areas={self._given.tolist()}"
        return f"Scattered(points={self._positions.tolist()}{areas})"

    def __str__(self) -> str:
        return f"Scattered({self.num_points} points, sha256 {self._digest[:8]})"

    @property
    def shape(self) -> tuple[int]:
        """(N,)."""
        return (len(self._positions),)

    @property
    def points(self) -> Tensor:
        """Unit vectors. Shape: (N, 3)."""
        return self._positions

    @property
    def areas(self) -> Tensor:
        """Areas given, or those of the spherical Voronoi cells (which sum to 4π). Shape: (N,)."""
        return self._voronoi_areas() if self._given is None else self._given

    @by_value
    def _voronoi_areas(self) -> Tensor:
        from scipy.spatial import QhullError, SphericalVoronoi

        try:
            areas = SphericalVoronoi(self._positions.numpy(), threshold=APART).calculate_areas()
        except (ValueError, QhullError) as error:
            raise ValueError(
                f"{self!s} has no spherical Voronoi cells (do all points lie in one plane?); pass areas="
            ) from error
        return torch.from_numpy(areas * (4 * np.pi / areas.sum()))


def _validated(points: Any) -> np.ndarray:
    if isinstance(points, Tensor):
        points = points.detach().cpu().numpy()
    try:
        # a copy: later changes by the caller must not reach the grid
        array = np.array(points, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise ValueError(f"Scattered: points must be an (N, 3) array of numbers: {error}") from error
    if array.ndim != 2 or array.shape[1] != 3 or len(array) == 0:
        raise ValueError(f"Scattered: points has shape {array.shape}, expected (N, 3) with N at least 1")
    finite = np.isfinite(array).all(1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(
            f"Scattered: {len(bad)} points are NaN or infinite, the first at index {bad[0]}; drop them"
        )
    norm = np.linalg.norm(array, axis=1)
    off = np.abs(norm - 1)
    if off.max() > UNIT:
        worst = int(off.argmax())
        raise ValueError(
            f"Scattered: points[{worst}] has length {norm[worst]:.6g}, expected unit vectors; divide points by their norm"
        )
    # not all: normalising exact vectors again could change their last bit, and so the grid's value
    inexact = off > 1e-14
    array[inexact] /= norm[inexact, None]
    _check_distinct(array)
    return array


def _check_distinct(array: np.ndarray) -> None:
    from scipy.spatial import cKDTree

    if len(array) < 2:
        return
    distance, index = cKDTree(array).query(array, k=2)
    same = np.flatnonzero(distance[:, 1] < APART)
    if len(same):
        first = int(same[0])
        other = int(next(i for i in index[first] if i != first))
        raise ValueError(
            f"Scattered: points[{first}] and points[{other}] coincide ({len(same)} points have a double); "
            "keep one of each, e.g. average their values"
        )


def _validated_areas(areas: Any, count: int) -> np.ndarray:
    if isinstance(areas, Tensor):
        areas = areas.detach().cpu().numpy()
    array = np.array(areas, dtype=np.float64, order="C")
    if array.shape != (count,):
        raise ValueError(f"Scattered: areas has shape {array.shape}, expected ({count},), one per point")
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError("Scattered: areas must be finite and not negative")
    return array
