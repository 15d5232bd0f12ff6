"""Sums over pairs of products with fixed structure constants, row by row, nothing of size pairs x functions kept.

A row's pairs are taken a few at a time. Their coefficients a[f, (m1, t)] = sum_m2 C[f, m1, m2] y[t, m2] are made side by side
(t runs fastest), and all arithmetic over channels is one micro-kernel. Rows are taken as ``order`` says (empty: 0, 1, 2, ...), so
that sources of one row are still in cache for the next. Tables are those of
:class:`spheregeo.sparse.engines.coupling.Tables`; ``kind`` 0 means no weights, 1 weights (E, H) that every path multiplies with,
2 weights of each path's channels.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from spheregeo.sparse.engines.kernels.product import OPTIONS, accumulate

PIECE = 16  # pairs whose coefficients are held at a time


@njit(**OPTIONS)
def _transposed(y, pairs, dim, out):  # type: ignore[no-untyped-def]
    """out[m2, t] = y[pairs[t], m2]."""
    for t in range(len(pairs)):
        at = pairs[t] * dim
        for m in range(dim):
            out[m, t] = y[at + m]


@njit(**OPTIONS)
def _fill(yt, entries, values, begin, end, first, count, a):  # type: ignore[no-untyped-def]
    """Coefficients a (F, d * count) from transposed pair features."""
    a[:] = 0
    for n in range(begin, end):
        f, m1, value = entries[n, 0] - first, entries[n, 1], values[n]
        source, goal = yt[entries[n, 2]], a[f, m1 * count : (m1 + 1) * count]
        for t in range(count):
            goal[t] += value * source[t]


@njit(**OPTIONS)
def _end_of_path(functions, f, last):  # type: ignore[no-untyped-def]
    """One past the last function of the path that begins at f."""
    end = f + 1
    while end < last and functions[end, 5] == functions[f, 5]:
        end += 1
    return end


@njit(**OPTIONS)
def _spread(a, w, pairs, heads, functions, count, out):  # type: ignore[no-untyped-def]
    """out[h * F + f, (m1, t)] = w[t, h] a[f, (m1, t)]."""
    degree = a.shape[1] // count
    for h in range(heads):
        for f in range(functions):
            row, goal = a[f], out[h * functions + f]
            for m in range(degree):
                for t in range(count):
                    goal[m * count + t] = row[m * count + t] * w[pairs[t] * heads + h]


@njit(parallel=True, **OPTIONS)
def couple(  # type: ignore[no-untyped-def]
    x, y, w, indptr, nbr, order, blocks, functions, entries, values, kind, heads, width, dim, ns, nt, block, z
):  # type: ignore[no-untyped-def]
    """z (planar groups of nt rows) from x (planar blocks of ns rows), y (E * S,), w (E * width,)."""
    rows = len(indptr) - 1
    largest = np.int64(1)  # coefficients of one pair
    most = np.int64(1)  # sums
    thickest = np.int64(1)  # numbers of one source
    for b in range(len(blocks)):
        thickest = max(thickest, blocks[b, 1] * blocks[b, 2])
        count = blocks[b, 4] - blocks[b, 3]
        largest = max(largest, count * blocks[b, 1])
        most = max(most, heads * count * blocks[b, 2])
    tasks = (rows + block - 1) // block
    for task in prange(tasks):
        pairs = np.empty(PIECE, np.int64)
        yt = np.empty((dim, PIECE), y.dtype)
        plain = np.empty(largest * PIECE, x.dtype)
        spread = np.empty(largest * PIECE * heads if kind == 1 else 0, x.dtype)
        sums = np.empty(most, x.dtype)
        product = np.empty(PIECE * thickest if kind == 2 else 0, x.dtype)
        places = np.empty(PIECE * dim_of(blocks), np.int64)
        own = np.empty(PIECE * dim_of(blocks), np.int64)
        for r in range(task * block, min((task + 1) * block, rows)):
            i = order[r] if len(order) else np.int64(r)
            for b in range(len(blocks)):
                base, d, mul = ns * blocks[b, 0], blocks[b, 1], blocks[b, 2]
                first, last = blocks[b, 3], blocks[b, 4]
                number = last - first
                total = sums[: heads * number * mul].reshape(heads * number, mul)
                total[:] = 0
                at = indptr[i]
                while at < indptr[i + 1]:
                    count = min(PIECE, indptr[i + 1] - at)
                    for t in range(count):
                        pairs[t] = at + t
                    _transposed(y, pairs[:count], dim, yt)
                    a = plain[: number * d * count].reshape(number, d * count)
                    _fill(yt, entries, values, blocks[b, 5], blocks[b, 6], first, count, a)
                    for t in range(count):
                        here = base + nbr[at + t] * d * mul
                        for m in range(d):
                            places[m * count + t] = here + m * mul
                    if kind == 0:
                        accumulate(a, x, places[: d * count], total, mul)
                    elif kind == 1:
                        scaled = spread[: heads * number * d * count].reshape(heads * number, d * count)
                        _spread(a, w, pairs[:count], heads, number, count, scaled)
                        accumulate(scaled, x, places[: d * count], total, mul)
                    else:
                        f = first
                        while f < last:  # path by path: its weights go into copies of the sources
                            end = _end_of_path(functions, f, last)
                            for t in range(count):
                                begin = (at + t) * width + functions[f, 5]
                                weight = w[begin : begin + mul]
                                for m in range(d):
                                    k = m * count + t
                                    source = x[places[k] : places[k] + mul]
                                    goal = product[k * mul : (k + 1) * mul]
                                    for c in range(mul):
                                        goal[c] = weight[c] * source[c]
                                    own[k] = k * mul
                            accumulate(
                                a[f - first : end - first],
                                product,
                                own[: d * count],
                                total[f - first : end - first],
                                mul,
                            )
                            f = end
                    at += count
                for h in range(heads):
                    for f in range(number):
                        place = place_of(functions, first + f, i, h, heads, nt)
                        row, goal = total[h * number + f], z[place : place + mul]
                        for c in range(mul):
                            goal[c] = row[c]


@njit(**OPTIONS)
def dim_of(blocks):  # type: ignore[no-untyped-def]
    """The largest number of components of a block."""
    largest = np.int64(1)
    for b in range(len(blocks)):
        largest = max(largest, blocks[b, 1])
    return largest


@njit(**OPTIONS)
def place_of(functions, f, i, h, heads, nt):  # type: ignore[no-untyped-def]
    """Where the channels of function f of row i and head h begin among the planar groups."""
    columns = functions[f, 3] * heads
    return (
        nt * functions[f, 0] * heads
        + i * functions[f, 1] * heads
        + functions[f, 2] * columns
        + h * functions[f, 3]
        + functions[f, 4]
    )


@njit(parallel=True, **OPTIONS)
def couple_back(  # type: ignore[no-untyped-def]
    g,
    y,
    w,
    indptr,
    nbr,
    order,
    blocks,
    functions,
    entries,
    values,
    kind,
    heads,
    width,
    dim,
    ns,
    nt,
    tasks,
    gx,
):  # type: ignore[no-untyped-def]
    """gx (planar blocks of ns rows, zero before) from g (planar groups of nt rows).

    Rows of g are read once and what their pairs get is added at the sources. ``tasks`` (n, 3) names a block and a range of
    its channels: no two tasks write to the same place.
    """
    rows = len(indptr) - 1
    for task in prange(len(tasks)):
        b, low, high = tasks[task, 0], tasks[task, 1], tasks[task, 2]
        base, d, mul = ns * blocks[b, 0], blocks[b, 1], blocks[b, 2]
        first, last = blocks[b, 3], blocks[b, 4]
        number, n = last - first, high - low
        pairs = np.empty(PIECE, np.int64)
        yt = np.empty((dim, PIECE), y.dtype)
        plain = np.empty(number * d * PIECE, g.dtype)
        spread = np.empty(number * d * PIECE * heads if kind == 1 else 0, g.dtype)
        local = np.empty(heads * number * n, g.dtype)
        weighted = np.empty(d * PIECE * n if kind == 2 else 0, g.dtype)
        sums = np.empty(d * PIECE * n, g.dtype)
        places = np.arange(heads * number) * n
        for r in range(rows):
            i = order[r] if len(order) else np.int64(r)
            if indptr[i] == indptr[i + 1]:
                continue
            for h in range(heads):
                for f in range(number):
                    place = place_of(functions, first + f, i, h, heads, nt) + low
                    at = (h * number + f) * n
                    source, goal = g[place : place + n], local[at : at + n]
                    for c in range(n):
                        goal[c] = source[c]
            at = indptr[i]
            while at < indptr[i + 1]:
                count = min(PIECE, indptr[i + 1] - at)
                for t in range(count):
                    pairs[t] = at + t
                _transposed(y, pairs[:count], dim, yt)
                a = plain[: number * d * count].reshape(number, d * count)
                _fill(yt, entries, values, blocks[b, 5], blocks[b, 6], first, count, a)
                out = sums[: d * count * n].reshape(d * count, n)
                out[:] = 0
                if kind == 0:
                    accumulate(a.T, local, places, out, n)
                elif kind == 1:
                    scaled = spread[: heads * number * d * count].reshape(heads * number, d * count)
                    _spread(a, w, pairs[:count], heads, number, count, scaled)
                    accumulate(scaled.T, local, places, out, n)
                else:
                    f = first
                    while f < last:
                        end = _end_of_path(functions, f, last)
                        part = weighted[: d * count * n].reshape(d * count, n)
                        part[:] = 0
                        accumulate(
                            a[f - first : end - first].T, local, places[f - first : end - first], part, n
                        )
                        for t in range(count):
                            begin = (at + t) * width + functions[f, 5] + low
                            weight = w[begin : begin + n]
                            for m in range(d):
                                row, goal = part[m * count + t], out[m * count + t]
                                for c in range(n):
                                    goal[c] += weight[c] * row[c]
                        f = end
                for t in range(count):
                    start = base + nbr[at + t] * d * mul + low
                    for m in range(d):
                        row, goal = out[m * count + t], gx[start + m * mul : start + m * mul + n]
                        for c in range(n):
                            goal[c] += row[c]
                at += count


@njit(parallel=True, **OPTIONS)
def couple_pairs(  # type: ignore[no-untyped-def]
    x,
    y,
    w,
    g,
    indptr,
    nbr,
    order,
    blocks,
    functions,
    entries,
    values,
    kind,
    heads,
    width,
    dim,
    ns,
    nt,
    block,
    want_y,
    want_w,
    gy,
    gw,
):  # type: ignore[no-untyped-def]
    """Gradients of the pairs' features and weights as wanted: gy (E * S,), gw (E * width,); zero before, but gw of kind 2."""
    rows = len(indptr) - 1
    largest, most, widest, thickest = np.int64(1), np.int64(1), np.int64(1), np.int64(1)
    for b in range(len(blocks)):
        thickest = max(thickest, blocks[b, 1] * blocks[b, 2])
        count = blocks[b, 4] - blocks[b, 3]
        largest = max(largest, count * blocks[b, 1])
        most = max(most, heads * count * blocks[b, 2])
        widest = max(widest, heads * count * blocks[b, 1])
    tasks = (rows + block - 1) // block
    for task in prange(tasks):
        pairs = np.empty(PIECE, np.int64)
        yt = np.empty((dim, PIECE), y.dtype)
        back = np.empty((dim, PIECE), y.dtype)
        plain = np.empty(largest * PIECE, x.dtype)
        products = np.empty(widest * PIECE, x.dtype)
        local = np.empty(most, x.dtype)
        temporary = np.empty(PIECE * thickest if kind == 2 else 0, x.dtype)
        turned = np.empty(thickest * PIECE, x.dtype)
        begins = np.empty(thickest, np.int64)
        own = np.empty(most, np.int64)
        places = np.empty(PIECE * dim_of(blocks), np.int64)
        for r in range(task * block, min((task + 1) * block, rows)):
            i = order[r] if len(order) else np.int64(r)
            for b in range(len(blocks)):
                base, d, mul = ns * blocks[b, 0], blocks[b, 1], blocks[b, 2]
                first, last = blocks[b, 3], blocks[b, 4]
                number = last - first
                here = local[: heads * number * mul].reshape(heads * number, mul)
                for f in range(number):
                    own[f] = f * mul
                for h in range(heads):
                    for f in range(number):
                        place = place_of(functions, first + f, i, h, heads, nt)
                        source, goal = g[place : place + mul], here[h * number + f]
                        for c in range(mul):
                            goal[c] = source[c]
                at = indptr[i]
                while at < indptr[i + 1]:
                    count = min(PIECE, indptr[i + 1] - at)
                    for t in range(count):
                        pairs[t] = at + t
                        start = base + nbr[at + t] * d * mul
                        for m in range(d):
                            places[m * count + t] = start + m * mul
                    if kind > 0 and want_w:
                        _transposed(y, pairs[:count], dim, yt)
                        a = plain[: number * d * count].reshape(number, d * count)
                        _fill(yt, entries, values, blocks[b, 5], blocks[b, 6], first, count, a)
                    p = products[: heads * number * d * count].reshape(heads * number, d * count)
                    p[:] = 0
                    if (
                        kind < 2
                    ):  # channels come first, so that the product's inner loop runs over components and pairs
                        wide = d * count
                        for k in range(wide):
                            source = x[places[k] : places[k] + mul]
                            for c in range(mul):
                                turned[c * wide + k] = source[c]
                        for c in range(mul):
                            begins[c] = c * wide
                        accumulate(here, turned, begins[:mul], p, wide)
                    else:
                        wide = d * count
                        for c in range(mul):
                            begins[c] = c * wide
                        f = first
                        while f < last:
                            end = _end_of_path(functions, f, last)
                            if want_w:
                                part = temporary[: wide * mul].reshape(wide, mul)
                                part[:] = 0
                                accumulate(
                                    a[f - first : end - first].T,
                                    local,
                                    own[f - first : end - first],
                                    part,
                                    mul,
                                )
                                for t in range(count):
                                    begin = (at + t) * width + functions[f, 5]
                                    goal = gw[begin : begin + mul]
                                    for m in range(d):
                                        place = places[m * count + t]
                                        source, row = x[place : place + mul], part[m * count + t]
                                        if m == 0:
                                            for c in range(mul):
                                                goal[c] = row[c] * source[c]
                                        else:
                                            for c in range(mul):
                                                goal[c] += row[c] * source[c]
                            if want_y:
                                for t in range(count):
                                    begin = (at + t) * width + functions[f, 5]
                                    weight = w[begin : begin + mul]
                                    for m in range(d):
                                        k = m * count + t
                                        source = x[places[k] : places[k] + mul]
                                        for c in range(mul):
                                            turned[c * wide + k] = weight[c] * source[c]
                                accumulate(
                                    here[f - first : end - first],
                                    turned,
                                    begins[:mul],
                                    p[f - first : end - first],
                                    wide,
                                )
                            f = end
                    if kind == 1 and want_w:
                        for h in range(heads):
                            for f in range(number):
                                row, mine = a[f], p[h * number + f]
                                for m in range(d):
                                    for t in range(count):
                                        gw[(at + t) * heads + h] += row[m * count + t] * mine[m * count + t]
                    if not want_y:
                        at += count
                        continue
                    if kind == 1:
                        for h in range(heads):
                            for f in range(number):
                                mine, goal = p[h * number + f], p[f]
                                for m in range(d):
                                    for t in range(count):
                                        k = m * count + t
                                        value = mine[k] * w[(at + t) * heads + h]
                                        if h == 0:
                                            goal[k] = value
                                        else:
                                            goal[k] += value
                    back[:] = 0
                    for n in range(blocks[b, 5], blocks[b, 6]):
                        f, m1, value = entries[n, 0] - first, entries[n, 1], values[n]
                        goal, source = back[entries[n, 2]], p[f, m1 * count : (m1 + 1) * count]
                        for t in range(count):
                            goal[t] += value * source[t]
                    for t in range(count):
                        start = (at + t) * dim
                        for m in range(dim):
                            gy[start + m] += back[m, t]
                    at += count
