"""The Legendre stage: for each order a matrix of functions, made in blocks by recurrence, times columns.

A block of functions, some steps of the recurrence on some rings, lies in the nearest cache while the tiles of
:mod:`spheregeo.sparse.engines.kernels.inner` multiply it with all columns, of coefficients or of ring values. Steps go up
by one degree, or on rings that the equator mirrors by two: with P_l the function of degree l, and e_l = sqrt((l^2 - m^2)/(4 l^2
- 1)), the values q = P_{l+1}/x at l = m, m + 2, ... are polynomials in x^2 with a three-term recurrence of their own, and x P_l
= e_{l+1} P_{l+1} + e_l P_{l-1} gives both parities from them: P_l = e_{l+1} q(k) + e_l q(k - 1), P_{l+1} = x q(k). So a
column of coefficients becomes two, of which x times the second is added on the northern ring and subtracted on the southern.
Reference: Ishioka 2018, "A new recurrence formula for efficient computation of spherical harmonic transform".
"""

from __future__ import annotations

import numpy as np
from numba import prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.inner import no_inline
from spheregeo.sparse.engines.kernels.options import OPTIONS
from spheregeo.sparse.engines.kernels.product import product_add, products_of_rows
from spheregeo.spectral.engines.kernels.recurrence import LANES, recur
from spheregeo.spectral.engines.kernels.starts import STEPS

CHUNK = 32  # steps whose functions are kept at once
RUN = 8  # blocks of rings whose functions are kept at once, in sums over rings


@njit(**OPTIONS)
def _variables():  # type: ignore[no-untyped-def]
    """0, 1 and the rings of a block as variables: for constants the products would be compiled once more."""
    return np.int64(0), np.int64(1), np.int64(LANES)


@njit(**OPTIONS)
def _clear(z, n):  # type: ignore[no-untyped-def]
    for j in range(n):
        z[j] = 0


@njit(**OPTIONS)
def _enter(own, values, p, n, k, last):  # type: ignore[no-untyped-def]
    """Let rings p ... p + n begin whose step k is; the step at which more of them do."""
    coming = np.int64(1 << 40)
    for j in range(p, p + n):
        if own[j] == k:
            last[0, j], last[1, j] = values[0, j], values[1, j]
        elif own[j] > k:
            last[0, j], last[1, j] = 0.0, 0.0
            coming = min(coming, own[j])
    return coming


@njit(**OPTIONS)
def _expand(coefs, steps, columns, narrow, recurrence, start, z, q):  # type: ignore[no-untyped-def]
    """z (rings, columns), where narrow (columns, rings), += functions (rings, steps) times coefs (steps, columns)."""
    no_inline()
    slope, shift, at, y = recurrence
    first, own, values, last = start
    zero, one, lanes = _variables()
    rings = len(y)
    for block in range(len(first)):
        p, k = block * LANES, first[block]
        coming = k
        while k < steps:
            if coming == k:
                coming = _enter(own, values, p, lanes, k, last)
            n = min(CHUNK, steps - k, coming - k)
            recur(slope, shift, at + k, y, p, last, q, 0, LANES, n)
            if narrow:
                product_add(coefs, k * columns, one, columns, q, zero, lanes, z, p, rings, columns, n, lanes)
            else:
                product_add(
                    q,
                    zero,
                    one,
                    lanes,
                    coefs,
                    k * columns,
                    columns,
                    z,
                    p * columns,
                    columns,
                    lanes,
                    n,
                    columns,
                )
            k += n


@njit(**OPTIONS)
def _contract(g, steps, columns, narrow, recurrence, start, coefs, q):  # type: ignore[no-untyped-def]
    """The transpose: coefs (steps, columns) += functions (steps, rings) times g (rings, columns)."""
    no_inline()
    slope, shift, at, y = recurrence
    first, own, values, last = start
    zero, one, lanes = _variables()
    rings, blocks = len(y), len(first)
    if narrow:
        next_of = first.copy()
        for k in range(0, steps, STEPS):
            n, block = min(STEPS, steps - k), 0
            while block < blocks:
                begin = block
                while block < blocks and first[block] <= k and block - begin < RUN:
                    if next_of[block] == k:
                        next_of[block] = _enter(own, values, block * LANES, lanes, k, last)
                    place = (block - begin) * LANES
                    recur(slope, shift, at + k, y, block * LANES, last, q, place, RUN * LANES, n)
                    block += 1
                if block == begin:
                    block += 1
                    continue
                p, many = begin * LANES, (block - begin) * LANES
                products_of_rows(
                    q, 0, RUN * LANES, g, p, rings, coefs, k * columns, columns, 1, n, columns, many
                )
        return
    for block in range(blocks):
        p, k = block * LANES, first[block]
        coming = k
        while k < steps:
            if coming == k:
                coming = _enter(own, values, p, lanes, k, last)
            n = min(CHUNK, steps - k, coming - k)
            recur(slope, shift, at + k, y, p, last, q, 0, LANES, n)
            product_add(
                q, zero, lanes, one, g, p * columns, columns, coefs, k * columns, columns, n, lanes, columns
            )
            k += n


@njit(**OPTIONS)
def _load(a, t, degrees, block, weights, at, steps, folds, coefs):  # type: ignore[no-untyped-def]
    """Coefficients of one order, from row t of a on, as (steps, columns) of the recurrence; two columns for one if it folds."""
    first, n = block
    place = 0
    for k in range(steps):
        if not folds:
            for j in range(n):
                coefs[place + j] = weights[at + k, 0] * a[t + k, first + j]
            place += n
            continue
        here, ahead, odd = weights[at + k, 0], weights[at + k, 1], weights[at + k, 2]
        row = t + 2 * k
        if 2 * k + 2 < degrees:
            for j in range(n):
                coefs[place + j] = here * a[row, first + j] + ahead * a[row + 2, first + j]
                coefs[place + n + j] = odd * a[row + 1, first + j]
        else:
            more = 2 * k + 1 < degrees
            for j in range(n):
                coefs[place + j] = here * a[row, first + j]
                coefs[place + n + j] = odd * a[row + 1, first + j] if more else 0.0
        place += 2 * n


@njit(**OPTIONS)
def _store(a, t, degrees, block, weights, at, steps, folds, coefs):  # type: ignore[no-untyped-def]
    """The transpose of ``_load``, = in place of +=."""
    first, n = block
    place = 0
    for k in range(steps):
        if not folds:
            for j in range(n):
                a[t + k, first + j] = weights[at + k, 0] * coefs[place + j]
            place += n
            continue
        here, odd = weights[at + k, 0], weights[at + k, 2]
        row = t + 2 * k
        for j in range(n):
            value = here * coefs[place + j]
            if k > 0:
                value += weights[at + k - 1, 1] * coefs[place - 2 * n + j]
            a[row, first + j] = value
        if 2 * k + 1 < degrees:
            for j in range(n):
                a[row + 1, first + j] = odd * coefs[place + n + j]
        place += 2 * n


@njit(**OPTIONS)
def _scatter(f, block, x, narrow, folds, z):  # type: ignore[no-untyped-def]
    """Values f (R, K) of one order's rings from z (rings, columns), where narrow (columns, padded rings)."""
    first, n = block
    count, many = len(f), len(x)
    columns = 2 * n if folds else n
    by_ring, by_column = (1, many) if narrow else (columns, 1)
    for p in range((count + 1) // 2 if folds else count):
        north, south, place = f[p], f[count - 1 - p], p * by_ring
        if folds:
            for j in range(n):
                even = z[place + j * by_column]
                odd = x[p] * z[place + (n + j) * by_column]
                south[first + j] = even - odd
                north[first + j] = even + odd  # on the equator x = 0
        else:
            for j in range(n):
                north[first + j] = z[place + j * by_column]


@njit(**OPTIONS)
def _gather(f, block, x, narrow, folds, g):  # type: ignore[no-untyped-def]
    """The transpose of ``_scatter``, = in place of +=."""
    first, n = block
    count, many = len(f), len(x)
    columns = 2 * n if folds else n
    by_ring, by_column = (1, many) if narrow else (columns, 1)
    for p in range((count + 1) // 2 if folds else count):
        north, south, place = f[p], f[count - 1 - p], p * by_ring
        if folds:
            share = 0.5 if 2 * p + 1 == count else 1.0
            for j in range(n):
                u, v = share * north[first + j], share * south[first + j]
                g[place + j * by_column] = u + v
                g[place + (n + j) * by_column] = x[p] * (u - v)
        else:
            for j in range(n):
                g[place + j * by_column] = north[first + j]


@njit(**OPTIONS)
def _pair(forward, a, f, block, orders, plan, shape):  # type: ignore[no-untyped-def]
    """Two orders, one from the front and one from the back, so that all pairs cost about as much."""
    no_inline()
    slope, shift, offsets, weights, rows, y, x, first, own, values = plan
    folds, narrow = shape
    columns = block[1] * (2 if folds else 1)
    z = np.empty(len(y) * columns)
    coefs = np.empty((offsets[1] - offsets[0]) * columns)
    last, q = np.empty((2, len(y))), np.empty(max(CHUNK, STEPS * RUN) * LANES)
    _clear(z, len(z))  # padded rings stay zero
    for m in orders:
        at, steps = offsets[m], offsets[m + 1] - offsets[m]
        t, degrees = rows[m, 0], rows[m, 1]
        recurrence, start = (slope, shift, at, y), (first[m], own[m], values[m], last)
        if forward:
            _clear(z, len(z))
            _load(a, t, degrees, block, weights, at, steps, folds, coefs)
            _expand(coefs, steps, columns, narrow, recurrence, start, z, q)
            _scatter(f[m], block, x, narrow, folds, z)
        else:
            _gather(f[m], block, x, narrow, folds, z)
            _clear(coefs, steps * columns)
            _contract(z, steps, columns, narrow, recurrence, start, coefs, q)
            _store(a, t, degrees, block, weights, at, steps, folds, coefs)
        if m == orders[1]:
            break


@njit(parallel=True, **OPTIONS)
def stage(forward, a, f, plan, shape, group):  # type: ignore[no-untyped-def]
    """f (M, R, K) from a (T, K) where ``forward``, else a from f: the transpose. A task is two orders of ``group`` columns.

    ``plan``: slopes and shifts of the recurrences, first steps of the orders, factors between coefficients and steps, (row of a,
    degrees) of each order, y, x, and ``first``, ``own`` and ``values`` of ``starts``.
    ``shape``: whether rings fold, and whether columns are so few that vectors run over rings.
    """
    number = len(f)
    half, groups = (number + 1) // 2, (a.shape[1] + group - 1) // group
    for task in prange(half * groups):
        m, j = task % half, task // half * group
        block = (j, min(group, a.shape[1] - j))
        _pair(forward, a, f, block, (m, number - 1 - m), plan, shape)
