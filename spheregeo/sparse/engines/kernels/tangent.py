"""Contractions of tangent fields, row by row: carry the neighbours' fields to the row's frame, then sum them."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from spheregeo.sparse.engines.kernels.product import OPTIONS, accumulate


@njit(**OPTIONS)
def _coefficients(table, column, begin, taps, count, rings, adjoint, out):  # type: ignore[no-untyped-def]
    """out[f, t] = coefficient f of the row's t-th pair; of the adjoint, turned by minus its frequency times g."""
    turn = table.shape[1] - 2
    for t in range(taps):
        row = table[column[begin + t]]
        if not adjoint:
            for f in range(count):
                out[f, t] = row[f]
            continue
        for f in range(rings):
            out[f, t] = row[f]
        cos, sin = row[turn], row[turn + 1]
        c, s = cos, sin
        f = rings
        while f < count:
            for _ in range(rings):
                a, b = row[f], row[f + rings]
                out[f, t] = a * c + b * s
                out[f + rings, t] = b * c - a * s
                f += 1
            f += rings
            c, s = c * cos - s * sin, s * cos + c * sin


@njit(**OPTIONS)
def _carry(x, table, column, indices, begin, taps, order, sign, start, count, stride, out):  # type: ignore[no-untyped-def]
    """out[t] = [Re z | Im z], z = e^(i sign order g) F, for the fields of one order of the row's t-th neighbour."""
    turn = table.shape[1] - 2
    for t in range(taps):
        row = table[column[begin + t]]
        cos, sin = row[turn], sign * row[turn + 1]
        c, s = cos, sin
        for _ in range(order - 1):
            c, s = c * cos - s * sin, s * cos + c * sin
        q = np.int64(indices[begin + t]) * stride + start
        re, im = x[q : q + count], x[q + count : q + 2 * count]
        at = t * 2 * count
        zr, zi = out[at : at + count], out[at + count : at + 2 * count]
        for i in range(count):
            zr[i] = c * re[i] - s * im[i]
            zi[i] = c * im[i] + s * re[i]


@njit(**OPTIONS)
def _combine(sums, j, conjugate, rings, k, count, out, re, im):  # type: ignore[no-untyped-def]
    """(Re, Im) of sum c_j z, or of sum conj(c_j) z, from the sums of cosine and sine parts times [Re z | Im z]."""
    o, p = out[re : re + count], out[im : im + count]
    if j == 0:
        s = sums[k]
        for i in range(count):
            o[i] = s[i]
            p[i] = s[count + i]
        return
    f = rings + (j - 1) * 2 * rings + k
    a, b = sums[f], sums[f + rings]
    if conjugate:
        for i in range(count):
            o[i] = a[i] + b[count + i]
            p[i] = a[count + i] - b[i]
    else:
        for i in range(count):
            o[i] = a[i] - b[count + i]
            p[i] = a[count + i] + b[i]


@njit(parallel=True, **OPTIONS)
def tangent_contract(  # type: ignore[no-untyped-def]
    x, table, column, indptr, indices, sources, targets, offsets, rings, adjoint, first, last, longest, block, z
):
    """z (last - first, contractions) from x (Q*I,), planar, for rows first ... last.

    ``sources`` and ``targets`` (blocks, 3) hold order, first channel and fields; ``offsets`` says where a pair's
    contractions go; ``table`` (T, K + 2) holds coefficients by frequency, then cos g and sin g.
    """
    stride = np.int64(0)
    widest = np.int64(1)
    for i in range(len(sources)):
        w = sources[i, 2] * (1 if sources[i, 0] == 0 else 2)
        stride += w
        widest = max(widest, w)
    top = targets[len(targets) - 1, 0]
    functions = rings * (2 * (top + sources[len(sources) - 1, 0]) + 1)
    sign = x.dtype.type(-1 if adjoint else 1)
    number = (last - first + block - 1) // block
    for task in prange(number):
        coefficients = np.empty((functions, longest), x.dtype)
        carried = np.empty(longest * widest, x.dtype)
        places = np.empty(longest, np.int64)
        sums = np.empty((functions, widest), x.dtype)
        for p in range(first + task * block, min(first + (task + 1) * block, last)):
            begin = indptr[p]
            taps = indptr[p + 1] - begin
            out = z[p - first]
            _coefficients(table, column, begin, taps, functions, rings, adjoint, coefficients)
            for i in range(len(sources)):
                m, start, count = sources[i, 0], sources[i, 1], sources[i, 2]
                used = rings * (2 * (top + m) + 1)
                w = count if m == 0 else 2 * count
                part = sums[:used, :w]
                part[:] = 0
                if m == 0:
                    for t in range(taps):
                        places[t] = np.int64(indices[begin + t]) * stride + start
                    accumulate(coefficients[:used, :taps], x, places[:taps], part, w)
                else:
                    _carry(x, table, column, indices, begin, taps, m, sign, start, count, stride, carried)
                    for t in range(taps):
                        places[t] = t * w
                    accumulate(coefficients[:used, :taps], carried, places[:taps], part, w)
                for o in range(len(targets)):
                    n = targets[o, 0]
                    at = offsets[o, i]
                    size = rings * count
                    if m == 0:
                        parts = 1 if n == 0 else 2
                        f = 0 if n == 0 else rings + (n - 1) * 2 * rings
                        for k in range(parts * rings):
                            row = part[f + k]
                            goal = out[at + k * count : at + (k + 1) * count]
                            for c in range(count):
                                goal[c] = row[c]
                        continue
                    for k in range(rings):
                        here = at + k * count
                        if n == 0:
                            _combine(part, m, True, rings, k, count, out, here, here + size)
                        else:
                            _combine(part, abs(n - m), n < m, rings, k, count, out, here, here + size)
                            _combine(
                                part, n + m, True, rings, k, count, out, here + 2 * size, here + 3 * size
                            )
