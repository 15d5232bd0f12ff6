r"""Shape of triangles and of the surface round a vertex: areas, angles, normals, frames; functions of plain arrays.

A face (a, b, c) has the normal (b − a) × (c − a), counter-clockwise from outside. A vertex normal is the normalised sum
Σ w n_f over its faces, weighted by the corner's angle, the face's area, or equally.
Reference: Thürmer & Wüthrich 1998 (angle weights: the normal does not depend on how flat parts are triangulated).
"""

from __future__ import annotations

import numpy as np

WEIGHTS = ("angle", "area", "uniform")
CANCELLED = 1e-10  # relative length of a vertex's sum of face normals below which it has no direction


def face_vectors(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals (F, 3) of twice the faces' areas in length."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one; zero stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)


def corner_angles(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Angle at each corner of each face (F, 3), accurate for slivers too."""
    p = vertices[faces]  # (F, 3, 3)
    area = np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1)  # |u × v| at every corner
    angles = np.empty(faces.shape)
    for k in range(3):
        u, v = p[:, (k + 1) % 3] - p[:, k], p[:, (k + 2) % 3] - p[:, k]
        angles[:, k] = np.arctan2(area, np.einsum("fi,fi->f", u, v))
    return angles


def scatter(faces: np.ndarray, values: np.ndarray, num_vertices: int) -> np.ndarray:
    """Sum over the corners of each vertex; values (F,) or (F, 3), one a corner."""
    per_corner = np.broadcast_to(values[:, None] if values.ndim == 1 else values, faces.shape)
    return np.bincount(faces.reshape(-1), per_corner.reshape(-1), num_vertices)


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Barycentric areas (V,): a third of each adjacent face. They sum to the surface's area."""
    return scatter(faces, np.linalg.norm(face_vectors(vertices, faces), axis=1) / 6, len(vertices))


def vertex_normals(vertices: np.ndarray, faces: np.ndarray, weights: str = "angle") -> np.ndarray:
    """Unit normals (V, 3), weighted by "angle", "area" or "uniform".

    Raises: ValueError where the normals of a vertex's faces cancel, as on two sheets glued back to back.
    """
    vectors = face_vectors(vertices, faces)
    normals = unit(vectors)
    if weights == "angle":
        weight = corner_angles(vertices, faces)
    elif weights == "area":
        weight = np.broadcast_to(np.linalg.norm(vectors, axis=1)[:, None], faces.shape)
    else:
        weight = np.ones(faces.shape)
    total = np.stack(
        [scatter(faces, weight * normals[:, i : i + 1], len(vertices)) for i in range(3)], axis=1
    )
    length = np.linalg.norm(total, axis=1)
    none = np.flatnonzero(length <= CANCELLED * scatter(faces, weight, len(vertices)))
    if len(none):
        raise ValueError(
            f"TriangleMesh: {len(none)} vertices have no normal, the first at index {none[0]}: the normals of its faces "
            "cancel; pass normals= as a tensor of shape (V, 3)"
        )
    return total / length[:, None]


def tangent_frames(normals: np.ndarray, towards: np.ndarray | None = None) -> np.ndarray:
    """Right-handed frames (V, 2, 3) whose first axis points as the projection of ``towards`` (V, 3).

    Without it, or where it is parallel to the normal, the coordinate axis least aligned with the normal is taken.
    """
    axis = np.eye(3)[np.abs(normals).argmin(axis=1)]
    first = _project(axis, normals)
    if towards is not None:
        wanted = _project(unit(towards), normals)
        clear = np.linalg.norm(wanted, axis=1) > 1e-6
        first = np.where(clear[:, None], wanted, first)
    first = unit(first)
    first = unit(_project(first, normals))  # once more: what rounding left along the normal
    return np.stack([first, np.cross(normals, first)], axis=1)


def turn(frames: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Frames (V, 2, 3) turned by +angle (V,) about their normals."""
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return np.stack([c * frames[:, 0] + s * frames[:, 1], c * frames[:, 1] - s * frames[:, 0]], axis=1)


def _project(vectors: np.ndarray, normals: np.ndarray) -> np.ndarray:
    return vectors - np.einsum("ni,ni->n", vectors, normals)[:, None] * normals
