r"""Icosahedral grid: recursive midpoints of an icosahedron, ordered by five rectangular charts.

Level r has N = 10 · 4^r + 2 points. With n = 2^r, chart k = 0…4 has closed lattice coordinates 0 ≤ i ≤ n, 0 ≤ j ≤ 2n with
corners north pole (0,0), U_k (n,0), U_{k+1} (0,n), L_k (n,n), L_{k+1} (0,2n), south pole (n,2n), where U_k lies at latitude
atan ½, longitude 72°k, and L_k at −atan ½, 72°k + 36°. A chart owns i = 1…n, j = 0…2n−1; points are stored chart by
chart, row by row, then the north pole, then the south pole. Lattice neighbours are (0,±1), (±1,0), (+1,−1), (−1,+1).
Areas are the spherical Voronoi cells', invariant under the 60 rotations, so degrees 1…5, 7, 8, 9, 11, 13, 14 integrate
exactly by symmetry.
Reference: Cohen, Weiler, Kicanaoglu & Welling 2019, arXiv 1902.04615 (charts).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids import _check
from spheregeo.grids.base import Grid, Symmetry
from spheregeo.grids.cache import by_value
from spheregeo.groups.finite import closure, icosahedral_generators


@dataclass(frozen=True)
class Icosahedral(Grid):
    """Points of a ``level`` times subdivided icosahedron.

    Args:
        level: number of subdivisions, 0 to 12.

    Shape: (10 · 4^level + 2,).
    Raises: TypeError, ValueError for a level that is not an integer from 0 to 12.

    Example:
        >>> from spheregeo.grids import Icosahedral
        >>> Icosahedral(2).shape
        (162,)
    """

    level: int

    def __post_init__(self) -> None:
        if _check.integer(self, "level", 0) > 12:
            raise ValueError(
                f"Icosahedral: level is {self.level}, expected at most 12 (that is 168 million points)"
            )

    @property
    def shape(self) -> tuple[int]:
        """(10 · 4^level + 2,)."""
        return (10 * 4**self.level + 2,)

    @property
    def side(self) -> int:
        """Rows n = 2^level of a chart; it has 2n columns."""
        return 1 << self.level

    @property
    def points(self) -> Tensor:
        """Unit vectors, chart by chart, then the poles. Shape: (N, 3)."""
        return self._points()

    @by_value
    def _points(self) -> Tensor:
        charts = _closed_charts(self.level)
        owned = charts[:, 1:, :-1].reshape(-1, 3)
        return torch.from_numpy(np.concatenate([owned, [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]]))

    # ---- the lattice

    @property
    def chart_index(self) -> Tensor:
        """Point at chart k, row i + 1, column j. Shape: (5, n, 2n) int64; a view of 0…N−3 that leaves out the poles."""
        n = self.side
        return torch.from_numpy(np.arange(10 * n * n).reshape(5, n, 2 * n))

    @property
    def closed_chart_index(self) -> Tensor:
        """Point at closed lattice coordinates (k, i, j), borders shared between charts. Shape: (5, n+1, 2n+1) int64."""
        return self._closed_chart_index()

    @by_value
    def _closed_chart_index(self) -> Tensor:
        n = self.side
        owned = self.chart_index
        closed = torch.full((5, n + 1, 2 * n + 1), -1)
        closed[:, 1:, :-1] = owned
        east = owned.roll(-1, dims=0)  # chart k + 1
        closed[:, 0, 1:n] = east[:, : n - 1, 0]  # (k; 0, j) is (k+1; j, 0) for 0 < j < n
        closed[:, 0, n:] = east[:, n - 1, : n + 1]  # (k; 0, j) is (k+1; n, j−n) for n ≤ j ≤ 2n
        closed[:, 1:n, 2 * n] = east[:, n - 1, n + 1 :]  # (k; i, 2n) is (k+1; n, n+i) for 0 < i < n
        closed[:, 0, 0] = self.num_points - 2
        closed[:, n, 2 * n] = self.num_points - 1
        return closed

    @property
    def faces(self) -> Tensor:
        """Triangles, counter-clockwise from outside. Shape: (20 n², 3) int64."""
        return self._faces()

    @by_value
    def _faces(self) -> Tensor:
        c = self.closed_chart_index
        here, south, east, far = c[:, :-1, :-1], c[:, 1:, :-1], c[:, :-1, 1:], c[:, 1:, 1:]
        pairs = torch.stack([torch.stack([here, south, east], -1), torch.stack([south, far, east], -1)], -2)
        return pairs.reshape(-1, 3)

    # ---- areas and symmetry

    @property
    def areas(self) -> Tensor:
        """Areas of the spherical Voronoi cells, summing to 4π. Shape: (N,)."""
        return self._areas()

    @by_value
    def _areas(self) -> Tensor:
        faces = self.faces.numpy()
        a, b, c = (self.points.numpy()[faces[:, k]] for k in range(3))
        centre = _unit(np.cross(b - a, c - a))  # circumcentre, where three Voronoi cells meet
        areas = np.zeros(self.num_points)
        for corner, (p, q) in enumerate(((a, b), (b, c), (c, a))):
            half = _triangle_area(p, _unit(p + q), centre)  # the share of p; that of q is its mirror image
            areas += np.bincount(faces[:, corner], half, self.num_points)
            areas += np.bincount(faces[:, (corner + 1) % 3], half, self.num_points)
        return torch.from_numpy(areas * (4 * np.pi / areas.sum()))

    @property
    def symmetry(self) -> Symmetry:
        """The 60 rotations of the icosahedron. Permutations take 480 N bytes."""
        return self._symmetry()

    @by_value
    def _symmetry(self) -> Symmetry:
        from scipy.spatial import cKDTree

        points = self.points.numpy()
        generators = icosahedral_generators()
        tree = cKDTree(points)
        moves = []
        for rotation in generators.numpy():
            distance, index = tree.query(points @ rotation.T)
            if distance.max() > 1e-12:
                raise RuntimeError(
                    f"{self!r} is off its symmetry by {distance.max():.1e}; please report this"
                )
            moves.append(torch.from_numpy(index.astype(np.int64)))
        rotations, steps = closure(generators)
        permutations = torch.empty(len(steps), self.num_points, dtype=torch.int64)
        permutations[0] = torch.arange(self.num_points)
        for g, (which, before) in enumerate(steps[1:], start=1):
            # first the earlier element moves the points, then the generator
            permutations[g] = moves[which][permutations[before]]
        return Symmetry(rotations, permutations)

    # ---- hierarchy

    def coarsen(self) -> Icosahedral:
        """One level up: every second row and column of each chart. Raises: ValueError at level 0."""
        if self.level == 0:
            raise ValueError(f"{self!r} cannot be coarsened: level 0 is the icosahedron itself")
        return replace(self, level=self.level - 1)

    def refine(self) -> Icosahedral:
        """One level down."""
        return replace(self, level=self.level + 1)

    def parents(self) -> Tensor:
        """Lattice point (⌈i/2⌉, ⌊j/2⌋) of the same chart: a point that stays is its own parent. Shape: (N,).

        A midpoint lies halfway between two coarse points; this rule takes one of them so that each coarse point but the
        poles has four children. It is not invariant under the 60 rotations: no choice of one parent is.
        Raises: ValueError at level 0.
        """
        coarse = self.coarsen()
        index = coarse.chart_index.numpy().repeat(2, axis=1).repeat(2, axis=2).ravel()
        return torch.from_numpy(np.append(index, [coarse.num_points - 2, coarse.num_points - 1]))

    def children(self) -> Tensor:
        """The point itself on the finer level, then three midpoints; a pole has none but itself. Shape: (N, 4), −1 padded."""
        fine = self.refine()
        n = self.side
        # (chart, row, which, column, which); of two fine rows the second is the coarse one, so it comes first
        blocks = fine.chart_index.numpy().reshape(5, n, 2, 2 * n, 2)[:, :, ::-1]
        quads = blocks.transpose(0, 1, 3, 2, 4).reshape(-1, 4)
        poles = np.full((2, 4), -1)
        poles[:, 0] = fine.num_points - 2, fine.num_points - 1
        return torch.from_numpy(np.concatenate([quads, poles]))


def _closed_charts(level: int) -> np.ndarray:
    """Positions on the closed lattice of each chart (5, n+1, 2n+1, 3), by recursive normalised midpoints."""
    latitude = math.atan(0.5)
    k = np.arange(6) * (2 * np.pi / 5)

    def ring(latitude: float, longitude: np.ndarray) -> np.ndarray:
        c = math.cos(latitude)
        return np.stack(
            [c * np.cos(longitude), c * np.sin(longitude), np.full(len(longitude), math.sin(latitude))], -1
        )

    upper, lower = ring(latitude, k), ring(-latitude, k + np.pi / 5)
    charts = np.empty((5, 2, 3, 3))
    charts[:, 0, 0], charts[:, 1, 2] = (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)
    charts[:, 1, 0], charts[:, 0, 1] = upper[:5], upper[1:]
    charts[:, 1, 1], charts[:, 0, 2] = lower[:5], lower[1:]
    for _ in range(level):
        _, rows, columns, _ = charts.shape
        fine = np.empty((5, 2 * rows - 1, 2 * columns - 1, 3))
        fine[:, ::2, ::2] = charts
        fine[:, 1::2, ::2] = _unit(charts[:, :-1] + charts[:, 1:])
        fine[:, ::2, 1::2] = _unit(charts[:, :, :-1] + charts[:, :, 1:])
        fine[:, 1::2, 1::2] = _unit(charts[:, 1:, :-1] + charts[:, :-1, 1:])
        charts = fine
    return charts


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _triangle_area(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Signed area of spherical triangles, tan(A/2) = a·(b×c) / (1 + a·b + b·c + c·a) (Van Oosterom & Strackee 1983).

    The triple product is taken of differences: for small triangles it loses no digits.
    """
    triple = np.einsum("ni,ni->n", a, np.cross(b - a, c - a))
    dots = np.einsum("ni,ni->n", a, b) + np.einsum("ni,ni->n", b, c) + np.einsum("ni,ni->n", c, a)
    return 2 * np.arctan2(triple, 1 + dots)
