"""Coefficients and ring values put in order for the Legendre stage, in one pass with their factors.

Transposes are done in blocks of orders or rings, so that cache lines on both sides are used whole.
"""

from __future__ import annotations

from numba import prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.inner import no_inline
from spheregeo.sparse.engines.kernels.options import OPTIONS

LINE = 8  # orders that lie together in the nearest cache


@njit(**OPTIONS)
def _coefficients(packs, task, x, y, sizes):  # type: ignore[no-untyped-def]
    """Rows of coefficients x (maps, (lmax + 1)^2) to y (T, 2 maps), cosines and minus sines; or back, y to x."""
    no_inline()
    maps, lmax = sizes[0], sizes[1]
    width = (lmax + 1) * (lmax + 1)
    m0, block = task * sizes[4], sizes[4]
    for l in range(m0, lmax + 1):
        for m in range(m0, min(m0 + block, l + 1)):
            t = (m * (2 * lmax + 1 - m) // 2 + l) * 2 * maps
            place = l * l + l
            for b in range(maps):
                cosine, sine = b * width + place + m, b * width + place - m
                if packs:
                    y[t + 2 * b] = x[cosine]
                    y[t + 2 * b + 1] = -x[sine] if m > 0 else 0
                else:
                    x[cosine] = y[t + 2 * b]
                    if m > 0:
                        x[sine] = -y[t + 2 * b + 1]


@njit(**OPTIONS)
def _spectra(packs, task, x, y, sizes, factors, weights):  # type: ignore[no-untyped-def]
    """Spectra x (maps, R, W, 2) from ring values y (M, R, maps, 2) times factors (M, 2) and weights (R,); or y from x."""
    no_inline()
    maps, orders, rings, width = sizes[0], sizes[1], sizes[2], sizes[3]
    r0, r1 = task * sizes[4], min((task + 1) * sizes[4], rings)
    for m0 in range(0, orders, LINE):
        m1 = min(m0 + LINE, orders)
        for r in range(r0, r1):
            w = weights[r]
            for b in range(maps):
                place, at = (b * rings + r) * width * 2, (r * maps + b) * 2
                for m in range(m0, m1):
                    fr, fi = w * factors[m, 0], w * factors[m, 1]
                    here, there = place + 2 * m, at + m * rings * maps * 2
                    if packs:
                        u, v = x[here], x[here + 1]
                        y[there], y[there + 1] = fr * u - fi * v, fr * v + fi * u
                    else:
                        u, v = y[there], y[there + 1]
                        x[here], x[here + 1] = fr * u - fi * v, fr * v + fi * u
    if not packs:
        for b in range(maps):
            for r in range(r0, r1):
                place = (b * rings + r) * width * 2
                for i in range(2 * orders, 2 * width):
                    x[place + i] = 0


@njit(parallel=True, **OPTIONS)
def layout(packs, spectra, tasks, x, y, sizes, factors, weights):  # type: ignore[no-untyped-def]
    """``_spectra`` or ``_coefficients``, all arrays flat but the factors; y from x if it ``packs``, else x from y.

    ``sizes``: maps, then lmax, or M, R, W; last the orders or rings of a task.
    """
    for task in prange(tasks):
        if spectra:
            _spectra(packs, task, x, y, sizes, factors, weights)
        else:
            _coefficients(packs, task, x, y, sizes)
