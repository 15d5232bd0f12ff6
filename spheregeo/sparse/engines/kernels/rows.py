"""A small matrix for each row, applied to features of the point that the row names; the adjoint; the matrices' gradient.

Tables: blocks (B, 6): first column of the source, components d, channels, first and last function, first coefficient; functions
(F, 5): first column of the group, its columns, component, columns of one component, column within it. Planar features as in
:mod:`spheregeo.sparse.engines.coupling`; coefficients k (R, K): block after block, function after function, d numbers each.
"""

from __future__ import annotations

from numba import njit, prange

from spheregeo.sparse.engines.kernels.product import OPTIONS


@njit(**OPTIONS)
def _place(functions, f, row, rows):  # type: ignore[no-untyped-def]
    return (
        rows * functions[f, 0] + row * functions[f, 1] + functions[f, 2] * functions[f, 3] + functions[f, 4]
    )


@njit(**OPTIONS)
def _combine(k, x, d, n, out):  # type: ignore[no-untyped-def]
    """out[c] = sum_m k[m] x[m n + c]."""
    if d == 1:
        k0 = k[0]
        for c in range(n):
            out[c] = k0 * x[c]
    elif d == 3:
        k0, k1, k2 = k[0], k[1], k[2]
        x0, x1, x2 = x[:n], x[n : 2 * n], x[2 * n : 3 * n]
        for c in range(n):
            out[c] = k0 * x0[c] + k1 * x1[c] + k2 * x2[c]
    elif d == 5:
        k0, k1, k2, k3, k4 = k[0], k[1], k[2], k[3], k[4]
        x0, x1, x2, x3, x4 = x[:n], x[n : 2 * n], x[2 * n : 3 * n], x[3 * n : 4 * n], x[4 * n : 5 * n]
        for c in range(n):
            out[c] = k0 * x0[c] + k1 * x1[c] + k2 * x2[c] + k3 * x3[c] + k4 * x4[c]
    else:
        for c in range(n):
            out[c] = k[0] * x[c]
        for m in range(1, d):
            km, xm = k[m], x[m * n : (m + 1) * n]
            for c in range(n):
                out[c] += km * xm[c]


@njit(**OPTIONS)
def _spread(k, g, d, n, out):  # type: ignore[no-untyped-def]
    """out[m n + c] += k[m] g[c]."""
    if d == 3:
        k0, k1, k2 = k[0], k[1], k[2]
        o0, o1, o2 = out[:n], out[n : 2 * n], out[2 * n : 3 * n]
        for c in range(n):
            value = g[c]
            o0[c] += k0 * value
            o1[c] += k1 * value
            o2[c] += k2 * value
    elif d == 5:
        k0, k1, k2, k3, k4 = k[0], k[1], k[2], k[3], k[4]
        o0, o1, o2, o3, o4 = (
            out[:n],
            out[n : 2 * n],
            out[2 * n : 3 * n],
            out[3 * n : 4 * n],
            out[4 * n : 5 * n],
        )
        for c in range(n):
            value = g[c]
            o0[c] += k0 * value
            o1[c] += k1 * value
            o2[c] += k2 * value
            o3[c] += k3 * value
            o4[c] += k4 * value
    else:
        for m in range(d):
            km, om = k[m], out[m * n : (m + 1) * n]
            if km != 0:
                for c in range(n):
                    om[c] += km * g[c]


@njit(parallel=True, **OPTIONS)
def rows_apply(x, k, index, blocks, functions, points, z):  # type: ignore[no-untyped-def]
    """z, planar groups of R rows, from x, planar blocks of ``points`` rows."""
    rows = len(index)
    for r in prange(rows):
        for b in range(len(blocks)):
            d, n = blocks[b, 1], blocks[b, 2]
            at = points * blocks[b, 0] + index[r] * d * n
            source = x[at : at + d * n]
            for f in range(blocks[b, 3], blocks[b, 4]):
                first = blocks[b, 5] + (f - blocks[b, 3]) * d
                place = _place(functions, f, r, rows)
                _combine(k[r, first : first + d], source, d, n, z[place : place + n])


@njit(parallel=True, **OPTIONS)
def rows_adjoint(z, k, indptr, order, blocks, functions, points, x):  # type: ignore[no-untyped-def]
    """x (zero before) from z; rows order[indptr[i]], ... are those that name point i."""
    rows = len(order)
    for i in prange(points):
        for b in range(len(blocks)):
            d, n = blocks[b, 1], blocks[b, 2]
            at = points * blocks[b, 0] + i * d * n
            goal = x[at : at + d * n]
            for t in range(indptr[i], indptr[i + 1]):
                r = order[t]
                for f in range(blocks[b, 3], blocks[b, 4]):
                    first = blocks[b, 5] + (f - blocks[b, 3]) * d
                    place = _place(functions, f, r, rows)
                    _spread(k[r, first : first + d], z[place : place + n], d, n, goal)


@njit(parallel=True, **OPTIONS)
def rows_coefficients(x, z, index, blocks, functions, points, k):  # type: ignore[no-untyped-def]
    """k[r, f, m] = sum_c z[r, f, c] x[index[r], m, c]."""
    rows = len(index)
    for r in prange(rows):
        for b in range(len(blocks)):
            d, n = blocks[b, 1], blocks[b, 2]
            at = points * blocks[b, 0] + index[r] * d * n
            for f in range(blocks[b, 3], blocks[b, 4]):
                first = blocks[b, 5] + (f - blocks[b, 3]) * d
                place = _place(functions, f, r, rows)
                g = z[place : place + n]
                for m in range(d):
                    source = x[at + m * n : at + (m + 1) * n]
                    total = x.dtype.type(0)
                    for c in range(n):
                        total += g[c] * source[c]
                    k[r, first + m] = total
