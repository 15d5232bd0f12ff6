"""Compiled parts of the search on CPUs: ranking neighbours, small graphs by all pairs; importing this imports numba."""

from __future__ import annotations

import math

import numpy as np

from spheregeo.jit import njit

OPTIONS = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
RELATIVE = 2.0**-10  # as in query.py
SHORT = 32  # rows up to this length are sorted by insertion
MANY = 128  # neighbours up to which a short list of the nearest beats sorting all


@njit(**OPTIONS)
def _apart(a, b):  # type: ignore[no-untyped-def]
    """Distance of two points; the order of additions is that of the torch engine."""
    x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    return math.sqrt(x * x + y * y + z * z)


@njit(**OPTIONS)
def _sort_by_distance(d, s, m):  # type: ignore[no-untyped-def]
    """Sort the first m entries of both arrays by d, equal ones in their order: runs by insertion, then merged."""
    for first in range(0, m, SHORT):
        for i in range(first + 1, min(first + SHORT, m)):
            key, item = d[i], s[i]
            at = i
            while at > first and d[at - 1] > key:
                d[at], s[at] = d[at - 1], s[at - 1]
                at -= 1
            d[at], s[at] = key, item
    if m <= SHORT:
        return
    left_d, left_s = np.empty(m, d.dtype), np.empty(m, s.dtype)
    run = SHORT
    while run < m:
        for first in range(0, m - run, 2 * run):
            if d[first + run - 1] <= d[first + run]:
                continue
            for i in range(run):  # the left run, out of the way
                left_d[i], left_s[i] = d[first + i], s[first + i]
            i, j, end = 0, first + run, min(first + 2 * run, m)
            at = first
            while i < run:
                if j < end and d[j] < left_d[i]:
                    d[at], s[at] = d[j], s[j]
                    j += 1
                else:
                    d[at], s[at] = left_d[i], left_s[i]
                    i += 1
                at += 1
        run *= 2


@njit(**OPTIONS)
def _sort_indices(s, begin, end):  # type: ignore[no-untyped-def]
    """Sort s[begin:end], by insertion over ever shorter steps."""
    step = 1
    while step < (end - begin) // 3:
        step = 3 * step + 1
    while step > 0:
        for i in range(begin + step, end):
            item = s[i]
            at = i
            while at >= begin + step and s[at - step] > item:
                s[at] = s[at - step]
                at -= step
            s[at] = item
        step //= 3


@njit(**OPTIONS)
def _rank(d, s, m, tolerance, limit, all_ties):  # type: ignore[no-untyped-def]
    """Order m candidates by (class of distance, index). Return how many are kept, and whether more classes follow theirs."""
    _sort_by_distance(d, s, m)
    begin = 0
    while begin < m:
        end = begin + 1
        while end < m and d[end] - d[end - 1] <= min(tolerance, RELATIVE * d[end]):
            end += 1
        _sort_indices(s, begin, end)
        if end >= limit:
            return (end if all_ties else limit), end < m
        begin = end
    return m, False


@njit(**OPTIONS)
def _grown(out, need):  # type: ignore[no-untyped-def]
    """The array itself, or a longer copy that holds ``need`` entries."""
    if need <= len(out):
        return out
    longer = np.empty(max(need, 2 * len(out)), out.dtype)
    longer[: len(out)] = out
    return longer


@njit(**OPTIONS)
def _smallest(values, count, width, bound, least, places):  # type: ignore[no-untyped-def]
    """The ``width`` smallest values up to bound, sorted into ``least`` with their places. Return how many there are."""
    m = 0
    for i in range(count):
        value = values[i]
        if value <= bound:
            if m < width:
                m += 1
            at = m - 1
            while at > 0 and least[at - 1] > value:
                least[at], places[at] = least[at - 1], places[at - 1]
                at -= 1
            least[at], places[at] = value, i
            if m == width:
                bound = least[m - 1] if least[m - 1] < bound else bound
    return m


@njit(**OPTIONS)
def all_pairs(  # type: ignore[no-untyped-def]
    x,
    y,
    z,
    targets,
    source_bounds,
    target_bounds,
    first,
    last,
    own,
    tolerance,
    reach,
    limit,
    keep,
    ties,
    guess,
):
    """Neighbours within graphs first to last - 1 by looking at all pairs. Return counts and sources."""
    start = target_bounds[first]
    counts = np.zeros(target_bounds[last] - start, np.int64)
    out = np.empty(guess, np.int64)
    filled = 0
    widest = 0
    for g in range(first, last):
        widest = max(widest, source_bounds[g + 1] - source_bounds[g])
    square = np.empty(widest)
    d = np.empty(widest)
    s = np.empty(widest, np.int64)
    for g in range(first, last):
        begin, n = source_bounds[g], source_bounds[g + 1] - source_bounds[g]
        bound = reach[g] * reach[g] * (1 + 1e-12)
        gx, gy, gz = x[begin : begin + n], y[begin : begin + n], z[begin : begin + n]
        for t in range(target_bounds[g], target_bounds[g + 1]):
            px, py, pz = targets[t, 0], targets[t, 1], targets[t, 2]
            for q in range(n):
                dx, dy, dz = gx[q] - px, gy[q] - py, gz[q] - pz
                square[q] = dx * dx + dy * dy + dz * dz
            if own[t] >= 0:
                square[own[t] - begin] = -1.0 if keep else np.nan
            width = limit + 2
            few = limit <= MANY and width < n
            while True:
                if few:
                    m = _smallest(square, n, width, bound, d, s)
                else:
                    m = 0
                    for q in range(n):
                        if square[q] <= bound:
                            d[m], s[m] = square[q], q
                            m += 1
                held = 0
                for i in range(m):
                    length = math.sqrt(d[i]) if d[i] >= 0 else -1.0
                    if length <= reach[g]:
                        d[held], s[held] = length, s[i]
                        held += 1
                kept, beyond = _rank(d, s, held, tolerance[g], limit, ties)
                if beyond or not few or m < width:
                    break
                few = False  # ties beyond the width: look at all
            out = _grown(out, filled + kept)
            for i in range(kept):
                out[filled + i] = s[i] + begin
            counts[t - start] = kept
            filled += kept
    return counts, out[:filled].copy()


@njit(**OPTIONS)
def group_pairs(first, second, sources, targets, own, tolerance, reach, keep, both):  # type: ignore[no-untyped-def]
    """Ranked neighbours of each target from (target, source) pairs in any order; ``both`` also turns each pair round."""
    counts = np.zeros(len(targets) + 1, np.int64)
    for e in range(len(first)):
        a, b = first[e], second[e]
        if own[a] != b and _apart(sources[b], targets[a]) <= reach:
            counts[a + 1] += 1
            if both:
                counts[b + 1] += 1
    if keep:
        for t in range(len(targets)):
            if own[t] >= 0:
                counts[t + 1] += 1
    bounds = np.cumsum(counts)
    at = bounds[:-1].copy()
    out = np.empty(bounds[-1], np.int64)
    d = np.empty(bounds[-1])
    if keep:
        for t in range(len(targets)):
            if own[t] >= 0:
                out[at[t]], d[at[t]] = own[t], -1.0
                at[t] += 1
    for e in range(len(first)):
        a, b = first[e], second[e]
        length = _apart(sources[b], targets[a])
        if own[a] != b and length <= reach:
            out[at[a]], d[at[a]] = b, length
            at[a] += 1
            if both:
                out[at[b]], d[at[b]] = a, length
                at[b] += 1
    none = len(out) + 1  # no limit
    for t in range(len(targets)):
        begin, end = bounds[t], bounds[t + 1]
        _rank(d[begin:end], out[begin:end], end - begin, tolerance, none, False)
    return counts[1:], out


@njit(**OPTIONS)
def select_nearest(found, rows, sources, targets, own, tolerance, reach, limit, keep, ties, everything):  # type: ignore[no-untyped-def]
    """Rank candidates ``found`` (R, W) of some targets. Return counts, -1 where W are too few to settle ties, and sources."""
    counts = np.empty(len(rows), np.int64)
    width = found.shape[1]
    out = np.empty(len(rows) * min(limit, width), np.int64)
    filled = 0
    d = np.empty(width + 1)
    s = np.empty(width + 1, np.int64)
    for i in range(len(rows)):
        t = rows[i]
        m = 0
        if keep and own[t] >= 0:
            s[0], d[0] = own[t], -1.0
            m = 1
        cut = False
        for w in range(width):
            q = found[i, w]
            if q == len(sources):  # the tree has no more within reach
                cut = True
                break
            if q == own[t]:
                continue
            d[m] = _apart(sources[q], targets[t])
            if d[m] <= reach:
                s[m] = q
                m += 1
        kept, beyond = _rank(d, s, m, tolerance, limit, ties)
        if not (beyond or cut or everything):
            counts[i] = -1
            continue
        out = _grown(out, filled + kept)
        out[filled : filled + kept] = s[:kept]
        counts[i] = kept
        filled += kept
    return counts, out[:filled].copy()


@njit(**OPTIONS)
def place_rows(bounds, rows, counts, values, out):  # type: ignore[no-untyped-def]
    """Copy runs of values to where their rows begin in ``out``."""
    at = 0
    for i in range(len(rows)):
        begin = bounds[rows[i]]
        for e in range(max(counts[i], 0)):
            out[begin + e] = values[at]
            at += 1
