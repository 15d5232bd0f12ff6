r"""Evenly sampled, irregular triangle meshes of parametrised surfaces: every seed another set of points and triangles.

A surface is a map from a sphere, a torus or a disc into space. Its area is measured on a fine mesh of the domain; points
are drawn evenly on that area and thinned until none are closer than a distance (Poisson discs); the Delaunay
triangulation of the domain joins them, and edges are flipped where that improves the triangles in space.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.spatial import ConvexHull, Delaunay, cKDTree

Map = Callable[[np.ndarray], np.ndarray]
DOMAINS = ("sphere", "torus", "disc")
CROWD = 8  # candidates drawn for each vertex wanted
PACKING = (
    0.54  # vertices per area / distance², when as many candidates are thinned to Poisson discs (measured)
)
Mesh = tuple[np.ndarray, np.ndarray]


@cache
def _fine(domain: str) -> Mesh:
    """Parameters and triangles of a fine mesh of the domain: unit vectors, (u, v) in [0, 1)², or (x, y) in the unit disc."""
    if domain == "sphere":
        points = _sunflower_sphere(4000)
        return points, _sphere_triangles(points)
    if domain == "disc":
        k = np.arange(3000)
        radius, angle = np.sqrt((k + 0.5) / len(k)), k * np.pi * (3 - np.sqrt(5))
        points = np.concatenate([radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), _rim(200)])
        return points, Delaunay(points).simplices.astype(np.int64)
    u, v = np.meshgrid(np.arange(320) / 320, np.arange(40) / 40, indexing="ij")
    points = np.stack([u.ravel(), v.ravel()], 1)
    i, j = np.divmod(np.arange(len(points)), 40)
    at = lambda a, b: (a % 320) * 40 + b % 40  # noqa: E731
    faces = [[at(i, j), at(i + 1, j), at(i + 1, j + 1)], [at(i, j), at(i + 1, j + 1), at(i, j + 1)]]
    return points, np.concatenate([np.stack(f, 1) for f in faces])


def _sunflower_sphere(count: int) -> np.ndarray:
    z = 1 - (2 * np.arange(count) + 1) / count
    angle = np.arange(count) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], 1)


def _rim(count: int) -> np.ndarray:
    angle = 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def _sphere_triangles(points: np.ndarray) -> np.ndarray:
    faces = ConvexHull(points).simplices.astype(np.int64)
    a, b, c = (points[faces[:, k]] for k in range(3))
    inward = (np.cross(b - a, c - a) * (a + b + c)).sum(1) < 0
    faces[inward] = faces[inward][:, [0, 2, 1]]
    return faces


def _torus_triangles(parameters: np.ndarray, lengths: tuple[float, float]) -> np.ndarray:
    """Delaunay triangles of points on a flat torus: nine copies are triangulated, and one of each triangle's kept."""
    shifts = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), -1).reshape(-1, 1, 2)
    tiled = ((parameters + shifts) * lengths).reshape(-1, 2)
    faces = Delaunay(tiled).simplices.astype(np.int64)
    centre = tiled[faces].mean(1) / lengths
    faces = faces[((centre >= 0) & (centre < 1)).all(1)]
    p = tiled[faces]
    edges = p[:, 1:] - p[:, :1]
    turned = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0] < 0
    faces[turned] = faces[turned][:, [0, 2, 1]]
    return faces % len(parameters)


def triangle_areas(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Areas of the triangles. Shape: (V, 3), (F, 3) -> (F,)."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def _thin(points: np.ndarray, distance: float, rng: np.random.Generator) -> np.ndarray:
    """Indices of a maximal set of points with no two closer than ``distance``: in rounds, the lowest of random ranks stay."""
    pairs = cKDTree(points).query_pairs(distance, output_type="ndarray")
    rank = rng.permutation(len(points))
    i, j = pairs.T
    low, high = np.where(rank[i] < rank[j], i, j), np.where(rank[i] < rank[j], j, i)
    undecided, kept = np.ones(len(points), bool), np.zeros(len(points), bool)
    while undecided.any():
        beaten = np.zeros(len(points), bool)
        live = undecided[low] & undecided[high]
        low, high = low[live], high[live]
        beaten[high] = True
        new = undecided & ~beaten
        kept |= new
        undecided &= beaten
        undecided[high[new[low]]] = False
    return np.flatnonzero(kept)


def _flip_in_space(points: np.ndarray, faces: np.ndarray, rounds: int = 30) -> np.ndarray:
    """Flip edges whose two opposite angles add up to more than pi, where that folds nothing and doubles no edge.

    The result is a mesh in space. The flips of :mod:`spheregeo.mesh` for Laplacians are intrinsic: edges there may become bent
    lines on the surface, and two edges may join the same vertices, so those flips cannot stand in for these.
    """
    faces, count = faces.copy(), len(points)
    for _ in range(rounds):
        start, end = faces.ravel(), np.roll(faces, -1, 1).ravel()
        key = np.minimum(start, end) * count + np.maximum(start, end)
        order = np.argsort(key, kind="stable")
        same = np.flatnonzero(key[order][1:] == key[order][:-1])
        left, right = (
            order[same],
            order[same + 1],
        )  # half-edges of inner edges; half-edge h leaves corner h % 3
        f, g = left // 3, right // 3
        a, b = start[left], end[left]
        c, d = faces[f, (left + 2) % 3], faces[g, (right + 2) % 3]  # opposite corners
        p = [points[k] for k in (a, b, c, d)]
        wide = _angle(p[2], p[0], p[1]) + _angle(p[3], p[0], p[1]) > np.pi + 1e-6
        # both new triangles look to the side of the old ones
        normal = np.cross(p[1] - p[0], p[2] - p[0]) + np.cross(p[0] - p[1], p[3] - p[1])
        fair = ((np.cross(p[3] - p[2], p[1] - p[2]) * normal).sum(1) > 0) & (
            (np.cross(p[2] - p[3], p[0] - p[3]) * normal).sum(1) > 0
        )
        new_key = np.minimum(c, d) * count + np.maximum(c, d)
        chosen = np.flatnonzero(wide & fair & ~np.isin(new_key, key))
        # a face, and a new edge, takes part in one flip a round: the first that asks
        _, first = np.unique(new_key[chosen], return_index=True)
        chosen = chosen[np.sort(first)]
        taken = np.full(len(faces), len(key))
        np.minimum.at(taken, f[chosen], chosen)
        np.minimum.at(taken, g[chosen], chosen)
        chosen = chosen[(taken[f[chosen]] == chosen) & (taken[g[chosen]] == chosen)]
        if not len(chosen):
            break
        faces[f[chosen]] = np.stack([c[chosen], d[chosen], b[chosen]], 1)
        faces[g[chosen]] = np.stack([d[chosen], c[chosen], a[chosen]], 1)
    return faces


def _angle(apex: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    u, v = a - apex, b - apex
    return np.arctan2(np.linalg.norm(np.cross(u, v), axis=1), (u * v).sum(1))


def triangulate(
    domain: str, surface: Map, num_vertices: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An irregular mesh of a parametrised surface with about ``num_vertices`` vertices (within some 20 %).

    Args:
        domain: "sphere" (unit vectors), "torus" ((u, v) in [0, 1)²) or "disc" ((x, y), x² + y² <= 1; its rim is the border).
        surface: from parameters (n, k) to points (n, 3), one to one; counter-clockwise in the domain is seen from outside.
        num_vertices: at least 40, enough for the shape's thinnest part.
        rng: of the points.

    Shape: vertices (V, 3), faces (F, 3) int64, parameters (V, k).
    Raises: ValueError for another domain or too few vertices.
    """
    if domain not in DOMAINS:
        raise ValueError(f"domain is {domain!r}; expected one of {', '.join(map(repr, DOMAINS))}")
    if num_vertices < 40:
        raise ValueError(f"num_vertices is {num_vertices}; expected at least 40")
    parameters, faces = _fine(domain)
    points = surface(parameters)
    areas = triangle_areas(points, faces)
    distance = np.sqrt(PACKING * areas.sum() / num_vertices)
    drawn, fixed = _draw(domain, parameters, faces, areas, CROWD * num_vertices, rng), np.zeros((0, 2))
    if domain == "disc":
        loop = surface(_rim(2000))
        length = np.linalg.norm(loop - np.roll(loop, 1, 0), axis=1)
        along = np.cumsum(length)
        wanted = np.arange(int(length.sum() / distance)) * distance
        fixed = _rim(2000)[np.searchsorted(along, wanted)]
        near, _ = cKDTree(surface(fixed)).query(surface(drawn))
        drawn = drawn[near > 0.7 * distance]
    chosen = drawn[_thin(surface(drawn), distance, rng)]
    if domain == "sphere":
        found = _sphere_triangles(chosen)
    elif domain == "torus":
        ring = [
            surface(np.stack([t, np.zeros_like(t)][::step], 1))
            for t, step in ((np.arange(400) / 400, 1), (np.arange(400) / 400, -1))
        ]
        lengths = tuple(float(np.linalg.norm(r - np.roll(r, 1, 0), axis=1).sum()) for r in ring)
        found = _torus_triangles(chosen, lengths)  # type: ignore[arg-type]
    else:
        chosen = np.concatenate([chosen, fixed])
        found = _disc_triangles(chosen)
    vertices = surface(chosen)
    return vertices, _flip_in_space(vertices, found), chosen


def _disc_triangles(parameters: np.ndarray) -> np.ndarray:
    faces = Delaunay(parameters).simplices.astype(np.int64)
    p = parameters[faces]
    edges = p[:, 1:] - p[:, :1]
    twice = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    faces[twice < 0] = faces[twice < 0][:, [0, 2, 1]]
    return faces


def _draw(
    domain: str,
    parameters: np.ndarray,
    faces: np.ndarray,
    areas: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Parameters of points drawn evenly by area."""
    face = faces[rng.choice(len(faces), count, p=areas / areas.sum())]
    corner = parameters[face]  # (count, 3, k)
    if domain == "torus":  # triangles over the seam
        corner = corner - np.round(corner - corner[:, :1])
    s, t = np.sqrt(rng.random(count)), rng.random(count)
    weight = np.stack([1 - s, s * (1 - t), s * t], 1)
    drawn = (weight[:, :, None] * corner).sum(1)
    if domain == "sphere":
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.mod(drawn, 1.0) if domain == "torus" else drawn
