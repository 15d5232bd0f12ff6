"""Sums over pairs of products with fixed structure constants, row by row, nothing of size pairs x functions kept.

A row's pairs are taken a few at a time. Their coefficients a[f, (m1, t)] = sum_m2 C[f, m1, m2] y[t, m2] are made side by side
(t runs fastest), and all arithmetic over channels is a micro-kernel's. Rows are taken as ``order`` says (empty: 0, 1, 2, ...), so
that sources of one row are still in cache for the next. Tables are those of
:class:`spheregeo.sparse.forms.coupling.Tables`; ``kind`` 0 means no weights, 1 weights w (E, H) that every path multiplies
with, 2 weights w of each path's channels, 3 the same as products w v of (E, K) and (K, channels), made for a few pairs of a path
at a time and never kept.

Arguments come in groups: ``rows`` (indptr, sources, order), ``tables`` (blocks, functions, entries, values), ``sizes`` (kind,
heads, K, channels of all paths, dimension of the pairs' features, number of sources, number of targets).
"""

from __future__ import annotations

import numpy as np
from numba import prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels import coupling_parts as parts
from spheregeo.sparse.engines.kernels.coupling_parts import PIECE
from spheregeo.sparse.engines.kernels.inner import line_add, line_set
from spheregeo.sparse.engines.kernels.options import OPTIONS
from spheregeo.sparse.engines.kernels.product import product_add, product_set, products_of_rows

TASK = 8  # rows that a thread takes at a time


@njit(**OPTIONS)
def _couple_rows(stretch, given, rows, tables, sizes, z):  # type: ignore[no-untyped-def]
    """``couple`` for the stretch (begin, end) of the order."""
    begin, end = stretch
    x, y, w, v = given
    indptr, sources, order = rows
    blocks, functions, _, _ = tables
    kind, heads, inner, width, dim, num_source, num_target = sizes
    components, most, coefficients, numbers = parts.largest(blocks, heads)
    yt = np.empty(dim * PIECE, y.dtype)
    wt = np.empty(heads * PIECE, y.dtype)
    a = np.empty(coefficients * PIECE, x.dtype)
    scaled = np.empty(coefficients * PIECE * heads if kind == 1 else 0, x.dtype)
    factors = scaled if kind == 1 else a
    weighted = np.empty(numbers * PIECE if kind > 1 else 0, x.dtype)
    made = np.empty(numbers * PIECE if kind == 3 else 0, x.dtype)
    weights = made if kind == 3 else w
    places = np.empty(components * PIECE, np.int64)
    spots = np.empty(most, np.int64)
    for r in range(begin, end):
        i = order[r] if len(order) else np.int64(r)
        if len(order):
            parts.prefetch_rows(r, (0, len(blocks)), (x, y, w, z), rows, blocks, functions, sizes)
        for b in range(len(blocks)):
            base, d, mul = num_source * blocks[b, 0], blocks[b, 1], blocks[b, 2]
            first, last = blocks[b, 3], blocks[b, 4]
            number = last - first
            parts.target_places(functions, first, number, i, heads, num_target, spots)
            for s in range(heads * number):
                for c in range(mul):
                    z[spots[s] + c] = 0
            at = indptr[i]
            while at < indptr[i + 1]:
                count = min(PIECE, indptr[i + 1] - at)
                wide = d * count
                parts.coefficients(y, at, count, dim, tables, b, yt, a)
                parts.source_places(sources, at, count, base, d, mul, places)
                if kind < 2:
                    if kind == 1:
                        parts.transposed(w, at, count, heads, wt)
                        parts.for_heads(a, wt, heads, number, d, count, scaled)
                    product_add(factors, 0, wide, 1, x, 0, places, z, 0, spots, heads * number, wide, mul)
                else:
                    f = first
                    while f < last:  # path by path: its weights go into copies of the sources
                        stop = parts.end_of_path(functions, f, last)
                        line, step = parts.weights(
                            kind, (w, v), at, count, (functions[f, 5], mul), (inner, width), made
                        )
                        for t in range(count):
                            for m in range(d):
                                k = m * count + t
                                line_set(x, places[k], weights, line + t * step, weighted, k * mul, mul)
                        product_add(
                            a, (f - first) * wide, wide, 1,
                            weighted, 0, mul,
                            z, 0, spots[f - first :],
                            stop - f, wide, mul,
                        )  # fmt: skip
                        f = stop
                at += count


@njit(parallel=True, **OPTIONS)
def couple(given, rows, tables, sizes, z):  # type: ignore[no-untyped-def]
    """z (planar groups) from ``given``: x (planar blocks), y (E * S,), w (E * width,), v (K * channels,)."""
    number = len(rows[0]) - 1
    for task in prange((number + TASK - 1) // TASK):
        _couple_rows((task * TASK, min((task + 1) * TASK, number)), given, rows, tables, sizes, z)


@njit(**OPTIONS)
def _couple_back_task(task, given, rows, tables, sizes, gx):  # type: ignore[no-untyped-def]
    """``couple_back`` for one of its tasks."""
    g, y, w, v = given
    indptr, sources, order = rows
    blocks, functions, _, _ = tables
    kind, heads, inner, width, dim, num_source, num_target = sizes
    one = g.dtype.type(1)
    b, low, n = task[0], task[1], task[2] - task[1]
    base, d, mul = num_source * blocks[b, 0], blocks[b, 1], blocks[b, 2]
    first, last = blocks[b, 3], blocks[b, 4]
    number = last - first
    yt = np.empty(dim * PIECE, y.dtype)
    wt = np.empty(heads * PIECE, y.dtype)
    a = np.empty(number * d * PIECE, g.dtype)
    scaled = np.empty(number * d * PIECE * heads if kind == 1 else 0, g.dtype)
    factors = scaled if kind == 1 else a
    part = np.empty(d * PIECE * n if kind > 1 else 0, g.dtype)
    made = np.empty(PIECE * n if kind == 3 else 0, g.dtype)
    weights = made if kind == 3 else w
    sums = np.empty(d * PIECE * n, g.dtype)
    places = np.empty(d * PIECE, np.int64)
    spots = np.empty(heads * number, np.int64)
    for r in range(len(indptr) - 1):
        i = order[r] if len(order) else np.int64(r)
        if len(order):
            parts.prefetch_rows(r, (b, b + 1), (gx, y, w, g), rows, blocks, functions, sizes)
        if indptr[i] == indptr[i + 1]:
            continue
        parts.target_places(functions, first, number, i, heads, num_target, spots)
        at = indptr[i]
        while at < indptr[i + 1]:
            count = min(PIECE, indptr[i + 1] - at)
            wide = d * count
            parts.coefficients(y, at, count, dim, tables, b, yt, a)
            parts.source_places(sources, at, count, base, d, mul, places)
            if kind < 2:
                if kind == 1:
                    parts.transposed(w, at, count, heads, wt)
                    parts.for_heads(a, wt, heads, number, d, count, scaled)
                product_set(factors, 0, 1, wide, g, low, spots, sums, 0, n, wide, heads * number, n)
            else:
                for k in range(wide * n):
                    sums[k] = 0
                f = first
                while f < last:
                    end = parts.end_of_path(functions, f, last)
                    product_set(
                        a, (f - first) * wide, 1, wide,
                        g, low, spots[f - first :],
                        part, 0, n,
                        wide, end - f, n,
                    )  # fmt: skip
                    line, step = parts.weights(
                        kind, (w, v), at, count, (functions[f, 5] + low, n), (inner, width), made
                    )
                    for t in range(count):
                        for m in range(d):
                            k = (m * count + t) * n
                            line_add(part, k, weights, line + t * step, sums, k, n)
                    f = end
            for k in range(wide):  # one by one: pairs may share a source
                line_add(sums, k * n, one, 0, gx, places[k] + low, n)
            at += count


@njit(parallel=True, **OPTIONS)
def couple_back(given, rows, tables, sizes, tasks, gx):  # type: ignore[no-untyped-def]
    """gx (planar blocks, zero before) from ``given``: g (planar groups), y, w and v.

    Rows of g are read once and what their pairs get is added at the sources. ``tasks`` (n, 3) names a block and a range of
    its channels: no two tasks write to the same place.
    """
    for task in prange(len(tasks)):
        _couple_back_task(tasks[task], given, rows, tables, sizes, gx)


@njit(**OPTIONS)
def _of_heads(a, p, w, at, shape, wanted, wt, gw):  # type: ignore[no-untyped-def]
    """Gradients of weights that every path multiplies with, gw[t, h] += sum_fm a p_h; then p = sum_h w[t, h] p_h.

    ``shape`` (heads, functions, components, pairs), ``wanted`` (of pairs' features, of weights).
    """
    heads, number, d, count = shape
    want_y, want_w = wanted
    lines = number * d
    if want_w:
        for k in range(heads * PIECE):
            wt[k] = 0
        for h in range(heads):
            for k in range(lines):
                line_add(a, k * count, p, (h * lines + k) * count, wt, h * PIECE, count)
        for t in range(count):
            for h in range(heads):
                gw[(at + t) * heads + h] += wt[h * PIECE + t]
    if want_y:
        parts.transposed(w, at, count, heads, wt)
        for k in range(lines):
            line_set(p, k * count, wt, 0, p, k * count, count)
            for h in range(1, heads):
                line_add(p, (h * lines + k) * count, wt, h * PIECE, p, k * count, count)


@njit(**OPTIONS)
def _couple_pairs_rows(stretch, given, rows, tables, sizes, wanted, results):  # type: ignore[no-untyped-def]
    """``couple_pairs`` for the stretch (begin, end) of the order."""
    begin, end = stretch
    x, y, w, v, g = given
    gy, gw, gv = results
    indptr, sources, order = rows
    blocks, functions, entries, values = tables
    kind, heads, inner, width, dim, num_source, num_target = sizes
    want_y, want_w, want_v = wanted
    components, most, coefficients, numbers = parts.largest(blocks, heads)
    yt = np.empty(dim * PIECE, y.dtype)
    back = np.empty(dim * PIECE, y.dtype)
    wt = np.empty(heads * PIECE, y.dtype)
    a = np.empty(coefficients * PIECE, x.dtype)
    p = np.empty(most * components * PIECE, x.dtype)
    part = np.empty(numbers * PIECE if kind > 1 else 0, x.dtype)
    made = np.empty(numbers * PIECE if kind == 3 else 0, x.dtype)
    weights = made if kind == 3 else w
    slopes = np.empty(numbers * PIECE, x.dtype) if kind == 3 else gw
    places = np.empty(components * PIECE, np.int64)
    spots = np.empty(most, np.int64)
    for r in range(begin, end):
        i = order[r] if len(order) else np.int64(r)
        if len(order):
            parts.prefetch_rows(r, (0, len(blocks)), (x, y, w, g), rows, blocks, functions, sizes)
        for b in range(len(blocks)):
            base, d, mul = num_source * blocks[b, 0], blocks[b, 1], blocks[b, 2]
            first, last = blocks[b, 3], blocks[b, 4]
            number = last - first
            parts.target_places(functions, first, number, i, heads, num_target, spots)
            at = indptr[i]
            while at < indptr[i + 1]:
                count = min(PIECE, indptr[i + 1] - at)
                wide = d * count
                parts.source_places(sources, at, count, base, d, mul, places)
                if kind > 0 and (want_w or want_v):
                    parts.coefficients(y, at, count, dim, tables, b, yt, a)
                for k in range(heads * number * wide if kind < 2 or want_y else 0):
                    p[k] = 0
                if kind < 2:
                    products_of_rows(g, 0, spots, x, 0, places, p, 0, wide, 1, heads * number, wide, mul)
                else:
                    f = first
                    while f < last:
                        stop = parts.end_of_path(functions, f, last)
                        begins, mine = (f - first) * wide, spots[f - first :]
                        if want_w or want_v:
                            line, step = (
                                (np.int64(0), mul) if kind == 3 else (at * width + functions[f, 5], width)
                            )
                            product_set(a, begins, 1, wide, g, 0, mine, part, 0, mul, wide, stop - f, mul)
                            for t in range(count):
                                line_set(part, t * mul, x, places[t], slopes, line + t * step, mul)
                                for m in range(1, d):
                                    k = m * count + t
                                    line_add(part, k * mul, x, places[k], slopes, line + t * step, mul)
                            column = functions[f, 5]
                            if kind == 3 and want_w:
                                products_of_rows(
                                    slopes, 0, mul,
                                    v, column, width,
                                    gw, at * inner, inner, 1,
                                    count, inner, mul,
                                )  # fmt: skip
                            if kind == 3 and want_v:
                                product_add(
                                    w, at * inner, 1, inner,
                                    slopes, 0, mul,
                                    gv, column, width,
                                    inner, count, mul,
                                )  # fmt: skip
                        if want_y:
                            line, step = parts.weights(
                                kind, (w, v), at, count, (functions[f, 5], mul), (inner, width), made
                            )
                            for t in range(count):
                                for m in range(d):
                                    k = m * count + t
                                    line_set(x, places[k], weights, line + t * step, part, k * mul, mul)
                            products_of_rows(
                                g, 0, mine, part, 0, mul, p, begins, wide, 1, stop - f, wide, mul
                            )
                        f = stop
                if kind == 1:
                    _of_heads(a, p, w, at, (heads, number, d, count), (want_y, want_w), wt, gw)
                if want_y:
                    for k in range(dim * PIECE):
                        back[k] = 0
                    for n in range(blocks[b, 5], blocks[b, 6]):
                        source = (entries[n, 0] - first) * wide + entries[n, 1] * count
                        line_add(p, source, values[n], 0, back, entries[n, 2] * PIECE, count)
                    for t in range(count):
                        for m in range(dim):
                            gy[(at + t) * dim + m] += back[m * PIECE + t]
                at += count


@njit(parallel=True, **OPTIONS)
def couple_pairs(given, rows, tables, sizes, wanted, results):  # type: ignore[no-untyped-def]
    """Gradients of y, w and v as wanted from ``given``, x, y, w, v and g.

    ``results``: gy (E * S,), gw (E * width,), gv (tasks, K * channels); zero before, but gw of kind 2.

    A task takes a range of rows, and its sum for v is its own: sums do not depend on the number of threads.
    """
    gy, gw, gv = results
    number, tasks = len(rows[0]) - 1, len(gv)
    for task in prange(tasks):
        begin, end = number * task // tasks, number * (task + 1) // tasks
        _couple_pairs_rows((begin, end), given, rows, tables, sizes, wanted, (gy, gw, gv[task]))
