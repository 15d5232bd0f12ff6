r"""Neighbours of each point in coordinates of its own tangent plane, and the quadratic patch that fits them best.

A patch has the point as its origin, x and y along the point's frame, z along the normal. The fit of a function is
f ≈ c_0 + c_1 x + c_2 y + c_3 x² + c_4 xy + c_5 y², by least squares with weights exp(−d²/(h d̄)²), d̄ the mean distance in
the patch; the surface itself is fitted by its own heights z.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, identity
from scipy.spatial import cKDTree

RIDGE = 1e-9  # added to the normal matrices, relative to their traces: decides where too few points do not


class Patches(NamedTuple):
    """Neighbours of each point, itself first. Shape: indptr (V + 1,), indices (nnz,), local (nnz, 3). Units: lengths."""

    indptr: np.ndarray
    indices: np.ndarray
    local: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Point of each neighbour (nnz,)."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))


def edge_patches(points: np.ndarray, frames: np.ndarray, edges: np.ndarray, hops: int = 1) -> Patches:
    """Points within so many edges of each point.

    Shape: points (V, 3), frames (V, 2, 3), edges (E, 2), each once. Raises: ValueError for less than one hop.
    """
    if hops < 1:
        raise ValueError(f"hops is {hops}; expected at least 1 edge")
    count = len(points)
    i, j = edges.T
    step = coo_matrix((np.ones(2 * len(i)), (np.r_[i, j], np.r_[j, i])), shape=(count, count)).tocsr()
    step = (step + identity(count)).tocsr()
    reach = step
    for _ in range(hops - 1):
        reach = reach @ step
        reach.data[:] = 1
    reach.sort_indices()
    return _localised(points, frames, reach.indptr.astype(np.int64), reach.indices.astype(np.int64))


def nearest_patches(points: np.ndarray, frames: np.ndarray, k: int) -> Patches:
    """The k nearest points of each point in space, itself not counted. Shape: as :func:`edge_patches`."""
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1 neighbour")
    k = min(k, len(points) - 1)
    _, near = cKDTree(points).query(points, k=k + 1)
    near = near.reshape(len(points), -1)
    lost = near[:, 0] != np.arange(len(points))  # points that coincide: any of them may come first
    for row in np.flatnonzero(lost):
        others = near[row][near[row] != row][:k]
        near[row] = np.r_[row, others]
    indptr = np.arange(len(points) + 1, dtype=np.int64) * (k + 1)
    return _localised(points, frames, indptr, near.reshape(-1).astype(np.int64))


def _localised(points: np.ndarray, frames: np.ndarray, indptr: np.ndarray, indices: np.ndarray) -> Patches:
    rows = np.repeat(np.arange(len(points)), np.diff(indptr))
    axes = np.concatenate([frames, np.cross(frames[:, 0], frames[:, 1])[:, None]], 1)  # (V, 3, 3)
    ahead = points[indices] - points[rows]
    local = np.einsum("tij,tj->ti", axes[rows], ahead)
    order = np.lexsort([indices, indices != rows, rows])  # itself first
    return Patches(indptr, indices[order], local[order])


def row_sums(values: np.ndarray, patches: Patches) -> np.ndarray:
    """Sums over the neighbours of each point. Shape: (nnz, ...) -> (V, ...)."""
    sums: np.ndarray = np.add.reduceat(values, patches.indptr[:-1], axis=0)  # no row is empty
    return sums


class QuadraticFit(NamedTuple):
    """What each point's fit makes of a function's values at its neighbours: coefficients c = Σ_q weights_q f_q.

    Shape: patches; weights (nnz, 6), for 1, x, y, x², xy, y²; surface (V, 6), the coefficients of the heights.
    Units: c_1, c_2 per length, c_3 to c_5 per length squared.
    """

    patches: Patches
    weights: np.ndarray
    surface: np.ndarray

    def coefficients(self, f: np.ndarray) -> np.ndarray:
        """Coefficients of a function at every point. Shape: (V,) -> (V, 6)."""
        return row_sums(self.weights * f[self.patches.indices][:, None], self.patches)

    def matrix(self, term: int) -> csr_matrix:
        """Sparse matrix (V, V) that gives one coefficient."""
        p = self.patches
        return csr_matrix((self.weights[:, term], p.indices, p.indptr), shape=(len(p.indptr) - 1,) * 2)

    def slopes(self) -> np.ndarray:
        """Slopes (z_x, z_y) of each point's surface at each of its neighbours. Shape: (nnz, 2)."""
        c = self.surface[self.patches.rows]
        x, y = self.patches.local[:, 0], self.patches.local[:, 1]
        return np.stack([c[:, 1] + 2 * c[:, 3] * x + c[:, 4] * y, c[:, 2] + c[:, 4] * x + 2 * c[:, 5] * y], 1)


def quadratic_fit(patches: Patches, h: float = 1.0) -> QuadraticFit:
    """Weighted least squares of a quadratic over each patch; constants have no gradient, exactly.

    Args:
        patches: of at least six points each, to be exact; fewer give the fit of least norm.
        h: width of the weights, in mean distances.

    Raises: ValueError for a width that is not positive.
    Reference: Wiersma, Nasikun, Eisemann & Hildebrandt 2022, section 4; Nealen 2004.
    """
    if not 0 < h < np.inf:
        raise ValueError(f"h is {h}; expected a positive width in mean distances")
    rows, counts = patches.rows, np.diff(patches.indptr)
    distance = np.linalg.norm(patches.local, axis=1)
    mean = row_sums(distance, patches) / np.maximum(counts - 1, 1)
    mean = np.where(mean > 0, mean, 1.0)
    x, y, z = (patches.local / mean[rows, None]).T  # free of units, so that one ridge serves all scales
    # with √2 xy, turned frames turn the basis, and the ridge looks the same in all of them
    basis = np.stack([np.ones_like(x), x, y, x * x, np.sqrt(2) * x * y, y * y], 1)
    weight = np.exp(-((distance / (h * mean[rows])) ** 2))
    weighted = weight[:, None] * basis
    normal = row_sums(weighted[:, :, None] * basis[:, None, :], patches)  # (V, 6, 6)
    normal += RIDGE * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(6)
    inverse = np.linalg.inv(normal)
    found = np.einsum("tij,tj->ti", inverse[rows], weighted)
    # what the ridge leaves of a constant is taken from the point itself, which comes first in its row
    rest = row_sums(found, patches)
    rest[:, 0] -= 1
    found[patches.indptr[:-1]] -= rest
    found[:, 4] *= np.sqrt(2)
    heights = row_sums(found * z[:, None], patches)
    units = mean[:, None] ** np.array([0, -1, -1, -2, -2, -2])
    return QuadraticFit(patches, found * units[rows], heights * units * mean[:, None])


def metric_map(fit: QuadraticFit, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors in the neighbours' frames as components along the coordinate lines of the point's patch.

    With Γ_x = e_x + n z_x and Γ_y = e_y + n z_y the patch's tangents at the neighbour, and G their metric, the components of
    the neighbour's frame vectors are G⁻¹ ⟨Γ_i, e_j⟩.

    Args:
        fit: of the surface.
        frames: (V, 2, 3) of all points.

    Shape: map (nnz, 2, 2), components a = map @ v; area element √det G (nnz,).
    """
    rows, columns = fit.patches.rows, fit.patches.indices
    slope = fit.slopes()
    normal = np.cross(frames[:, 0], frames[:, 1])[rows]
    tangents = frames[rows] + slope[:, :, None] * normal[:, None, :]  # (nnz, 2, 3)
    metric = np.einsum("tik,tjk->tij", tangents, tangents)
    mixed = np.einsum("tik,tjk->tij", tangents, frames[columns])
    return np.linalg.solve(metric, mixed), np.sqrt(1 + (slope**2).sum(1))
