"""Wide rows in Fourier space: frequency innermost, real and imaginary parts apart."""

from __future__ import annotations

import numba
import numpy as np
from numba import prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.options import OPTIONS
from spheregeo.sparse.engines.kernels.product import accumulate, correlate


@njit(**OPTIONS)
def _extent(parts):  # type: ignore[no-untyped-def]
    """First and last ring with a nonzero in parts (E, rings, F)."""
    first, last = parts.shape[1], 0
    for e in range(parts.shape[0]):
        for q in range(parts.shape[1]):
            if first <= q < last:
                continue
            for j in range(parts.shape[2]):
                if parts[e, q, j] != 0:
                    first, last = min(first, q), max(last, q + 1)
                    break
    return first, last


@njit(**OPTIONS)
def _spectral_contract(re, im, parts, which, k, stretch, zr, zi):  # type: ignore[no-untyped-def]
    """z[c*K + k] = sum_q Psi_k(q) X_c(q) for one row: re, im (C, rings, F), parts (E, rings, F).

    ``which`` (function, whether imaginary) of each part, ``stretch`` (first frequency, number of them).
    """
    function, imaginary = which
    f0, n = stretch
    extent = _extent(parts)
    zr[:] = 0
    zi[:] = 0
    for c in range(re.shape[0]):
        for e in range(len(function)):
            r, i = zr[c * k + function[e]], zi[c * k + function[e]]
            q = extent[0]
            while q + 2 <= extent[1]:
                p0, p1 = parts[e, q, f0 : f0 + n], parts[e, q + 1, f0 : f0 + n]
                a0, a1 = re[c, q, f0 : f0 + n], re[c, q + 1, f0 : f0 + n]
                b0, b1 = im[c, q, f0 : f0 + n], im[c, q + 1, f0 : f0 + n]
                if imaginary[e]:
                    for j in range(n):
                        r[j] -= p0[j] * b0[j] + p1[j] * b1[j]
                        i[j] += p0[j] * a0[j] + p1[j] * a1[j]
                else:
                    for j in range(n):
                        r[j] += p0[j] * a0[j] + p1[j] * a1[j]
                        i[j] += p0[j] * b0[j] + p1[j] * b1[j]
                q += 2
            if q < extent[1]:
                p0, a0, b0 = parts[e, q, f0 : f0 + n], re[c, q, f0 : f0 + n], im[c, q, f0 : f0 + n]
                if imaginary[e]:
                    for j in range(n):
                        r[j] -= p0[j] * b0[j]
                        i[j] += p0[j] * a0[j]
                else:
                    for j in range(n):
                        r[j] += p0[j] * a0[j]
                        i[j] += p0[j] * b0[j]


@njit(parallel=True, **OPTIONS)
def spectral_mix(x, parts, which, w, step, out):  # type: ignore[no-untyped-def]
    """out (B, N, O, rows, F) from x (B, N, C, rings, F), parts (N, rows, E, rings, F), w (O, C*K), in blocks of F.

    x and out are pairs (real, imaginary); ``which`` as for the contraction.
    """
    re, im = x
    out_re, out_im = out
    batch, number, channels, _, f = re.shape
    rows, k = parts.shape[1], w.shape[1] // channels
    blocks = (f + step - 1) // step
    for task in prange(batch * number * rows * blocks):
        b, band = task // (number * rows * blocks), (task // (rows * blocks)) % number
        p, f0 = (task // blocks) % rows, (task % blocks) * step
        n = min(step, f - f0)
        zr, zi = np.empty((channels * k, n), re.dtype), np.empty((channels * k, n), re.dtype)
        _spectral_contract(re[b, band], im[b, band], parts[band, p], which, k, (f0, n), zr, zi)
        offsets = np.arange(channels * k) * n
        y = np.zeros((len(w), n), re.dtype)
        accumulate(w, zr.reshape(-1), offsets, y, n)
        out_re[b, band, :, p, f0 : f0 + n] = y
        y[:] = 0
        accumulate(w, zi.reshape(-1), offsets, y, n)
        out_im[b, band, :, p, f0 : f0 + n] = y


@njit(parallel=True, **OPTIONS)
def spectral_correlate(x, parts, which, k, g, step, dw):  # type: ignore[no-untyped-def]
    """dw (threads, O, C*K) from x (B, N, C, rings, F) and g (B, N, O, rows, F), each a pair (real, imaginary)."""
    re, im = x
    g_re, g_im = g
    batch, number, channels, _, f = re.shape
    rows, height = parts.shape[1], g_re.shape[2]
    blocks = (f + step - 1) // step
    for task in prange(batch * number * rows * blocks):
        thread = numba.get_thread_id()
        b, band = task // (number * rows * blocks), (task // (rows * blocks)) % number
        p, f0 = (task // blocks) % rows, (task % blocks) * step
        n = min(step, f - f0)
        zr, zi = np.empty((channels * k, n), re.dtype), np.empty((channels * k, n), re.dtype)
        _spectral_contract(re[b, band], im[b, band], parts[band, p], which, k, (f0, n), zr, zi)
        offsets = np.arange(channels * k) * n
        grad = np.empty((height, n), re.dtype)
        grad[:] = g_re[b, band, :, p, f0 : f0 + n]
        correlate(grad, zr.reshape(-1), offsets, dw[thread], n)
        grad[:] = g_im[b, band, :, p, f0 : f0 + n]
        correlate(grad, zi.reshape(-1), offsets, dw[thread], n)
