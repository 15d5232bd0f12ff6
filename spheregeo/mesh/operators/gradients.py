r"""Gradient of functions, divergence of vector fields, as sparse matrices in the points' tangent frames.

All others follow: curl v = −div J v, J v = (−v_2, v_1); the Laplacian div grad; on vectors Hodge's, −(grad div + J grad curl).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, identity, kron, vstack

from spheregeo.mesh.operators.patches import Patches, QuadraticFit, metric_map, row_sums

EPS = 1e-5  # of trace(EᵀE), so that the size of a shape does not matter


def edge_gradient(patches: Patches, eps: float = EPS) -> csr_matrix:
    """Components along the frames of the vector that explains best, by least squares, the differences along the edges.

    Args:
        patches: each point and the ends of its edges.
        eps: keeps (EᵀE + eps trace(EᵀE))⁻¹ regular, E being the edges in the tangent plane.

    Shape: (2 V, V), rows 2 p and 2 p + 1 being the components at p. Units: 1/length.
    Equivariance: frames turned by +α turn the components by −α; scaled shapes have gradients scaled by the inverse, exactly.
    Reference: Sharp, Attaiki, Crane & Ovsjanikov 2022, section 3.3; eps relative here.
    """
    rows = patches.rows
    x, y = patches.local[:, 0], patches.local[:, 1]
    xx, xy, yy = row_sums(np.stack([x * x, x * y, y * y], 1), patches).T
    size = xx + yy
    ridge = np.where(size > 0, eps * size, 1.0)  # a point without edges has no gradient
    xx, yy = xx + ridge, yy + ridge
    det = xx * yy - xy * xy
    gx = (yy[rows] * x - xy[rows] * y) / det[rows]
    gy = (xx[rows] * y - xy[rows] * x) / det[rows]
    own = patches.indptr[:-1]  # the point itself, first in its row: at no distance, so nothing yet
    gx[own] -= row_sums(gx, patches)
    gy[own] -= row_sums(gy, patches)
    shape = (len(own), len(own))
    return interleaved(*(csr_matrix((g, patches.indices, patches.indptr), shape=shape) for g in (gx, gy)))


class VectorCalculus(NamedTuple):
    """Operators on fields of V points; vectors are numbered by points, then by components: 2 p and 2 p + 1.

    Shape: gradient (2 V, V), divergence (V, 2 V). Units: 1/length.
    """

    gradient: csr_matrix
    divergence: csr_matrix

    @property
    def curl(self) -> csr_matrix:
        """Shape: (V, 2 V); curl v = ∂_1 v_2 − ∂_2 v_1, positive where v turns counter-clockwise about the normal."""
        return (-self.divergence @ _quarter_turn(self.divergence.shape[0])).tocsr()

    @property
    def hodge(self) -> csr_matrix:
        """Hodge Laplacian −(grad div + J grad curl) of vector fields, positive semi-definite in the limit. Shape: (2 V, 2 V)."""
        turned = _quarter_turn(self.divergence.shape[0]) @ self.gradient
        return (-(self.gradient @ self.divergence + turned @ self.curl)).tocsr()


def _quarter_turn(count: int) -> csr_matrix:
    """J on vectors of so many points. Shape: (2 V, 2 V)."""
    return kron(identity(count), np.array([[0.0, -1.0], [1.0, 0.0]])).tocsr()


def interleaved(first: csr_matrix, second: csr_matrix) -> csr_matrix:
    """Rows of two matrices in turns. Shape: (V, n) each -> (2 V, n)."""
    count = first.shape[0]
    return vstack([first, second]).tocsr()[np.arange(2 * count).reshape(2, count).T.ravel()]


def _pairs(indices: np.ndarray) -> np.ndarray:
    """Numbers of both components of each point, (n,) -> (2 n,)."""
    return (2 * indices[:, None] + np.arange(2)).ravel()


def vector_calculus(fit: QuadraticFit, frames: np.ndarray) -> VectorCalculus:
    """Gradient and divergence by quadratic fits; vectors come into a point's patch by its metric.

    The divergence is that of the patch, Σ_i ∂_i(√g a^i)/√g, with a the components along its coordinate lines.

    Args:
        fit: of each point's neighbours.
        frames: (V, 2, 3).

    Equivariance: turned frames turn components, exactly; scaled shapes have operators scaled by the inverse.
    Reference: Wiersma, Nasikun, Eisemann & Hildebrandt 2022, section 4 (without √g there).
    """
    patches, count = fit.patches, len(frames)
    slope_of = fit.weights[:, 1:3]  # (nnz, 2)
    map_, area = metric_map(fit, frames)
    own = area[patches.indptr[:-1]]
    divergence = np.einsum("ti,tij->tj", slope_of * (area / own[patches.rows])[:, None], map_)

    def matrix(values: np.ndarray) -> csr_matrix:
        return csr_matrix((values, patches.indices, patches.indptr), shape=(count, count))

    return VectorCalculus(
        interleaved(matrix(slope_of[:, 0]), matrix(slope_of[:, 1])),
        csr_matrix(
            (divergence.ravel(), _pairs(patches.indices), 2 * patches.indptr), shape=(count, 2 * count)
        ),
    )
