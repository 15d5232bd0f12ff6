r"""Decimation by edge collapse, with the cluster of the fine vertices that went into each coarse one: a pooling hierarchy.

The cost of a cluster at x is that of the planes of its faces and of the walls upon its borders, and its inertia:

    Σ_faces a (n·x − d)² + Σ_borders ℓ² (m·x − e)² + λ Σ_vertices A |x − x_v|².

The first keeps the shape (Garland & Heckbert 1997), the last keeps clusters alike in size, round and near their
vertices, which pooling wants. An edge is collapsed only if the surface stays one: what was manifold stays manifold,
components and borders stay, no face turns over. Every cluster is connected.
Reference: Garland & Heckbert 1997; Lindstrom & Turk 1998; Dey, Edelsbrunner, Guha & Nekhayev 1999 (the link condition).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from spheregeo.mesh._arrays import finite_mesh
from spheregeo.mesh.halfedges import twins
from spheregeo.mesh.shape import face_vectors, unit, vertex_areas

FLOOR = 1e-9  # inertia of a vertex without area, in mean areas: keeps every quadric regular


class Decimation(NamedTuple):
    """A coarser mesh and where the fine vertices went.

    Shape: vertices (C, 3) float64, faces (D, 3) int64, parents (V,) int64 index into the coarse vertices.
    Units: as the mesh.
    """

    vertices: np.ndarray
    faces: np.ndarray
    parents: np.ndarray


def decimate(vertices: Any, faces: Any, ratio: float = 0.25, *, evenness: float = 0.1) -> Decimation:
    """Collapse edges until about ``ratio`` of the vertices are left; deterministic.

    A closed component keeps at least four vertices and an open one three, so the result may have more than asked for.
    Vertices of no face stay. ``evenness`` is λ: large for clusters alike in size, small for detail where the surface bends.
    Shape: vertices (V, 3), faces (F, 3).
    Equivariance: under rotations up to the order of equal costs. Cost: 12 s of one core for 1,000,000 vertices.
    Raises: ValueError for a ratio outside (0, 1], an ``evenness`` that is not positive, faces that are no oriented surface.
    """
    v, f = finite_mesh(vertices, faces)
    if not (isinstance(ratio, (int, float)) and 0 < ratio <= 1):
        raise ValueError(f"ratio is {ratio!r}; expected the share of vertices to keep, in (0, 1]")
    if not (isinstance(evenness, (int, float)) and 0 < evenness < np.inf):
        raise ValueError(f"evenness is {evenness!r}; expected a positive weight, such as 0.1")
    twin = twins(f, len(v))
    middle, size = v.mean(axis=0), max(float(np.ptp(v, axis=0).max()), np.finfo(float).tiny)
    scaled = (v - middle) / size
    border = np.zeros(len(v), dtype=bool)
    open_sides = np.flatnonzero(twin < 0)
    start, stop = f.reshape(-1), np.roll(f, -1, axis=1).reshape(-1)
    border[start[open_sides]] = border[stop[open_sides]] = True
    quadrics = _quadrics(scaled, f, start[open_sides], stop[open_sides], open_sides // 3, evenness)
    once = (start < stop) | (twin < 0)
    used = np.zeros(len(v), dtype=bool)
    used[f] = True
    kept = round(ratio * int(used.sum()))
    from spheregeo.mesh._collapse import collapse  # imports numba

    coarse = f.copy()
    into, alive = collapse(scaled, coarse, quadrics, np.stack([start, stop], axis=1)[once], border, kept)
    while not np.array_equal(into, into[into]):
        into = into[into]
    stays = into == np.arange(len(v))
    number = np.cumsum(stays) - 1
    return Decimation(scaled[stays] * size + middle, number[coarse[alive]], number[into])


def _quadrics(
    v: np.ndarray, f: np.ndarray, start: np.ndarray, stop: np.ndarray, face: np.ndarray, evenness: float
) -> np.ndarray:
    """Quadric (V, 10) of each vertex; ``start``, ``stop`` and ``face`` of the border sides."""
    vectors = face_vectors(v, f)
    normal, area = unit(vectors), np.linalg.norm(vectors, axis=1) / 2
    quadrics = np.zeros((len(v), 10))

    def add(corners: np.ndarray, planes: np.ndarray, weight: np.ndarray) -> None:
        n, d = planes[:, :3], planes[:, 3]
        columns = [n[:, a] * n[:, b] for a, b in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))]
        columns += [-d * n[:, a] for a in range(3)] + [d * d]
        for k, column in enumerate(columns):
            quadrics[:, k] += np.bincount(corners, weight * column, len(v))

    planes = np.concatenate([normal, (normal * v[f[:, 0]]).sum(1, keepdims=True)], axis=1)
    add(f.reshape(-1), np.repeat(planes, 3, axis=0), np.repeat(area / 3, 3))
    along = v[stop] - v[start]
    wall = unit(np.cross(along, normal[face]))
    walls = np.concatenate([wall, (wall * v[start]).sum(1, keepdims=True)], axis=1)
    for end in (start, stop):
        add(end, walls, (along**2).sum(axis=1) / 2)
    mass = vertex_areas(v, f)
    mass = evenness * np.maximum(mass, FLOOR * mass.mean() + np.finfo(float).tiny)
    for k in (0, 3, 5):
        quadrics[:, k] += mass
    quadrics[:, 6:9] -= mass[:, None] * v
    quadrics[:, 9] += mass * (v * v).sum(axis=1)
    return quadrics
