"""Largest sums of a value and a coefficient: over shifts of planes, and over the nonzeros of rows. Infinities are values here.

Planes lie in a margin of -inf, so that a tap is one step in memory for the whole plane and the loop over places has no borders.
A place's best sum so far and its tap are kept for ``BLOCK`` places at a time, in cache, while all taps go by, four at a time.
Of equal sums the first tap's is taken; a place that no tap reaches has tap -1.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.inner import no_inline

OPTIONS = {"nogil": True, "boundscheck": False, "error_model": "numpy"}  # no fastmath: it knows no infinities
BLOCK = 512


@njit(**OPTIONS)
def _four(xa, xb, xc, xd, ka, kb, kc, kd, first, best, taps):  # type: ignore[no-untyped-def]
    """Four taps, of which the winner meets the best so far; a call, for inlined LLVM no longer sees that nothing overlaps."""
    no_inline()
    second, third, fourth = first + np.int32(1), first + np.int32(2), first + np.int32(3)
    for j in range(len(best)):
        va, vb, vc, vd = xa[j] + ka, xb[j] + kb, xc[j] + kc, xd[j] + kd
        early = va >= vb
        v, t = va if early else vb, first if early else second
        early = vc >= vd
        w, u = vc if early else vd, third if early else fourth
        early = v >= w
        v, t = v if early else w, t if early else u
        y, old = best[j], taps[j]
        better = v > y
        best[j], taps[j] = v if better else y, t if better else old


@njit(**OPTIONS)
def _one(x, k, tap, best, taps):  # type: ignore[no-untyped-def]
    no_inline()
    for j in range(len(best)):
        y, old = best[j], taps[j]
        v = x[j] + k
        better = v > y
        best[j], taps[j] = v if better else y, tap if better else old


@njit(**OPTIONS)
def _missing(x, at, k, tap, best, taps, start, n):  # type: ignore[no-untyped-def]
    """Places that see what is no number hold no number."""
    for j in range(n):
        v = x[at + j] + k
        if v != v:
            best[start + j], taps[start + j] = v, tap


@njit(**OPTIONS)
def _padded(x, top, left, into):  # type: ignore[no-untyped-def]
    """Planes (channels, turns, H, W) into a margin of -inf; whether some entry is no number."""
    channels, turns, height, width = x.shape
    high, wide = into.shape[2], into.shape[3]
    odd = False
    for c in range(channels):
        for o in range(turns):
            plane = into[c, o]
            plane[:top] = -np.inf
            plane[top + height : high] = -np.inf
            plane[:, :left] = -np.inf
            plane[:, left + width : wide] = -np.inf
            for i in range(height):
                for j in range(width):
                    v = x[c, o, i, j]
                    odd |= v != v
                    plane[top + i, left + j] = v
    return odd


@njit(**OPTIONS)
def _out(best, found, wide, y, taps):  # type: ignore[no-untyped-def]
    """A plane and its taps out of rows ``wide`` places apart."""
    no_inline()
    height, width = y.shape
    for i in range(height):
        at = i * wide
        y_row, t_row, best_row, found_row = y[i], taps[i], best[at : at + width], found[at : at + width]
        for j in range(width):
            y_row[j] = best_row[j]
        for j in range(width):
            t_row[j] = found_row[j]


@njit(**OPTIONS)
def _planes_share(thread, threads, x, kernel, steps, margins, y, taps):  # type: ignore[no-untyped-def]
    """One thread's share of ``max_planes``: every threads-th group of a sample."""
    batch, _, turns, height, width = x.shape
    outputs, inputs, _, count = kernel.shape
    groups = x.shape[1] // inputs
    share = outputs // groups
    top, bottom, left, right = margins[0], margins[1], margins[2], margins[3]
    high, wide = top + height + bottom, left + width + right
    plane = high * wide
    store = np.empty(inputs * turns * plane, x.dtype)
    whole = (height - 1) * wide + width
    best, found = np.empty(whole, x.dtype), np.empty(whole, np.int32)
    places = np.empty(inputs * count, np.int64)
    k = np.empty(inputs * count, x.dtype)
    for task in range(thread, batch * groups, threads):
        b, group = task // groups, task % groups
        into = store.reshape(inputs, turns, high, wide)
        odd = _padded(x[b, group * inputs : (group + 1) * inputs], top, left, into)
        for d in range(group * share, (group + 1) * share):
            for o in range(turns):
                for c in range(inputs):
                    for t in range(count):
                        turn = (o + steps[t, 0]) % turns
                        at = (c * turns + turn) * plane + (top + steps[t, 1]) * wide + left + steps[t, 2]
                        places[c * count + t] = at
                        k[c * count + t] = kernel[d, c, o, t]
                number = inputs * count
                strange = odd
                for t in range(number):
                    strange |= k[t] != k[t] or k[t] == np.inf
                best[:] = -np.inf
                found[:] = -1
                for start in range(0, whole, BLOCK):
                    n = min(BLOCK, whole - start)
                    y_part, t_part = best[start : start + n], found[start : start + n]
                    t = 0
                    while t + 4 <= number:
                        p, q, r, s = (
                            start + places[t],
                            start + places[t + 1],
                            start + places[t + 2],
                            start + places[t + 3],
                        )
                        _four(
                            store[p : p + n], store[q : q + n], store[r : r + n], store[s : s + n],
                            k[t], k[t + 1], k[t + 2], k[t + 3], np.int32(t), y_part, t_part,
                        )  # fmt: skip
                        t += 4
                    while t < number:
                        p = start + places[t]
                        _one(store[p : p + n], k[t], np.int32(t), y_part, t_part)
                        t += 1
                    if strange:
                        for t in range(number):
                            _missing(store, start + places[t], k[t], np.int32(t), best, found, start, n)
                _out(best, found, wide, y[b, d, o], taps[b, d, o])


@njit(parallel=True, **OPTIONS)
def max_planes(x, kernel, steps, margins, threads, y, taps):  # type: ignore[no-untyped-def]
    """y[b, d, o, p] = max over inputs c and taps t of x[b, c, o + turn_t, p + shift_t] + kernel[d, c, o, t], and which c, t.

    x (B, C, turns, H, W), kernel (D, C / groups, turns, T), steps (T, 3), margins above, below, left and right for them.
    """
    for thread in prange(threads):
        _planes_share(thread, threads, x, kernel, steps, margins, y, taps)


@njit(**OPTIONS)
def _planes_back_share(thread, threads, g, taps, steps, dx, dk):  # type: ignore[no-untyped-def]
    batch, outputs, turns, height, width = g.shape
    inputs, count = dk.shape[2], dk.shape[4]
    groups = dx.shape[1] // inputs
    share = outputs // groups
    for task in range(thread, batch * groups, threads):
        b, group = task // groups, task % groups
        for d in range(group * share, (group + 1) * share):
            for o in range(turns):
                for i in range(height):
                    for j in range(width):
                        tap = taps[b, d, o, i, j]
                        if tap < 0:
                            continue
                        c, t = tap // count, tap % count
                        row, column = i + steps[t, 1], j + steps[t, 2]
                        if row < 0 or row >= height or column < 0 or column >= width:
                            continue  # only where values are no numbers
                        v = g[b, d, o, i, j]
                        dx[b, group * inputs + c, (o + steps[t, 0]) % turns, row, column] += v
                        dk[b, d, c, o, t] += v


@njit(parallel=True, **OPTIONS)
def max_planes_back(g, taps, steps, threads, dx, dk):  # type: ignore[no-untyped-def]
    """Gradients of ``max_planes`` added to dx (B, C, turns, H, W) and dk (B, D, C / groups, turns, T), one for each sample."""
    for thread in prange(threads):
        _planes_back_share(thread, threads, g, taps, steps, dx, dk)


@njit(parallel=True, **OPTIONS)
def max_rows(x, k, indptr, source, column, y, taps):  # type: ignore[no-untyped-def]
    """y[b, c, p] = max over nonzeros t of row p of x[b, c, source_t] + k[c, column_t], and which t."""
    batch, channels, _ = x.shape
    for task in prange(batch * channels):
        b, c = task // channels, task % channels
        for p in range(len(indptr) - 1):
            best, found = x.dtype.type(-np.inf), -1
            for t in range(indptr[p], indptr[p + 1]):
                v = x[b, c, source[t]] + k[c, column[t]]
                if v > best or v != v:
                    best, found = v, t
            y[b, c, p], taps[b, c, p] = best, found


@njit(parallel=True, **OPTIONS)
def max_rows_back(g, taps, source, column, dx, dk):  # type: ignore[no-untyped-def]
    """Gradients of ``max_rows`` added to dx (B, C, Q) and dk (B, C, N), one for each sample."""
    batch, channels, points = g.shape
    for task in prange(batch * channels):
        b, c = task // channels, task % channels
        for p in range(points):
            t = taps[b, c, p]
            if t >= 0:
                dx[b, c, source[t]] += g[b, c, p]
                dk[b, c, column[t]] += g[b, c, p]
