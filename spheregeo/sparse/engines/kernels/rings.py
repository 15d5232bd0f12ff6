"""Block-circulant rows: channels first, longitude innermost, a task being a few rows times a block of columns."""

from __future__ import annotations

import numba
import numpy as np
from numba import prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.inner import line_add, line_set
from spheregeo.sparse.engines.kernels.options import OPTIONS
from spheregeo.sparse.engines.kernels.product import correlate, product_set


@njit(**OPTIONS)
def _sum_ahead(buffer, at, apart, count, n):  # type: ignore[no-untyped-def]
    """buffer[at + i] becomes the sum of ``count`` numbers from it on, ``apart`` from one another, for i < n."""
    for i in range(at, at + n):
        total = buffer[i]
        for e in range(1, count):
            total += buffer[i + e * apart]
        buffer[i] = total


@njit(**OPTIONS)
def _box(buffer, at, size, width):  # type: ignore[no-untyped-def]
    """Sums over a box about each point, in place: entry i becomes that about entry i + size // 2, for i < width.

    An odd size sums ``size`` numbers; an even one ``size`` numbers before and after, the mean of which is symmetric, unscaled.
    """
    apart = 1
    rest = size
    n = width + 2 * (size // 2)
    while rest % 2 == 0:  # what is read ahead has not been written yet
        n -= apart
        line_add(buffer, at + apart, np.float64(1), 0, buffer, at, n)
        apart *= 2
        rest //= 2
    factor = 3
    while rest > 1:
        while rest % factor == 0:
            n -= (factor - 1) * apart
            _sum_ahead(buffer, at, apart, factor, n)
            apart *= factor
            rest //= factor
        factor += 2
    if size % 2 == 0:
        line_add(buffer, at + 1, np.float64(1), 0, buffer, at, width)


@njit(**OPTIONS)
def ring_window(x, extent, places, boxes, begin, width, pitch, columns, buffer):  # type: ignore[no-untyped-def]
    """Copy columns begin ... begin + width (mod M) of consecutive rings, all channels, into ``buffer``.

    ``extent`` (first ring, number of rings), ``places`` (base, stride) of each ring; ``boxes`` (of each ring, of the reader):
    sizes of the boxes that are summed. Stretches of rings begin ``pitch`` apart.
    """
    first, rings = extent
    base, stride = places
    of_ring, of_reader = boxes
    points, flat = x.shape[1], x.reshape(-1)
    at = 0
    for c in range(x.shape[0]):
        for r in range(first, first + rings):
            box = of_ring[r] * of_reader
            half = box // 2
            j = (begin - half) % columns
            done = 0
            while done < width + 2 * half:
                n = min(width + 2 * half - done, columns - j)
                source = base[r] + stride[r] * j
                if stride[r] == 1:
                    line_set(flat, c * points + source, np.float64(1), 0, buffer, at + done, n)
                else:
                    for i in range(n):
                        buffer[at + done + i] = x[c, source + stride[r] * i]
                done += n
                j = 0
            if box > 1:
                _box(buffer, at, box, width)
            at += pitch


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
def _widest(of_ring, first, rings):  # type: ignore[no-untyped-def]
    """The largest box of some consecutive rings."""
    box = np.int64(1)
    for r in range(first, first + rings):
        box = max(box, of_ring[r])
    return box


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
def ring_apply(x, v, w, pattern, boxes, columns, plan, y):  # type: ignore[no-untyped-def]
    """y (B, O, P) from x (B, C, Q): a task is a chunk of rows times a block of ``step`` columns.

    w is (O, C*K), or has no rows, in which case y gets the K functions unmixed, (B, C*K, P). ``pattern`` holds the arrays of a
    :class:`~spheregeo.sparse.RingPattern`, ``boxes`` (of source rings, of rows) sizes of the boxes that are summed along
    rings, one of them 1 for each pair and the latter equal within a chunk, ``plan`` (first rows of chunks, step, rows that fold).
    """
    indptr, ring, shift, source_base, source_stride, target_base, target_stride = pattern
    chunks, step, folds = plan
    blocks = (columns + step - 1) // step
    number = len(chunks) - 1
    channels, k = x.shape[1], v.shape[0]
    mixed = len(w) > 0
    height = len(w) if mixed else channels * k
    of_ring, of_row = boxes
    points, flat = y.shape[2], y.reshape(-1)
    for task in prange(x.shape[0] * number * blocks):
        b, chunk, block = task // (number * blocks), (task // blocks) % number, task % blocks
        r0, r1 = chunks[chunk], chunks[chunk + 1]
        if indptr[r1] == indptr[r0]:
            continue
        j0 = block * step
        n = min(step, columns - j0)
        first, rings, low, high = ring_extent(indptr, ring, shift, columns, r0, r1)
        width = n + high - low
        pitch = width + 2 * (_widest(of_ring, first, rings) * of_row[r0] // 2)
        buffer = np.empty(channels * rings * pitch, x.dtype)
        near, places = (of_ring, of_row[r0]), (source_base, source_stride)
        ring_window(x[b], (first, rings), places, near, j0 + low, width, pitch, columns, buffer)
        out = np.empty((height, n), x.dtype)
        z = np.empty((channels * k, n), x.dtype)
        for p in range(r0, r1):
            taps = indptr[p + 1] - indptr[p]
            if taps == 0:
                continue
            offsets = np.empty(taps, np.int64)
            _taps((indptr, ring, shift), columns, p, first, pitch, low, offsets)
            values = _row_values(v, indptr[p], taps)
            at = target_base[p] + target_stride[p] * j0
            direct = target_stride[p] == 1  # results go where they belong without a copy
            goal = flat if direct else out.reshape(-1)
            z_at = b * height * points + at if direct else 0
            apart = points if direct else n
            if mixed and folds[p]:
                folded = fold(w, values, channels)
                spread, terms = _spread(offsets, channels, rings * pitch), channels * taps
                product_set(folded, 0, terms, 1, buffer, 0, spread, goal, z_at, apart, height, terms, n)
            else:
                for c in range(channels):
                    stretch = c * rings * pitch
                    if mixed:
                        product_set(values, 0, taps, 1, buffer, stretch, offsets, z, c * k * n, n, k, taps, n)
                    else:
                        to = z_at + c * k * apart
                        product_set(values, 0, taps, 1, buffer, stretch, offsets, goal, to, apart, k, taps, n)
                if mixed:
                    terms = channels * k
                    product_set(w, 0, terms, 1, z, 0, n, goal, z_at, apart, height, terms, n)
            if not direct:
                for o in range(height):
                    for j in range(n):
                        y[b, o, at + target_stride[p] * j] = out[o, j]


@njit(parallel=True, **OPTIONS)
def ring_gradients(features, pattern, boxes, columns, plan, gx, dw):  # type: ignore[no-untyped-def]
    """Both gradients from one contraction, over the adjoint pattern: with u_ok(q) = sum_p psi_k(p, q) g_o(p),

    gx_c(q) = sum_ok w[c, o*K + k] u_ok(q) and dw[c, o*K + k] = sum_q x_c(q) u_ok(q).
    ``features`` (g (B, O, P), v (K, T), w (C, O*K), x (B, C, Q)); gx (B, C, Q) may have no channels: not wanted;
    dw (threads, C, O*K). ``boxes`` and ``plan`` as for :func:`ring_apply`.
    """
    g, v, w, x = features
    indptr, ring, shift, g_base, g_stride, x_base, x_stride = pattern
    chunks, step, folds = plan
    blocks = (columns + step - 1) // step
    number = len(chunks) - 1
    outputs, k, channels = g.shape[1], v.shape[0], x.shape[1]
    wanted = gx.shape[1] > 0
    of_ring, of_row = boxes
    points, flat, given = x.shape[2], gx.reshape(-1), x.reshape(-1)
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
        pitch = width + 2 * (_widest(of_ring, first, rings) * of_row[r0] // 2)
        buffer = np.empty(outputs * rings * pitch, x.dtype)
        near, places = (of_ring, of_row[r0]), (g_base, g_stride)
        ring_window(g[b], (first, rings), places, near, j0 + low, width, pitch, columns, buffer)
        row = np.empty((channels, n), x.dtype)
        lines = row.reshape(-1)
        u = np.empty((outputs * k, n), x.dtype)
        u_offsets = np.arange(outputs * k) * n
        height = outputs * k
        for q in range(r0, r1):
            taps = indptr[q + 1] - indptr[q]
            if taps == 0:
                continue
            at, stride = x_base[q] + x_stride[q] * j0, x_stride[q]
            direct = stride == 1
            for c in range(channels):
                if direct:
                    line_set(given, (b * channels + c) * points + at, np.float64(1), 0, lines, c * n, n)
                else:
                    for j in range(n):
                        row[c, j] = x[b, c, at + stride * j]
            offsets = np.empty(taps, np.int64)
            _taps((indptr, ring, shift), columns, q, first, pitch, low, offsets)
            values = _row_values(v, indptr[q], taps)
            goal = flat if direct else lines
            z_at = b * channels * points + at if direct else 0
            apart = points if direct else n
            if folds[q]:
                spread, terms = _spread(offsets, outputs, rings * pitch), outputs * taps
                folded = np.zeros((channels, terms), x.dtype)
                correlate(row, buffer, spread, folded, n)
                for c in range(channels):
                    for o in range(outputs):
                        for i in range(k):
                            total = x.dtype.type(0)
                            for t in range(taps):
                                total += folded[c, o * taps + t] * values[i, t]
                            dw[thread, c, o * k + i] += total
                if wanted:
                    weights = fold(w, values, outputs)
                    product_set(
                        weights, 0, terms, 1, buffer, 0, spread, goal, z_at, apart, channels, terms, n
                    )
            else:
                for o in range(outputs):
                    stretch = o * rings * pitch
                    product_set(values, 0, taps, 1, buffer, stretch, offsets, u, o * k * n, n, k, taps, n)
                correlate(row, u.reshape(-1), u_offsets, dw[thread], n)
                if wanted:
                    product_set(w, 0, height, 1, u, 0, n, goal, z_at, apart, channels, height, n)
            if wanted and not direct:
                for c in range(channels):
                    for j in range(n):
                        gx[b, c, at + stride * j] = row[c, j]
