"""Contractions of tangent fields, row by row: each neighbour's fields times the row's complex coefficients, summed.

Rows that share coefficients are done side by side: wherever consecutive rows have consecutive neighbours, their fields are a
stretch of memory as they stand, and the coefficients, made once for all rows, turn them into their frames. A row by itself turns
its neighbours' fields first, which leaves the table's own numbers for coefficients.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.inner import line_add, line_set, no_inline
from spheregeo.sparse.engines.kernels.options import OPTIONS
from spheregeo.sparse.engines.kernels.product import product_set


@njit(**OPTIONS)
def _place(place, q):  # type: ignore[no-untyped-def]
    """Where a source point's features stand; in the order of the points where ``place`` is empty."""
    return np.int64(place[q]) if len(place) else np.int64(q)


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

    ``fields`` (columns of the sums, the row's first, input order, number of fields).
    """
    columns, first, m, count = fields
    size = rings * count
    f = first
    for o in range(len(targets)):
        n = targets[o, 0]
        at = offsets[o, i]
        if m == 0:
            for k in range((1 if n == 0 else 2) * rings):
                goal = at + k * count
                for c in range(count):
                    out[goal + c] = sums[f + c]
                f += columns
            continue
        for _ in range(2 if n > 0 else 1):
            for k in range(rings):
                a, b = f + k * columns, f + (rings + k) * columns
                re, im = at + k * count, at + size + k * count
                for c in range(count):
                    real = sums[a + c] - sums[b + count + c]
                    imaginary = sums[a + count + c] + sums[b + c]
                    out[re + c], out[im + c] = real, imaginary
            at += 2 * size
            f += 2 * rings * columns


@njit(**OPTIONS)
def _turned_back(table, order, stretch, rings, top, out):  # type: ignore[no-untyped-def]
    """Coefficients of the adjoint, c_j e^(-i j g) for j = 0 ... top by real and imaginary parts, a row of ``out`` a pair."""
    begin, taps = stretch
    turn = table.shape[1] - 2
    for t in range(taps):
        row, goal = table[order[begin + t] if len(order) else begin + t], out[t]
        cos, sin = row[turn], -row[turn + 1]
        c, s = row[turn] * 0 + 1, row[turn] * 0
        for k in range(rings):
            goal[k] = row[k]
        for j in range(1, top + 1):
            c, s = c * cos - s * sin, s * cos + c * sin
            first = rings * (2 * j - 1)
            for k in range(first, first + rings):
                a, b = row[k], row[k + rings]
                goal[k] = a * c - b * s
                goal[k + rings] = a * s + b * c


@njit(**OPTIONS)
def _turn(x, at, turn, m, count, out, here):  # type: ignore[no-untyped-def]
    """Fields of order m, [Re | Im] at x[at], times e^(i m g): to out[here]; ``turn`` is cosine and sine of g."""
    cos, sin = turn
    c, s = cos, sin
    for _ in range(m - 1):
        c, s = c * cos - s * sin, s * cos + c * sin
    line_set(x, at, c, 0, out, here, count)
    line_add(x, at + count, -s, 0, out, here, count)
    line_set(x, at, s, 0, out, here + count, count)
    line_add(x, at + count, c, 0, out, here + count, count)


@njit(**OPTIONS)
def _finish_turned(sums, m, count, targets, offsets, i, rings, out):  # type: ignore[no-untyped-def]
    """Write one row's contractions of one input order, from the sums of cosine and sine parts times [Re F | Im F]."""
    size = rings * count
    w = count if m == 0 else 2 * count
    for o in range(len(targets)):
        n = targets[o, 0]
        at = offsets[o, i]
        if m == 0:
            first = rings * max(2 * n - 1, 0) * count
            line_set(sums, first, sums[0] * 0 + 1, 0, out, at, (1 if n == 0 else 2) * size)
            continue
        for way in range(2 if n > 0 else 1):
            j = n - m if way == 0 else -n - m
            sign = sums[0] * 0 + (1 if j > 0 else -1)
            first = rings * max(2 * abs(j) - 1, 0)
            for k in range(rings):
                a, b = (first + k) * w, (first + rings + k) * w
                here = at + k * count
                line_set(sums, a, abs(sign), 0, out, here, count)
                line_set(sums, a + count, abs(sign), 0, out, here + size, count)
                if j != 0:
                    line_add(sums, b + count, -sign, 0, out, here, count)
                    line_add(sums, b, sign, 0, out, here + size, count)
            at += 2 * size


@njit(**OPTIONS)
def _single(x, table, pairs, fields, sizes, work, p, out):  # type: ignore[no-untyped-def]
    """The contractions of one row by itself."""
    indptr, indices, start, _, order = pairs
    sources, targets, offsets = fields
    no_inline()
    rings, adjoint, points, top = sizes
    coefficients, gathered, places, sums, place = work
    begin, taps = indptr[p], indptr[p + 1] - indptr[p]
    stride = table.shape[1]
    turn = stride - 2
    if adjoint:
        highest = 0
        for i in range(len(sources)):
            highest = max(highest, sources[i, 0])
        _turned_back(table, order, (start[p], taps), rings, top + highest, coefficients)
    for i in range(len(sources)):
        m, channel, count = sources[i, 0], sources[i, 1], sources[i, 2]
        w = count if m == 0 else 2 * count
        used = rings * (2 * (top + m) + 1)
        first = channel * points
        if m == 0:
            for t in range(taps):
                places[t] = first + _place(place, indices[begin + t]) * w
        else:
            for t in range(taps):
                row = table[order[start[p] + t] if len(order) else start[p] + t]
                sin = -row[turn + 1] if adjoint else row[turn + 1]
                q = first + _place(place, indices[begin + t]) * w
                _turn(x, q, (row[turn], sin), m, count, gathered, t * w)
                places[t] = t * w
        given = x if m == 0 else gathered
        if adjoint:
            product_set(
                coefficients, 0, 1, coefficients.shape[1], given, 0, places, sums, 0, w, used, taps, w
            )
        else:
            product_set(table, start[p] * stride, 1, stride, given, 0, places, sums, 0, w, used, taps, w)
        _finish_turned(sums, m, count, targets, offsets, i, rings, out)


@njit(**OPTIONS)
def tangent_runs(indptr, indices, start, members, place, sizes, runs, taps_of, begins):  # type: ignore[no-untyped-def]
    """Runs of rows that share coefficients, among members, and where their neighbours follow one another.

    ``sizes`` (most rows of a run, rows of a task; no run is in two tasks). Run r is members[runs[r] : runs[r + 1]], and
    begins[taps_of[r] + t] is the first of its t-th neighbours if they follow one another, else -1. Returns the numbers of runs
    and of their taps, and only counts where ``runs`` is empty.
    """
    most, task = sizes
    number = len(members)
    at, count, tap = 0, 0, 0
    while at < number:
        p = np.int64(members[at])
        taps = indptr[p + 1] - indptr[p]
        last = at + 1
        while last < min(at + most, number) and last % task:
            other = np.int64(members[last])
            if start[other] != start[p] or indptr[other + 1] - indptr[other] != taps:
                break
            last += 1
        if len(runs):
            runs[count], taps_of[count] = at, tap
            for t in range(taps):
                begin = _place(place, indices[indptr[p] + t])
                begins[tap + t] = begin
                for j in range(1, last - at):
                    if _place(place, indices[indptr[np.int64(members[at + j])] + t]) != begin + j:
                        begins[tap + t] = -1
                        break
        count, tap, at = count + 1, tap + taps, last
    if len(runs):
        runs[count] = number
    return count, tap


@njit(**OPTIONS)
def _copy(x, at, out, here, n):  # type: ignore[no-untyped-def]
    """out[here : here + n] = x[at : at + n], compiled once."""
    no_inline()
    line_set(x, at, x[at] * 0 + 1, 0, out, here, n)


@njit(**OPTIONS)
def _together(x, pairs, begins, fields, sizes, work, run, z):  # type: ignore[no-untyped-def]
    """The contractions of ``run`` (first, rows) members that share coefficients, side by side; ``begins`` is of this run."""
    indptr, indices, _, members, _ = pairs
    sources, targets, offsets = fields
    rings, _, points, scratch = sizes
    coefficients, uses, places, sums, place = work
    at, count = run
    p = np.int64(members[at])
    taps = indptr[p + 1] - indptr[p]
    longest = coefficients.shape[1]
    before = 0
    for i in range(len(sources)):
        m, channel, fields_in = sources[i, 0], sources[i, 1], sources[i, 2]
        w = fields_in if m == 0 else 2 * fields_in
        n = count * w
        first, here = channel * points, scratch
        for t in range(taps):
            if begins[t] >= 0:
                places[t] = first + np.int64(begins[t]) * w
                continue
            places[t] = here
            for j in range(count):
                q = first + _place(place, indices[indptr[np.int64(members[at + j])] + t]) * w
                _copy(x, q, x, here, w)
                here += w
        used = uses[i]
        product_set(coefficients, before * longest, longest, 1, x, 0, places, sums, 0, n, used, taps, n)
        before += used
        for j in range(count):
            _finish(sums, (n, j * w, m, fields_in), targets, offsets, i, rings, z[j])


@njit(parallel=True, **OPTIONS)
def tangent_contract(x, place, table, pairs, runs, fields, sizes, stretch, z):  # type: ignore[no-untyped-def]
    """z (last - first, contractions) from x, for the stretch (first, last) of the rows.

    x (I*Q + threads scratch,) holds planar features order by order, (Q, channels of the order) each, with points
    where ``place`` says. ``pairs`` (indptr, indices,
    start, members, order): row p reads ``table`` rows order[start[p]], order[start[p] + 1], ... (an empty ``order`` counts as
    0, 1, 2, ...). With ``members`` the rows are members[first:last], in ``runs`` (first run of each task and the three of
    ``tangent_runs``) that are done side by side.
    ``fields``: sources and targets (blocks, 3) hold order, first channel and fields, offsets say where a pair's contractions go.
    ``table`` (T, K + 2) holds coefficients by frequency, then cos g and sin g. ``sizes`` (rings, whether adjoint, pairs of the
    longest row, rows of a run, rows of a task, Q, scratch).
    """
    indptr, _, start, members, order = pairs
    run_of, run_first, taps_of, begins = runs
    sources, targets, _ = fields
    rings, adjoint, longest, most, rows, points, scratch = sizes
    first, last = stretch
    widest = np.int64(1)
    highest = top = channels = np.int64(0)
    for i in range(len(sources)):
        w = sources[i, 2] * (1 if sources[i, 0] == 0 else 2)
        widest, channels = max(widest, w), channels + w
        highest = max(highest, sources[i, 0])
    for o in range(len(targets)):
        top = max(top, targets[o, 0])
    functions = max(4 * rings * len(targets), rings * (2 * (top + highest) + 1))
    listed = len(members) > 0
    number = (last - first + rows - 1) // rows
    for task in prange(number):
        own = channels * points + scratch * get_thread_id()
        kinds, joint = (rings, adjoint, points, top), (rings, adjoint, points, own)
        single = np.empty((longest, functions), x.dtype)
        shared = np.empty((functions * len(sources) if listed else 1, longest), x.dtype)
        uses, places = np.empty(len(sources), np.int64), np.empty(longest, np.int64)
        sums = np.empty(functions * widest * (most if listed else 1), x.dtype)
        gathered = x[own : own + scratch]
        if not listed:
            for p in range(first + task * rows, min(first + (task + 1) * rows, last)):
                _single(
                    x, table, pairs, fields, kinds, (single, gathered, places, sums, place), p, z[p - first]
                )
            continue
        known = length = -1  # first pair and pairs whose coefficients are at hand
        here = first // rows + task
        for r in range(run_of[here], run_of[here + 1]):
            at, end = run_first[r], run_first[r + 1]
            row = np.int64(members[at])
            goal = z[at - first : end - first]
            if end - at == 1:
                _single(x, table, pairs, fields, kinds, (single, gathered, places, sums, place), row, goal[0])
                continue
            taps = indptr[row + 1] - indptr[row]
            if start[row] != known or taps != length:
                known, length, before = start[row], taps, 0
                for i in range(len(sources)):
                    out = shared[before:]
                    uses[i] = _coefficients(
                        table, order, (known, taps), sources[i, 0], targets, (rings, adjoint), out
                    )
                    before += uses[i]
            work = (shared, uses, places, sums, place)
            _together(x, pairs, begins[taps_of[r] :], fields, joint, work, (at, end - at), goal)


@njit(parallel=True, **OPTIONS)
def tangent_planar(x, channels, blocks, place, out):  # type: ignore[no-untyped-def]
    """out (I*Q,) order by order, (Q, channels of the order), from x (Q, I) of any strides.

    ``channels`` (I,) is the channel of x for each planar one; ``blocks`` (orders, 3) hold order, first channel, fields;
    ``place`` says where points go.
    """
    length, points = 256, len(x)
    for task in prange((points + length - 1) // length):
        first, last = task * length, min((task + 1) * length, points)
        for i in range(len(blocks)):
            start = blocks[i, 1]
            w = blocks[i, 2] * (1 if blocks[i, 0] == 0 else 2)
            for q in range(first, last):
                at = start * points + _place(place, q) * w
                for c in range(w):
                    out[at + c] = x[q, channels[start + c]]
