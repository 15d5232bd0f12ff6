"""A small matrix for each row, applied to features of the point that the row names; the adjoint; the matrices' gradient.

Tables: blocks (B, 6): first column of the source, components d, channels, first and last function, first coefficient; functions
(F, 5): first column of the group, its columns, component, columns of one component, column within it. Planar features as in
:mod:`spheregeo.sparse.forms.coupling`; coefficients k (R, K): block after block, function after function, d numbers each.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.inner import tiled_add, tiled_dot, tiled_set
from spheregeo.sparse.engines.kernels.options import OPTIONS

TASK = 64  # rows that a thread takes at a time


@njit(**OPTIONS)
def _most(blocks):  # type: ignore[no-untyped-def]
    """The largest number of functions of a block."""
    most = np.int64(1)
    for b in range(len(blocks)):
        most = max(most, blocks[b, 4] - blocks[b, 3])
    return most


@njit(**OPTIONS)
def _places(functions, first, last, row, rows, places):  # type: ignore[no-untyped-def]
    """Where the channels of a block's functions begin."""
    for f in range(first, last):
        group, wide = functions[f, 0], functions[f, 1]
        places[f - first] = rows * group + row * wide + functions[f, 2] * functions[f, 3] + functions[f, 4]


@njit(parallel=True, **OPTIONS)
def rows_apply(x, k, index, blocks, functions, points, z):  # type: ignore[no-untyped-def]
    """z, planar groups of R rows, from x, planar blocks of ``points`` rows."""
    rows = len(index)
    for begin in prange((rows + TASK - 1) // TASK):
        places = np.empty(_most(blocks), np.int64)
        for r in range(begin * TASK, min((begin + 1) * TASK, rows)):
            for b in range(len(blocks)):
                d, n, first = blocks[b, 1], blocks[b, 2], blocks[b, 3]
                last, column = blocks[b, 4], blocks[b, 5]
                _places(functions, first, last, r, rows, places)
                at = points * blocks[b, 0] + index[r] * d * n
                matrix = r * k.shape[1] + column
                tiled_set(k, matrix, d, 1, x, at, n, z, 0, places, last - first, d, n)


@njit(parallel=True, **OPTIONS)
def rows_adjoint(z, k, indptr, order, blocks, functions, points, x):  # type: ignore[no-untyped-def]
    """x (zero before) from z; rows order[indptr[i]], ... are those that name point i."""
    rows = len(order)
    for begin in prange((points + TASK - 1) // TASK):
        places = np.empty(_most(blocks), np.int64)
        for i in range(begin * TASK, min((begin + 1) * TASK, points)):
            for t in range(indptr[i], indptr[i + 1]):
                r = order[t]
                for b in range(len(blocks)):
                    d, n, first = blocks[b, 1], blocks[b, 2], blocks[b, 3]
                    last, column = blocks[b, 4], blocks[b, 5]
                    _places(functions, first, last, r, rows, places)
                    at = points * blocks[b, 0] + i * d * n
                    matrix = r * k.shape[1] + column
                    tiled_add(k, matrix, 1, d, z, 0, places, x, at, n, d, last - first, n)


@njit(parallel=True, **OPTIONS)
def rows_coefficients(x, z, index, blocks, functions, points, k):  # type: ignore[no-untyped-def]
    """k[r, f, m] = sum_c z[r, f, c] x[index[r], m, c]; zero before."""
    rows = len(index)
    for begin in prange((rows + TASK - 1) // TASK):
        places = np.empty(_most(blocks), np.int64)
        for r in range(begin * TASK, min((begin + 1) * TASK, rows)):
            for b in range(len(blocks)):
                d, n, first = blocks[b, 1], blocks[b, 2], blocks[b, 3]
                last, column = blocks[b, 4], blocks[b, 5]
                _places(functions, first, last, r, rows, places)
                at = points * blocks[b, 0] + index[r] * d * n
                matrix = r * k.shape[1] + column
                tiled_dot(z, 0, places, x, at, n, k, matrix, d, 1, last - first, d, n)
