"""What the routines of surface geometry share: checked arrays, and the corners of triangles."""

from __future__ import annotations

from typing import Any

import numpy as np

from spheregeo.mesh.check import as_arrays


def finite_mesh(vertices: Any, faces: Any) -> tuple[np.ndarray, np.ndarray]:
    """Float64 vertices (V, 3) and int64 faces (F, 3), copied.

    Raises: ValueError, TypeError for arrays that are no mesh, or positions that are not finite.
    """
    v, f = as_arrays(vertices, faces)
    bad = np.flatnonzero(~np.isfinite(v).all(axis=1))
    if len(bad):
        raise ValueError(f"vertices[{bad[0]}] is {v[bad[0]].tolist()}; expected finite numbers")
    return v, f


def frames_array(frames: Any, num_vertices: int) -> np.ndarray:
    """Float64 frames (V, 2, 3). Raises: ValueError for another shape."""
    e = np.ascontiguousarray(frames, dtype=np.float64)
    if e.shape != (num_vertices, 2, 3):
        raise ValueError(
            f"frames has shape {e.shape}; expected ({num_vertices}, 2, 3), one (e_x, e_y) a vertex"
        )
    return e


def vertex_indices(indices: Any, num_vertices: int, name: str) -> np.ndarray:
    """Int64 indices (n,) of vertices, n at least 1. Raises: ValueError for others."""
    i = np.atleast_1d(np.asarray(indices))
    if i.ndim != 1 or not len(i) or i.dtype.kind not in "iu":
        raise ValueError(
            f"{name} has shape {i.shape} and type {i.dtype}; expected (n,) integers, indices of vertices"
        )
    if i.min() < 0 or i.max() >= num_vertices:
        raise ValueError(
            f"{name} holds {i.min()} to {i.max()}; expected indices of vertices, 0 to {num_vertices - 1}"
        )
    return i.astype(np.int64)


def side_lengths(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Length (F, 3) of the side from corner s to corner s + 1."""
    p = vertices[faces]
    lengths: np.ndarray = np.linalg.norm(p[:, [1, 2, 0]] - p, axis=-1)
    return lengths


def cotangents(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cotangent ⟨u, v⟩/|u × v| of each corner (F, 3), infinite where a face has no area; areas (F,)."""
    p = vertices[faces]
    ahead = p[:, [1, 2, 0]] - p  # (F, 3, 3): side s
    twice = np.linalg.norm(np.cross(ahead[:, 0], ahead[:, 1]), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return -(ahead * ahead[:, [2, 0, 1]]).sum(-1) / twice[:, None], twice / 2
