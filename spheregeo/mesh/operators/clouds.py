r"""Laplacian and normals of point clouds: the surface that the clouds are samples of is never made.

Around each point its neighbours, flattened into the tangent plane, are triangulated; all the triangles round the point, of all
points together, are one soup, whose robust Laplacian over three is the cloud's, for each triangle is found about three times.
Reference: Sharp & Crane 2020, "A Laplacian for nonmanifold triangle meshes", section 5.7.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import Delaunay, QhullError, cKDTree

from spheregeo.mesh.laplacian import Laplacian, robust_laplacian
from spheregeo.mesh.operators.patches import nearest_patches
from spheregeo.mesh.shape import tangent_frames

NEIGHBOURS = 30


def cloud_normals(points: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Unit normals by principal components of the k nearest points; which of the two sides they point to is arbitrary.

    Shape: (V, 3) -> (V, 3). Raises: ValueError for fewer than four points.
    """
    points = _checked(points)
    _, near = cKDTree(points).query(points, k=min(k + 1, len(points)))
    spread = points[near] - points[near].mean(1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", spread, spread))
    return np.ascontiguousarray(axes[:, :, 0])


def cloud_laplacian(points: np.ndarray, normals: np.ndarray | None = None, k: int = NEIGHBOURS) -> Laplacian:
    """Laplacian and areas of a point cloud, with no negative weight.

    Args:
        points: at least four, not all in one place.
        normals: estimated from the points if None; their signs do not matter.
        k: neighbours that are triangulated about each point.

    Shape: points (V, 3), normals (V, 3); matrix (V, V), mass (V,). Units: none; area.
    Equivariance: invariant under motions, but for ties of the triangulations.
    Raises: ValueError for too few points or normals that do not fit.
    """
    points = _checked(points)
    normals = cloud_normals(points, k) if normals is None else np.asarray(normals, np.float64)
    if normals.shape != points.shape:
        raise ValueError(f"normals has shape {normals.shape}; expected {points.shape}, one a point")
    patches = nearest_patches(points, tangent_frames(normals), k)
    soup = [
        _star(patches.indices[a:b], patches.local[a:b, :2])
        for a, b in zip(patches.indptr[:-1], patches.indptr[1:], strict=True)
    ]
    matrix, mass = robust_laplacian(points, np.concatenate(soup))
    return Laplacian(matrix / 3, mass / 3)


def _star(indices: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """The Delaunay triangles round the first of some points in the plane. Shape: (n,), (n, 2) -> (F, 3)."""
    try:
        faces = Delaunay(flat, qhull_options="Qbb Qc Qz Q12").simplices
    except QhullError:  # all on a line
        return np.zeros((0, 3), np.int64)
    around: np.ndarray = indices[faces[(faces == 0).any(1)]]
    return around


def _checked(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < 4 or not np.isfinite(points).all():
        raise ValueError(f"points has shape {points.shape}; expected (V, 3) finite numbers, V at least 4")
    return points
