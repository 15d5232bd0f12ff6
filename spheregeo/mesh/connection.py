r"""Connection Laplacian: the Laplacian of tangent fields, which compares neighbours after parallel transport.

A field of order m is a complex number u_p per vertex, in p's frame. With the weights w_pq of a scalar Laplacian,

    (L u)_p = Σ_q w_pq (u_p − e^{i m g_{q→p}} u_q),

Hermitian since g_{p→q} = −g_{q→p}, and positive semi-definite where the weights are not negative. On the unit sphere the
eigenvalues of order 1 are l (l + 1) − 1.
Reference: Singer & Wu 2012; Knöppel, Crane, Pinkall & Schröder 2013; Sharp, Soliman & Crane 2019.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from scipy.sparse import csr_matrix, diags


class Transports(Protocol):
    """Pairs (p, q) as compressed rows with transports g_{q→p}: ``IntrinsicRings``, or a ``Neighborhood``."""

    @property
    def indptr(self) -> Any: ...
    @property
    def indices(self) -> Any: ...
    @property
    def transport(self) -> Any: ...


def connection_laplacian(laplacian: csr_matrix, pairs: Transports, order: int = 1) -> csr_matrix:
    """Connection Laplacian of fields of ``order`` from a scalar Laplacian and the transports along its edges.

    Shape: (V, V) real -> (V, V) complex128. ``pairs`` may hold more than the Laplacian's edges.
    Equivariance: L → D L D* under a turn of the frames by α, D = diag(e^{−i m α}); to rounding.
    Raises: ValueError where an edge of the Laplacian has no transport, as after edge flips.
    """
    count = laplacian.shape[0]
    if len(pairs.indptr) - 1 != count:
        raise ValueError(
            f"pairs has {len(pairs.indptr) - 1} rows; expected {count}, one per row of the laplacian"
        )
    diagonal = laplacian.diagonal()
    weights = (diags(diagonal) - laplacian).tocsr()  # w_pq = -L_pq
    weights.eliminate_zeros()
    weights.sum_duplicates()
    indptr, indices = np.asarray(pairs.indptr), np.asarray(pairs.indices)
    rows = np.repeat(np.arange(count), np.diff(indptr))
    known, wanted = rows * count + indices, _keys(weights)
    order_of = np.argsort(known, kind="stable")
    slot = (
        order_of[np.minimum(np.searchsorted(known[order_of], wanted), len(known) - 1)]
        if len(known)
        else known
    )
    if not np.array_equal(known[slot], wanted):
        lost = int(np.flatnonzero(known[slot] != wanted)[0]) if len(known) else 0
        p, q = divmod(int(wanted[lost]), count)
        raise ValueError(
            f"pairs has no transport from vertex {q} to {p}; expected one for every edge of the laplacian"
        )
    turned = weights.data * np.exp(1j * order * np.asarray(pairs.transport)[slot])
    moved = csr_matrix((turned, weights.indices, weights.indptr), shape=laplacian.shape)
    return (diags(diagonal.astype(np.complex128)) - moved).tocsr()


def _keys(matrix: csr_matrix) -> np.ndarray:
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    keys: np.ndarray = rows * matrix.shape[1] + matrix.indices
    return keys
