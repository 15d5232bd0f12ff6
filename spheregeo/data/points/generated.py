"""Generated clouds: points drawn from the surfaces of bent primitives, the default of the point recipes; no download.

The shapes are those of the generated meshes. They stand upright (z against gravity), so that a protocol of turns means what it
means for real things; a cloud depends on (seed, split, index) alone.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from spheregeo.data.common import SPLITS, check_split
from spheregeo.data.meshes.shapes import SHAPE_CLASSES, bend, primitives
from spheregeo.data.points.dataset import Cloud, PointDataset
from spheregeo.data.points.files import sample_surface

__all__ = ["PrimitiveClouds"]

FINENESS = 48  # columns of a parameter grid: facets are then far finer than the points' distance


def _quads(rows: int, columns: int, wrap_rows: bool) -> np.ndarray:
    """Triangles of a grid of parameters whose columns close to a ring, and perhaps its rows too. Shape: (F, 3)."""
    row, column = np.meshgrid(np.arange(rows if wrap_rows else rows - 1), np.arange(columns), indexing="ij")
    a = row * columns + column
    b = row * columns + (column + 1) % columns
    c = (row + 1) % rows * columns + (column + 1) % columns
    d = (row + 1) % rows * columns + column
    return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])


@cache
def domain(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and triangles of the domain of a primitive: "sphere" (unit vectors), "torus" (unit square), "disc"."""
    if name == "sphere":
        import trimesh

        ball = trimesh.creation.icosphere(subdivisions=4)
        return np.asarray(ball.vertices, np.float64), np.asarray(ball.faces)
    n = FINENESS
    if name == "torus":
        along = 3 * n  # a tube is longer than round
        u, v = np.meshgrid(np.arange(along) / along, np.arange(n) / n, indexing="ij")
        return np.stack([u.ravel(), v.ravel()], 1), _quads(along, n, wrap_rows=True)
    radius, angle = np.meshgrid(
        np.arange(n // 2 + 1) / (n // 2), 2 * np.pi * np.arange(2 * n) / (2 * n), indexing="ij"
    )
    return np.stack([(radius * np.cos(angle)).ravel(), (radius * np.sin(angle)).ravel()], 1), _quads(
        n // 2 + 1, 2 * n, wrap_rows=False
    )


class PrimitiveClouds(PointDataset):
    """Clouds of ten classes: bowl, box, capsule, cone, cross, cylinder, dumbbell, knot, tetrahedron, torus.

    Args:
        count: number of clouds, the classes in turn.
        points: points of each cloud.
        deform: strength of the smooth deformation; 1 stretches by some 20 %.
        noise: standard deviation of the points off the surface; the shapes have size 1.
        seed: seed of shapes and points.
        split: train, val or test, whose clouds differ.

    Shape: points and normals (P, 3) float32.
    Raises: ValueError for values out of range.

    Example:
        >>> from spheregeo.data import PrimitiveClouds
        >>> PrimitiveClouds(3, points=50)[0].normals.shape
        (50, 3)
    """

    class_names = SHAPE_CLASSES
    up = 2

    def __init__(
        self,
        count: int,
        points: int = 1024,
        deform: float = 1.0,
        noise: float = 0.0,
        seed: int = 0,
        split: str = "train",
    ) -> None:
        for name, value, least in (("count", count, 1), ("points", points, 1), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"{name} is {value}; expected at least {least}")
        if deform < 0 or noise < 0:
            raise ValueError(f"deform is {deform}, noise {noise}; expected 0 (none) or more")
        self.count, self.points, self.deform, self.noise = count, points, deform, noise
        self.seed, self.split = seed, check_split(split)
        self.labels = [k % len(SHAPE_CLASSES) for k in range(count)]
        self._clouds: dict[int, Cloud] = {}

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.split} {index} ({SHAPE_CLASSES[self.labels[index]]})"

    def load(self, index: int) -> Cloud:
        if index not in self._clouds:
            made = self._make(index)
            assert made.normals is not None
            self._clouds[index] = Cloud(made.points.astype(np.float32), made.normals.astype(np.float32))
        return self._clouds[index]

    def _make(self, index: int) -> Cloud:
        key = (3, SPLITS.index(self.split), index)
        rng = np.random.default_rng(np.random.SeedSequence(entropy=self.seed, spawn_key=key))
        shape = primitives(rng)[SHAPE_CLASSES[self.labels[index]]]
        parameters, faces = domain(shape.domain)
        vertices = bend(shape.surface(parameters), self.deform, rng)
        cloud = sample_surface(vertices, faces, self.points, rng, self.name(index))
        if not self.noise:
            return cloud
        return Cloud(cloud.points + self.noise * rng.standard_normal(cloud.points.shape), cloud.normals)
