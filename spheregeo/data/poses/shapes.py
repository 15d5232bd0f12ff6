"""Things whose poses are learnt: solids put together from ellipsoids, boxes, cylinders and rings, and a creature with limbs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from spheregeo.data.meshes.generated import LIMBS, creature
from spheregeo.data.meshes.triangulate import triangulate

Solid = tuple[np.ndarray, np.ndarray]


def _grid(rows: int, columns: int, closed: bool) -> np.ndarray:
    """Triangles of a lattice of points that closes along its columns, and along its rows where asked."""
    i, j = np.divmod(np.arange((rows if closed else rows - 1) * columns), columns)
    at = lambda a, b: (a % rows) * columns + b % columns  # noqa: E731
    first = [at(i, j), at(i + 1, j), at(i + 1, j + 1)]
    second = [at(i, j), at(i + 1, j + 1), at(i, j + 1)]
    return np.concatenate([np.stack(first, 1), np.stack(second, 1)])


def _turned(radius: np.ndarray, height: np.ndarray, around: int = 28) -> Solid:
    """A body of revolution about z, from a profile that runs down."""
    angle = 2 * np.pi * np.arange(around) / around
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    points = np.concatenate(
        [radius[:, None, None] * ring, np.broadcast_to(height[:, None, None], (len(height), around, 1))], 2
    )
    return points.reshape(-1, 3), _grid(len(radius), around, False)


def ellipsoid(centre: tuple[float, float, float], half: tuple[float, float, float]) -> Solid:
    """An ellipsoid along the axes."""
    angle = np.linspace(0, np.pi, 15)
    points, faces = _turned(np.sin(angle), np.cos(angle))
    return points * half + centre, faces


def cylinder(
    centre: tuple[float, float, float], radius: float, half: float, top: float | None = None
) -> Solid:
    """A cylinder about a line along z, or with another radius at its top a cone."""
    top = radius if top is None else top
    points, faces = _turned(np.array([0, top, radius, 0]), np.array([half, half, -half, -half]))
    return points + centre, faces


def box(centre: tuple[float, float, float], half: tuple[float, float, float]) -> Solid:
    """A box along the axes."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [(a, b, c) for a, b, c, _ in quads] + [(a, c, d) for a, _, c, d in quads]
    return corners * half + centre, np.array(faces)


def ring(centre: tuple[float, float, float], radius: float, thickness: float) -> Solid:
    """A ring about a line along y."""
    a, b = 2 * np.pi * np.arange(24)[:, None] / 24, 2 * np.pi * np.arange(12) / 12
    far = radius + thickness * np.cos(b)
    points = np.stack([far * np.cos(a), thickness * np.sin(b) + 0 * a, far * np.sin(a)], 2).reshape(-1, 3)
    return points + centre, _grid(24, 12, True)


def _aeroplane() -> list[Solid]:
    return [
        ellipsoid((0, 0, 0), (1.0, 0.16, 0.16)), box((0.15, 0, 0.02), (0.2, 0.95, 0.03)),
        box((-0.85, 0, 0.05), (0.1, 0.35, 0.025)), box((-0.85, 0, 0.25), (0.12, 0.025, 0.25)),
        ellipsoid((0.2, 0.4, -0.1), (0.2, 0.08, 0.08)), ellipsoid((0.2, -0.4, -0.1), (0.2, 0.08, 0.08)),
    ]  # fmt: skip


def _chair() -> list[Solid]:
    legs = [box((x, y, -0.5), (0.06, 0.06, 0.4)) for x in (-0.42, 0.42) for y in (-0.42, 0.42)]
    return [box((0, 0, -0.05), (0.5, 0.5, 0.07)), box((-0.44, 0, 0.5), (0.06, 0.5, 0.5)), *legs]


def _mug() -> list[Solid]:
    profile = np.array(
        [[0, -0.4], [0.4, -0.4], [0.44, 0.55], [0.5, 0.55], [0.5, -0.5], [0.45, -0.55], [0, -0.55]]
    )
    return [_turned(profile[:, 0], profile[:, 1]), ring((0.55, 0, 0), 0.3, 0.08)]


def _creature() -> list[Solid]:
    rest = creature(np.ones(len(LIMBS)), np.zeros((len(LIMBS), 3)))
    points, faces, _ = triangulate("sphere", rest, 700, np.random.default_rng(0))
    return [(points, faces)]


SHAPES: dict[str, Callable[[], list[Solid]]] = {
    "aeroplane": _aeroplane,
    "chair": _chair,
    "creature": _creature,
    "mug": _mug,
    "cone": lambda: [cylinder((0, 0, 0), 0.6, 0.7, 0.0)],
    "cube": lambda: [box((0, 0, 0), (0.6, 0.6, 0.6))],
    "cylinder": lambda: [cylinder((0, 0, 0), 0.45, 0.7)],
}
SYMMETRIC = ("cone", "cube", "cylinder")  # some rotation takes the thing to itself


def unit_sphere(solid: Solid) -> Solid:
    """The solid moved and scaled so that the middle of its bounding box is the origin and its farthest point at distance 1."""
    points, faces = solid
    points = points - (points.max(0) + points.min(0)) / 2
    return points / np.linalg.norm(points, axis=1).max(), faces


@cache
def shape(name: str) -> Solid:
    """Corners and triangles of a thing, within the unit sphere. Shape: (V, 3) float64, (F, 3) int64."""
    parts = SHAPES[name]()
    first = np.cumsum([0, *(len(points) for points, _ in parts)])
    points = np.concatenate([points for points, _ in parts])
    faces = np.concatenate([faces + start for (_, faces), start in zip(parts, first, strict=False)])
    return unit_sphere((points, faces))
