"""Block-circulant rows: channels first, longitude innermost, a task being a few rows times a block of columns."""

from __future__ import annotations

import numba
import numpy as np
from numba import prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.options import OPTIONS
from spheregeo.sparse.engines.kernels.product import accumulate, correlate


@njit(**OPTIONS)
def ring_window(x, extent, places, begin, width, columns, buffer):  # type: ignore[no-untyped-def]
    """Copy columns begin ... begin + width (mod M) of consecutive rings, all channels, into ``buffer``.

    ``extent`` (first ring, number of rings), ``places`` (base, stride) of each ring.
    """
    first, rings = extent
    base, stride = places
    at = 0
    for c in range(x.shape[0]):
        for r in range(first, first + rings):
            j = begin % columns
            done = 0
            while done < width:
                n = min(width - done, columns - j)
                source = base[r] + stride[r] * j
                if stride[r] == 1:
                    buffer[at : at + n] = x[c, source : source + n]
                else:
                    for i in range(n):
                        buffer[at + i] = x[c, source + stride[r] * i]
                at += n
                done += n
                j = 0


@njit(**OPTIONS)
def _signed(shift, columns):  # type: ignore[no-untyped-def]
    return shift - columns if 2 * shift >= columns else shift


@njit(**OPTIONS)
def ring_extent(indptr, ring, shift, columns, r0, r1):  # type: ignore[no-untyped-def]
    """(first ring, number of rings, lowest shift, highest shift) that rows r0 ... r1 touch."""
    first, last, low, high = np.int64(1 << 40), np.int64(-1), np.int64(0), np.int64(0)
    for t in range(indptr[r0], indptr[r1]):
        s = _signed(np.int64(shift[t]), columns)
        low, high = min(low, s), max(high, s)
        first, last = min(first, np.int64(ring[t])), max(last, np.int64(ring[t]))
    return first, last - first + 1, low, high


@njit(**OPTIONS)
def _taps(rows, columns, p, first, width, low, offsets):  # type: ignore[no-untyped-def]
    indptr, ring, shift = rows
    begin = indptr[p]
    for t in range(indptr[p + 1] - begin):
        s = _signed(np.int64(shift[begin + t]), columns)
        offsets[t] = (np.int64(ring[begin + t]) - first) * width + s - low


@njit(**OPTIONS)
def _row_values(v, begin, count):  # type: ignore[no-untyped-def]
    out = np.empty((v.shape[0], count), v.dtype)
    for k in range(v.shape[0]):
        for t in range(count):
            out[k, t] = v[k, begin + t]
    return out


@njit(**OPTIONS)
def _spread(offsets, channels, step):  # type: ignore[no-untyped-def]
    """Offsets of one channel's taps, repeated for every channel."""
    taps = len(offsets)
    out = np.empty(channels * taps, np.int64)
    for c in range(channels):
        for t in range(taps):
            out[c * taps + t] = offsets[t] + c * step
    return out


@njit(**OPTIONS)
def fold(w, values, channels):  # type: ignore[no-untyped-def]
    """Weights (O, C*K) times coefficients (K, T): taps (O, C*T)."""
    k, taps = values.shape
    out = np.zeros((w.shape[0], channels * taps), w.dtype)
    for o in range(w.shape[0]):
        for c in range(channels):
            for i in range(k):
                a = w[o, c * k + i]
                for t in range(taps):
                    out[o, c * taps + t] += a * values[i, t]
    return out


@njit(parallel=True, **OPTIONS)
def ring_apply(x, v, w, pattern, columns, plan, y):  # type: ignore[no-untyped-def]
    """y (B, O, P) from x (B, C, Q): a task is a chunk of rows times a block of ``step`` columns.

    w is (O, C*K), or has no rows, in which case y gets the K functions unmixed, (B, C*K, P). ``pattern`` holds the arrays of a
    :class:`~spheregeo.sparse.RingPattern`, ``plan`` (first rows of the chunks, step, which rows fold).
    """
    indptr, ring, shift, source_base, source_stride, target_base, target_stride = pattern
    chunks, step, folds = plan
    blocks = (columns + step - 1) // step
    number = len(chunks) - 1
    channels, k = x.shape[1], v.shape[0]
    mixed = len(w) > 0
    height = len(w) if mixed else channels * k
    for task in prange(x.shape[0] * number * blocks):
        b, chunk, block = task // (number * blocks), (task // blocks) % number, task % blocks
        r0, r1 = chunks[chunk], chunks[chunk + 1]
        if indptr[r1] == indptr[r0]:
            continue
        j0 = block * step
        n = min(step, columns - j0)
        first, rings, low, high = ring_extent(indptr, ring, shift, columns, r0, r1)
        width = n + high - low
        buffer = np.empty(channels * rings * width, x.dtype)
        ring_window(x[b], (first, rings), (source_base, source_stride), j0 + low, width, columns, buffer)
        out = np.empty((height, n), x.dtype)
        z = np.empty((channels * k, n), x.dtype)
        z_offsets = np.arange(channels * k) * n
        for p in range(r0, r1):
            taps = indptr[p + 1] - indptr[p]
            if taps == 0:
                continue
            offsets = np.empty(taps, np.int64)
            _taps((indptr, ring, shift), columns, p, first, width, low, offsets)
            values = _row_values(v, indptr[p], taps)
            out[:] = 0
            if mixed and folds[p]:
                accumulate(
                    fold(w, values, channels), buffer, _spread(offsets, channels, rings * width), out, n
                )
            else:
                target = z if mixed else out
                if mixed:
                    z[:] = 0
                for c in range(channels):
                    stretch = buffer[c * rings * width :]
                    accumulate(values, stretch, offsets, target[c * k : (c + 1) * k], n)
                if mixed:
                    accumulate(w, z.reshape(-1), z_offsets, out, n)
            at = target_base[p] + target_stride[p] * j0
            if target_stride[p] == 1:
                for o in range(height):
                    y[b, o, at : at + n] = out[o]
            else:
                for o in range(height):
                    for j in range(n):
                        y[b, o, at + target_stride[p] * j] = out[o, j]


@njit(parallel=True, **OPTIONS)
def ring_gradients(features, pattern, columns, plan, gx, dw):  # type: ignore[no-untyped-def]
    """Both gradients from one contraction, over the adjoint pattern: with u_ok(q) = sum_p psi_k(p, q) g_o(p),

    gx_c(q) = sum_ok w[c, o*K + k] u_ok(q) and dw[c, o*K + k] = sum_q x_c(q) u_ok(q).
    ``features`` (g (B, O, P), v (K, T), w (C, O*K), x (B, C, Q)); gx (B, C, Q) may have no channels: not wanted;
    dw (threads, C, O*K).
    """
    g, v, w, x = features
    indptr, ring, shift, g_base, g_stride, x_base, x_stride = pattern
    chunks, step, folds = plan
    blocks = (columns + step - 1) // step
    number = len(chunks) - 1
    outputs, k, channels = g.shape[1], v.shape[0], x.shape[1]
    wanted = gx.shape[1] > 0
    for task in prange(x.shape[0] * number * blocks):
        thread = numba.get_thread_id()
        b, chunk, block = task // (number * blocks), (task // blocks) % number, task % blocks
        r0, r1 = chunks[chunk], chunks[chunk + 1]
        if indptr[r1] == indptr[r0]:
            continue
        j0 = block * step
        n = min(step, columns - j0)
        first, rings, low, high = ring_extent(indptr, ring, shift, columns, r0, r1)
        width = n + high - low
        buffer = np.empty(outputs * rings * width, x.dtype)
        ring_window(g[b], (first, rings), (g_base, g_stride), j0 + low, width, columns, buffer)
        row = np.empty((channels, n), x.dtype)
        u = np.empty((outputs * k, n), x.dtype)
        u_offsets = np.arange(outputs * k) * n
        for q in range(r0, r1):
            taps = indptr[q + 1] - indptr[q]
            if taps == 0:
                continue
            at, stride = x_base[q] + x_stride[q] * j0, x_stride[q]
            for c in range(channels):
                for j in range(n):
                    row[c, j] = x[b, c, at + stride * j]
            offsets = np.empty(taps, np.int64)
            _taps((indptr, ring, shift), columns, q, first, width, low, offsets)
            values = _row_values(v, indptr[q], taps)
            if folds[q]:
                spread = _spread(offsets, outputs, rings * width)
                folded = np.zeros((channels, outputs * taps), x.dtype)
                correlate(row, buffer, spread, folded, n)
                for c in range(channels):
                    for o in range(outputs):
                        for i in range(k):
                            total = x.dtype.type(0)
                            for t in range(taps):
                                total += folded[c, o * taps + t] * values[i, t]
                            dw[thread, c, o * k + i] += total
                if wanted:
                    row[:] = 0
                    accumulate(fold(w, values, outputs), buffer, spread, row, n)
            else:
                u[:] = 0
                for o in range(outputs):
                    stretch = buffer[o * rings * width :]
                    accumulate(values, stretch, offsets, u[o * k : (o + 1) * k], n)
                correlate(row, u.reshape(-1), u_offsets, dw[thread], n)
                if wanted:
                    row[:] = 0
                    accumulate(w, u.reshape(-1), u_offsets, row, n)
            if wanted:
                for c in range(channels):
                    for j in range(n):
                        gx[b, c, at + stride * j] = row[c, j]
