"""Softmax over the nonzeros of a row: output, and gradients with the scores computed again.

Rows are (indptr, start, index, stride, shift, target, step, columns): nonzero t of row r at column j names source index[t] +
stride[t] ((j + shift[t]) mod columns), column start[r] + t - indptr[r] of the table, and target target[r] + step[r] j; where
columns is 1, source index[t] and target r. ``first`` is added to targets, sources and columns of the table. Scores take
``scores`` = (bias (heads, K), offset (T,), index (T, J), share (T, J)), and of the adjoint, whose columns are others,
(bias, order, offset, ...). Features are (B, points, heads * width), sums L and products delta (B, points, heads).
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.inner import no_inline, tiled_add, tiled_dot
from spheregeo.sparse.engines.kernels.options import OPTIONS

TASK = 32  # columns or rows that a thread takes at a time


@njit(**OPTIONS)
def _exp32(s, n):  # type: ignore[no-untyped-def]
    """exp of the first n numbers, which are at most 0 or little above, in float32: 2^whole times a polynomial of the rest."""
    power = np.empty(n, np.int32)
    for t in range(n):
        x = max(s[t], np.float32(-80.0)) * np.float32(1.4426950408889634)
        whole = np.floor(x + np.float32(0.5))
        f = (x - whole) * np.float32(0.6931471805599453)
        power[t] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        p = np.float32(1 / 5040)
        p = p * f + np.float32(1 / 720)
        p = p * f + np.float32(1 / 120)
        p = p * f + np.float32(1 / 24)
        p = p * f + np.float32(1 / 6)
        p = p * f + np.float32(0.5)
        p = p * f + np.float32(1.0)
        s[t] = p * f + np.float32(1.0)
    two = power.view(np.float32)
    for t in range(n):
        s[t] *= two[t]


@njit(**OPTIONS)
def _exp(s, n):  # type: ignore[no-untyped-def]
    """exp of the first n numbers in place."""
    no_inline()
    if s.itemsize == 4:
        _exp32(s, n)
    else:
        for t in range(n):
            s[t] = math.exp(s[t])


@njit(**OPTIONS)
def _dots(x, x_at, y, y_at, places, out, n, width):  # type: ignore[no-untyped-def]
    """out[t] += < x, y at place t > for t < n; a call, for LLVM takes seconds to inline tiles into every loop."""
    no_inline()
    tiled_dot(x, x_at, 0, y, y_at, places, out, 0, 0, 1, 1, n, width)


@njit(**OPTIONS)
def _mean(a, x, x_at, places, z, z_at, n, width):  # type: ignore[no-untyped-def]
    """z += sum_t a[t] x at place t."""
    no_inline()
    tiled_add(a, 0, 0, 1, x, x_at, places, z, z_at, 0, 1, n, width)


@njit(**OPTIONS)
def _sources(rows, first, r, j, places):  # type: ignore[no-untyped-def]
    """Source points of a row's nonzeros at column j, and the row's target."""
    indptr, _, index, stride, shift, target, step, columns = rows
    begin, end, wide = indptr[r], indptr[r + 1], columns[0]
    if wide == 1 and len(stride) == 0:
        for t in range(begin, end):
            places[t - begin] = first[1] + index[t]
        return first[0] + r
    for t in range(begin, end):
        turned = j + shift[t]
        if turned >= wide:
            turned -= wide
        places[t - begin] = first[1] + index[t] + stride[t] * turned
    return first[0] + target[r] + step[r] * j


@njit(**OPTIONS)
def _fixed(scores, begin, n, out):  # type: ignore[no-untyped-def]
    """What scores take from columns begin, ..., begin + n - 1 of the table, for each head: out (heads, longest)."""
    bias, offset, index, share = scores
    for h in range(len(bias)):
        for t in range(n):
            value = offset[begin + t]
            for i in range(index.shape[1]):
                value += share[begin + t, i] * bias[h, index[begin + t, i]]
            out[h, t] = value


@njit(**OPTIONS)
def _fixed_of(scores, begin, n, out):  # type: ignore[no-untyped-def]
    """As ``_fixed`` for the adjoint, whose columns copy others."""
    bias, order, offset, index, share = scores
    for h in range(len(bias)):
        for t in range(n):
            column = order[begin + t]
            value = offset[column]
            for i in range(index.shape[1]):
                value += share[column, i] * bias[h, index[column, i]]
            out[h, t] = value


@njit(**OPTIONS)
def _longest(indptr):  # type: ignore[no-untyped-def]
    most = np.int64(1)
    for r in range(len(indptr) - 1):
        most = max(most, indptr[r + 1] - indptr[r])
    return most


@njit(**OPTIONS)
def _attend_share(thread, q, k, v, rows, first, scores, heads, threads, y, total):  # type: ignore[no-untyped-def]
    """One thread's share of ``attend``: every threads-th task."""
    no_inline()
    indptr, start, columns = rows[0], rows[1], rows[7][0]
    batch, targets, sources = q.shape[0], q.shape[1], k.shape[1]
    c, d = q.shape[2], v.shape[2]
    parts = (columns + TASK - 1) // TASK
    tasks = (len(indptr) - 1) * parts
    longest = _longest(indptr)
    places = np.empty(longest, np.int64)
    at_k, at_v = np.empty(longest, np.int64), np.empty(longest, np.int64)
    fixed = np.empty((heads, longest), q.dtype)
    s = np.empty(longest, q.dtype)
    for task in range(thread, tasks, threads):
        r, part = task // parts, task % parts
        n = indptr[r + 1] - indptr[r]
        if n == 0:
            continue
        _fixed(scores, first[2] + start[r], n, fixed)
        for j in range(part * TASK, min((part + 1) * TASK, columns)):
            p = _sources(rows, first, r, j, places)
            for t in range(n):
                at_k[t], at_v[t] = places[t] * c, places[t] * d
            for b in range(batch):
                for h in range(heads):
                    s[:n] = fixed[h, :n]
                    own, other = (b * targets + p) * c + h * (c // heads), b * sources * c + h * (c // heads)
                    _dots(q, own, k, other, at_k, s, n, c // heads)
                    top = s[0]
                    for t in range(1, n):
                        top = max(top, s[t])
                    for t in range(n):
                        s[t] -= top
                    _exp(s, n)
                    sums = s[0]
                    for t in range(1, n):
                        sums += s[t]
                    scale = 1 / sums
                    for t in range(n):
                        s[t] *= scale
                    total[b, p, h] = top + math.log(sums)
                    goal, other = (b * targets + p) * d + h * (d // heads), b * sources * d + h * (d // heads)
                    _mean(s, v, other, at_v, y, goal, n, d // heads)


@njit(parallel=True, **OPTIONS)
def attend(q, k, v, rows, first, scores, heads, threads, y, total):  # type: ignore[no-untyped-def]
    """Output y, zero before, and logarithms of the sums of exponentials ``total`` of the rows."""
    for thread in prange(threads):
        _attend_share(thread, q, k, v, rows, first, scores, heads, threads, y, total)


@njit(**OPTIONS)
def _attend_queries_share(thread, q, k, v, total, delta, g, rows, first, scores, heads, threads, dq, dbias):  # type: ignore[no-untyped-def]
    """One thread's share of ``attend_queries``: every threads-th task."""
    no_inline()
    indptr, start, columns = rows[0], rows[1], rows[7][0]
    batch, targets, sources = q.shape[0], q.shape[1], k.shape[1]
    c, d = q.shape[2], v.shape[2]
    index, share = scores[2], scores[3]
    parts = (columns + TASK - 1) // TASK
    tasks = (len(indptr) - 1) * parts
    longest = _longest(indptr)
    places = np.empty(longest, np.int64)
    at_k, at_v = np.empty(longest, np.int64), np.empty(longest, np.int64)
    fixed = np.empty((heads, longest), q.dtype)
    sums = np.empty((heads, longest), q.dtype)
    s, ds = np.empty(longest, q.dtype), np.empty(longest, q.dtype)
    for task in range(thread, tasks, threads):
        r, part = task // parts, task % parts
        n = indptr[r + 1] - indptr[r]
        if n == 0:
            continue
        begin = first[2] + start[r]
        _fixed(scores, begin, n, fixed)
        sums[:, :n] = 0
        for j in range(part * TASK, min((part + 1) * TASK, columns)):
            p = _sources(rows, first, r, j, places)
            for t in range(n):
                at_k[t], at_v[t] = places[t] * c, places[t] * d
            for b in range(batch):
                for h in range(heads):
                    whole = total[b, p, h]
                    for t in range(n):
                        s[t] = fixed[h, t] - whole
                        ds[t] = -delta[b, p, h]
                    own, other = (b * targets + p) * c + h * (c // heads), b * sources * c + h * (c // heads)
                    _dots(q, own, k, other, at_k, s, n, c // heads)
                    _exp(s, n)
                    mine, theirs = (
                        (b * targets + p) * d + h * (d // heads),
                        b * sources * d + h * (d // heads),
                    )
                    _dots(g, mine, v, theirs, at_v, ds, n, d // heads)
                    for t in range(n):
                        ds[t] *= s[t]
                    for t in range(n):
                        sums[h, t] += ds[t]
                    _mean(ds, k, other, at_k, dq, own, n, c // heads)
        for i in range(index.shape[1]):
            for h in range(heads):
                for t in range(n):
                    dbias[thread, h, index[begin + t, i]] += share[begin + t, i] * sums[h, t]


@njit(parallel=True, **OPTIONS)
def attend_queries(q, k, v, total, delta, g, rows, first, scores, heads, threads, dq, dbias):  # type: ignore[no-untyped-def]
    """Gradients of the queries, and of the bias (threads, heads, K), added to what is there."""
    for thread in prange(threads):
        _attend_queries_share(
            thread, q, k, v, total, delta, g, rows, first, scores, heads, threads, dq, dbias
        )


@njit(**OPTIONS)
def _attend_keys_share(thread, q, k, v, total, delta, g, rows, first, scores, heads, threads, dk, dv):  # type: ignore[no-untyped-def]
    """One thread's share of ``attend_keys``: every threads-th task."""
    no_inline()
    indptr, start, columns = rows[0], rows[1], rows[7][0]
    batch, targets, sources = q.shape[0], q.shape[1], k.shape[1]
    c, d = q.shape[2], v.shape[2]
    parts = (columns + TASK - 1) // TASK
    tasks = (len(indptr) - 1) * parts
    longest = _longest(indptr)
    places = np.empty(longest, np.int64)
    at_q, at_g = np.empty(longest, np.int64), np.empty(longest, np.int64)
    fixed = np.empty((heads, longest), q.dtype)
    s, ds = np.empty(longest, q.dtype), np.empty(longest, q.dtype)
    for task in range(thread, tasks, threads):
        r, part = task // parts, task % parts
        n = indptr[r + 1] - indptr[r]
        if n == 0:
            continue
        _fixed_of(scores, start[r], n, fixed)
        for j in range(part * TASK, min((part + 1) * TASK, columns)):
            p = _sources(rows, first, r, j, places)
            for t in range(n):
                at_q[t], at_g[t] = places[t] * c, places[t] * d
            for b in range(batch):
                for h in range(heads):
                    for t in range(n):
                        s[t] = fixed[h, t] - total[b, places[t], h]
                        ds[t] = -delta[b, places[t], h]
                    own, other = (b * sources + p) * c + h * (c // heads), b * targets * c + h * (c // heads)
                    _dots(k, own, q, other, at_q, s, n, c // heads)
                    _exp(s, n)
                    mine, theirs = (
                        (b * sources + p) * d + h * (d // heads),
                        b * targets * d + h * (d // heads),
                    )
                    _dots(v, mine, g, theirs, at_g, ds, n, d // heads)
                    for t in range(n):
                        ds[t] *= s[t]
                    _mean(s, g, theirs, at_g, dv, mine, n, d // heads)
                    _mean(ds, q, other, at_q, dk, own, n, c // heads)


@njit(parallel=True, **OPTIONS)
def attend_keys(q, k, v, total, delta, g, rows, first, scores, heads, threads, dk, dv):  # type: ignore[no-untyped-def]
    """Gradients of keys and values by the rows of the adjoint, added to what is there."""
    for thread in prange(threads):
        _attend_keys_share(thread, q, k, v, total, delta, g, rows, first, scores, heads, threads, dk, dv)
