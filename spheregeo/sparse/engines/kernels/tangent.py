"""Contractions of tangent fields, row by row: each neighbour's fields times the row's complex coefficients, summed."""

from __future__ import annotations

import numpy as np
from numba import prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.options import OPTIONS
from spheregeo.sparse.engines.kernels.product import accumulate


@njit(**OPTIONS)
def _coefficients(table, order, stretch, m, targets, sizes, out):  # type: ignore[no-untyped-def]
    """Rows of ``out``: real and imaginary parts, R each, of the coefficients that input order m has for each output order.

    For output order n those of n and, if both orders are positive, of -n: c_(n - m) e^(i m g), or of the adjoint
    c_(n - m) e^(-i n g); n = m = 0 has real parts alone. ``stretch`` (first pair, pairs), ``sizes`` (rings, whether adjoint).
    Returns the number of rows.
    """
    begin, taps = stretch
    rings, adjoint = sizes
    turn = table.shape[1] - 2
    used = 0
    for o in range(len(targets)):
        top = targets[o, 0]
        for way in range(2 if top > 0 and m > 0 else 1):
            n = top if way == 0 else -top
            j, power = n - m, (-n if adjoint else m)
            size, times = abs(j), abs(power)
            first = rings * (2 * size - 1)
            real = n == 0 and m == 0
            for t in range(taps):
                row = table[order[begin + t] if len(order) else begin + t]
                cos, sin = row[turn], row[turn + 1]
                if power < 0:
                    sin = -sin
                c, s = row[turn] * 0 + 1, row[turn] * 0
                for _ in range(times):
                    c, s = c * cos - s * sin, s * cos + c * sin
                for k in range(rings):
                    if size == 0:
                        a = row[k]
                        out[used + k, t] = a * c
                        if not real:
                            out[used + rings + k, t] = a * s
                    else:
                        a, b = row[first + k], row[first + rings + k]
                        if j < 0:
                            b = -b
                        out[used + k, t] = a * c - b * s
                        out[used + rings + k, t] = a * s + b * c
            used += rings if real else 2 * rings
    return used


@njit(**OPTIONS)
def _finish(sums, fields, targets, offsets, i, rings, out):  # type: ignore[no-untyped-def]
    """Write one row's contractions of one input order, from the sums of its coefficients times [Re F | Im F].

    ``fields`` (first column of the sums, input order, number of fields).
    """
    first, m, count = fields
    size = rings * count
    f = 0
    for o in range(len(targets)):
        n = targets[o, 0]
        at = offsets[o, i]
        if m == 0:
            for k in range((1 if n == 0 else 2) * rings):
                row, goal = sums[f + k, first : first + count], out[at + k * count : at + (k + 1) * count]
                for c in range(count):
                    goal[c] = row[c]
            f += (1 if n == 0 else 2) * rings
            continue
        for _ in range(2 if n > 0 else 1):
            for k in range(rings):
                ar, ai = sums[f + k, first : first + count], sums[f + k, first + count : first + 2 * count]
                b = f + rings + k
                br, bi = sums[b, first : first + count], sums[b, first + count : first + 2 * count]
                here = at + k * count
                re, im = out[here : here + count], out[here + size : here + size + count]
                for c in range(count):
                    re[c] = ar[c] - bi[c]
                for c in range(count):
                    im[c] = ai[c] + br[c]
            at += 2 * size
            f += 2 * rings


@njit(parallel=True, **OPTIONS)
def tangent_contract(x, table, pairs, fields, sizes, stretch, z):  # type: ignore[no-untyped-def]
    """z (last - first, contractions) from x (Q*I,), planar, for the stretch (first, last) of the rows.

    ``pairs`` (indptr, indices, start, members, order): row p reads ``table`` rows order[start[p]], order[start[p] + 1], ... (an
    empty ``order`` counts as 0, 1, 2, ...). With ``members`` the rows are members[first:last], and consecutive ones that read the
    same coefficients are done side by side. ``fields``: sources and targets (blocks, 3) hold order, first channel and fields,
    offsets say where a pair's contractions go. ``table`` (T, K + 2) holds coefficients by frequency, then cos g and sin g.
    ``sizes`` (rings, whether adjoint, pairs of the longest row, rows a task).
    """
    indptr, indices, start, members, order = pairs
    sources, targets, offsets = fields
    rings, adjoint, longest, block = sizes
    first, last = stretch
    stride = np.int64(0)
    widest = np.int64(1)
    for i in range(len(sources)):
        w = sources[i, 2] * (1 if sources[i, 0] == 0 else 2)
        stride += w
        widest = max(widest, w)
    functions = 4 * rings * len(targets)
    listed = len(members) > 0
    most = block if listed else 1
    number = (last - first + block - 1) // block
    for task in prange(number):
        coefficients = np.empty((functions, longest), x.dtype)
        gathered = np.empty(longest * widest * most if listed else 0, x.dtype)
        places = np.empty(longest, np.int64)
        sums = np.empty(functions * widest * most, x.dtype)
        at, end = first + task * block, min(first + (task + 1) * block, last)
        while at < end:
            p = np.int64(members[at]) if listed else at
            taps = indptr[p + 1] - indptr[p]
            run = at + 1
            while listed and run < end:
                other = np.int64(members[run])
                if start[other] != start[p] or indptr[other + 1] - indptr[other] != taps:
                    break
                run += 1
            count = run - at
            for i in range(len(sources)):
                m, channel, fields_in = sources[i, 0], sources[i, 1], sources[i, 2]
                w = fields_in if m == 0 else 2 * fields_in
                used = _coefficients(
                    table, order, (start[p], taps), m, targets, (rings, adjoint), coefficients
                )
                part = sums[: used * count * w].reshape(
                    used, count * w
                )  # contiguous, so that loops along it vectorise
                part[:] = 0
                if count == 1:
                    for t in range(taps):
                        places[t] = np.int64(indices[indptr[p] + t]) * stride + channel
                    accumulate(coefficients[:used, :taps], x, places[:taps], part, w)
                else:
                    for j in range(count):
                        begin = indptr[np.int64(members[at + j])]
                        for t in range(taps):
                            q = np.int64(indices[begin + t]) * stride + channel
                            here = (t * count + j) * w
                            row, goal = x[q : q + w], gathered[here : here + w]
                            for c in range(w):
                                goal[c] = row[c]
                    for t in range(taps):
                        places[t] = t * count * w
                    accumulate(coefficients[:used, :taps], gathered, places[:taps], part, count * w)
                for j in range(count):
                    _finish(part, (j * w, m, fields_in), targets, offsets, i, rings, z[at + j - first])
            at = run
