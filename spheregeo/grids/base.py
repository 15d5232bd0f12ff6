r"""What a grid is: where samples sit, how much area each stands for, and which way its axes point.

A point with colatitude θ ∈ [0, π] from +z and longitude φ ∈ [0, 2π) from +x towards +y is
p = (sin θ cos φ, sin θ sin φ, cos θ); its frame is e_θ (south) and e_φ (east), with e_θ × e_φ = p. At a pole the
frame is the limit along the point's own longitude: zero where a grid knows none, the column's on a lat-lon grid, so
that turning a lat-lon grid by one column turns its polar frames too.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids.cache import by_value


@dataclass(frozen=True, eq=False)
class LatitudeRings:
    """Rings of equal colatitude, north to south, each with equidistant points going east.

    Args:
        colatitude: (R,) colatitude of each ring.
        length: (R,) number of points of each ring.
        start: (R,) flat index of each ring's first point.
        phase: (R,) longitude of each ring's first point, in [0, 2π).

    Shape: all (R,); ``length`` and ``start`` int64, the others float64.
    Units: radians.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> HEALPix(2).rings.length.tolist()
        [4, 8, 8, 8, 8, 8, 4]
    """

    colatitude: Tensor
    length: Tensor
    start: Tensor
    phase: Tensor


@dataclass(frozen=True, eq=False)
class Symmetry:
    """Finite rotations that permute a grid's points: ``rotations[g] @ points[i] == points[permutations[g, i]]``.

    Args:
        rotations: (G, 3, 3) rotation matrices, the identity first.
        permutations: (G, N) index of the point to which each point goes.

    Shape: rotations (G, 3, 3) float64, permutations (G, N) int64; element 0 is the identity.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> HEALPix(2).symmetry.rotations.shape
        torch.Size([8, 3, 3])
    """

    rotations: Tensor
    permutations: Tensor


def frames_from_angles(
    cos_theta: np.ndarray, sin_theta: np.ndarray, cos_phi: np.ndarray, sin_phi: np.ndarray
) -> np.ndarray:
    """Frames (…, 2, 3) = (e_θ, e_φ) from cosines and sines of the angles, broadcast together."""
    shape = np.broadcast_shapes(cos_theta.shape, cos_phi.shape)
    frames = np.zeros((*shape, 2, 3))
    frames[..., 0, 0] = cos_theta * cos_phi
    frames[..., 0, 1] = cos_theta * sin_phi
    frames[..., 0, 2] = -sin_theta
    frames[..., 1, 0] = -sin_phi
    frames[..., 1, 1] = cos_phi
    return frames


def frames_of(points: Tensor) -> Tensor:
    """Frames (e_θ, e_φ) of unit vectors; at a pole those of longitude zero.

    Shape: points (..., 3) -> (..., 2, 3), float64.
    """
    p = points.detach().to("cpu", torch.float64).numpy()
    radius = np.hypot(p[..., 0], p[..., 1])
    pole = radius < 1e-15  # below this, x and y are rounding errors of sin(pi), not directions
    safe = np.where(pole, 1.0, radius)
    cos_phi = np.where(pole, 1.0, p[..., 0] / safe)
    sin_phi = np.where(pole, 0.0, p[..., 1] / safe)
    cos_theta = np.where(pole, np.sign(p[..., 2]), p[..., 2])
    return torch.from_numpy(frames_from_angles(cos_theta, np.where(pole, 0.0, radius), cos_phi, sin_phi))


class Grid(ABC):
    """Sample points with areas and frames. Frozen, hashable by value; ``eval(repr(grid)) == grid``.

    Tensors are float64 on the CPU, computed when first asked for and shared by all equal grids: do not modify them.
    Fields on a grid are (batch, channel, *grid.shape).

    Example:
        >>> from spheregeo.grids import Equiangular
        >>> Equiangular(8, 16).points.shape
        torch.Size([128, 3])
    """

    is_sphere: ClassVar[bool] = True

    # ---- what every kind of grid defines

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Trailing axes of a field on this grid."""

    @property
    @abstractmethod
    def points(self) -> Tensor:
        """Positions, unit vectors on a sphere. Shape: (N, 3)."""

    @property
    @abstractmethod
    def areas(self) -> Tensor:
        """Quadrature weights: Σ areas · f ≈ ∫ f. Shape: (N,). Units: steradians, summing to 4π on a sphere."""

    # ---- what follows from those

    @property
    def num_points(self) -> int:
        """Number of points N, the product of ``shape``."""
        return math.prod(self.shape)

    @property
    def frames(self) -> Tensor:
        """Right-handed tangent frames (e_θ, e_φ) = (south, east). Shape: (N, 2, 3)."""
        return self._frames()

    @by_value
    def _frames(self) -> Tensor:
        return frames_of(self.points)

    @property
    def normals(self) -> Tensor:
        """Outward unit normals e_θ × e_φ: on a sphere the points themselves. Shape: (N, 3)."""
        return self.points

    @property
    def colatitude(self) -> Tensor:
        """Angle from +z. Shape: (N,). Units: radians in [0, π]."""
        return self._angles()[0]

    @property
    def longitude(self) -> Tensor:
        """Angle from +x towards +y, zero at a pole. Shape: (N,). Units: radians in [0, 2π)."""
        return self._angles()[1]

    @by_value
    def _angles(self) -> tuple[Tensor, Tensor]:
        x, y, z = self.points.numpy().T
        radius = np.hypot(x, y)
        longitude = np.where(radius < 1e-15, 0.0, wrap(np.arctan2(y, x)))
        return torch.from_numpy(np.arctan2(radius, z)), torch.from_numpy(longitude)

    @property
    def spacing(self) -> float:
        """Nominal distance between neighbours, √(4π/N) unless a grid says otherwise. Units: radians."""
        return math.sqrt(4 * math.pi / self.num_points)

    @property
    def rings(self) -> LatitudeRings | None:
        """Rings of equal colatitude, where points are stored ring by ring; else None."""
        return None

    @property
    def symmetry(self) -> Symmetry | None:
        """Finite rotations that permute the points, where a grid has listed ones; else None."""
        return None

    # ---- hierarchy

    def coarsen(self) -> Grid:
        """The grid one level coarser, a quarter of the points. Raises: ValueError where there is none."""
        raise ValueError(f"{self!s} has no coarser level; resample to a grid of your choice instead")

    def refine(self) -> Grid:
        """The grid one level finer, four times the points. Raises: ValueError where there is none."""
        raise ValueError(f"{self!s} has no finer level; resample to a grid of your choice instead")

    def parents(self) -> Tensor:
        """Index into ``coarsen()`` of each point's parent. Shape: (N,) int64. Raises: ValueError where not nested."""
        raise ValueError(f"the levels of {self!s} are not nested; use sampling.resample in place of pooling")

    def children(self) -> Tensor:
        """Indices into ``refine()`` of each point's children, padded by -1. Shape: (N, n) int64.

        Raises: ValueError where the levels are not nested.
        """
        raise ValueError(
            f"the levels of {self!s} are not nested; use sampling.resample in place of unpooling"
        )


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angles brought to [0, 2π)."""
    wrapped = np.mod(angle, 2 * np.pi)
    return np.where(wrapped >= 2 * np.pi, 0.0, wrapped)  # mod(-1e-17, 2 pi) rounds to 2 pi itself


def block_parents(height: int, width: int) -> Tensor:
    """Flat index of the 2×2 block of each pixel. Shape: (height · width,)."""
    rows, columns = np.arange(height) // 2, np.arange(width) // 2
    return torch.from_numpy((rows[:, None] * (width // 2) + columns).reshape(-1))


def block_children(height: int, width: int) -> Tensor:
    """Flat indices, on a grid of twice the size, of the four pixels in each block. Shape: (height · width, 4)."""
    corner = 2 * np.arange(height)[:, None] * (2 * width) + 2 * np.arange(width)
    return torch.from_numpy(corner.reshape(-1, 1) + np.array([0, 1, 2 * width, 2 * width + 1]))
