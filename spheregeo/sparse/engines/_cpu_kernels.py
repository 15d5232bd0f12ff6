"""Compiled loops of the CPU engine, over two micro-kernels that do all the arithmetic.

``accumulate`` is a small matrix product whose right-hand rows are stretches of one buffer at given offsets:
contracting a ring's taps (offsets are shifts), contracting scattered neighbours (offsets are points), folding weights
into taps, and mixing channels are all this one product with other offsets. ``correlate`` is its adjoint in the matrix.
The innermost loop runs along contiguous memory with four rows and four terms in registers, which LLVM vectorises.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import njit, prange

_OPTIONS = {"fastmath": True, "nogil": True, "cache": True, "boundscheck": False, "error_model": "numpy"}


@njit(**_OPTIONS)
def accumulate(a, rows, offsets, out, n):  # type: ignore[no-untyped-def]
    """out[i, :n] += sum_r a[i, r] * rows[offsets[r] : offsets[r] + n]."""
    m, count = a.shape
    i = 0
    while i + 4 <= m:
        y0, y1, y2, y3 = out[i], out[i + 1], out[i + 2], out[i + 3]
        r = 0
        while r + 4 <= count:
            x0, x1 = rows[offsets[r] : offsets[r] + n], rows[offsets[r + 1] : offsets[r + 1] + n]
            x2, x3 = rows[offsets[r + 2] : offsets[r + 2] + n], rows[offsets[r + 3] : offsets[r + 3] + n]
            a00, a01, a02, a03 = a[i, r], a[i, r + 1], a[i, r + 2], a[i, r + 3]
            a10, a11, a12, a13 = a[i + 1, r], a[i + 1, r + 1], a[i + 1, r + 2], a[i + 1, r + 3]
            a20, a21, a22, a23 = a[i + 2, r], a[i + 2, r + 1], a[i + 2, r + 2], a[i + 2, r + 3]
            a30, a31, a32, a33 = a[i + 3, r], a[i + 3, r + 1], a[i + 3, r + 2], a[i + 3, r + 3]
            for j in range(n):
                u0, u1, u2, u3 = x0[j], x1[j], x2[j], x3[j]
                y0[j] += a00 * u0 + a01 * u1 + a02 * u2 + a03 * u3
                y1[j] += a10 * u0 + a11 * u1 + a12 * u2 + a13 * u3
                y2[j] += a20 * u0 + a21 * u1 + a22 * u2 + a23 * u3
                y3[j] += a30 * u0 + a31 * u1 + a32 * u2 + a33 * u3
            r += 4
        while r < count:
            x0 = rows[offsets[r] : offsets[r] + n]
            b0, b1, b2, b3 = a[i, r], a[i + 1, r], a[i + 2, r], a[i + 3, r]
            for j in range(n):
                u = x0[j]
                y0[j] += b0 * u
                y1[j] += b1 * u
                y2[j] += b2 * u
                y3[j] += b3 * u
            r += 1
        i += 4
    while i + 2 <= m:
        y0, y1 = out[i], out[i + 1]
        r = 0
        while r + 8 <= count:
            x0, x1 = rows[offsets[r] : offsets[r] + n], rows[offsets[r + 1] : offsets[r + 1] + n]
            x2, x3 = rows[offsets[r + 2] : offsets[r + 2] + n], rows[offsets[r + 3] : offsets[r + 3] + n]
            x4, x5 = rows[offsets[r + 4] : offsets[r + 4] + n], rows[offsets[r + 5] : offsets[r + 5] + n]
            x6, x7 = rows[offsets[r + 6] : offsets[r + 6] + n], rows[offsets[r + 7] : offsets[r + 7] + n]
            a00, a01, a02, a03 = a[i, r], a[i, r + 1], a[i, r + 2], a[i, r + 3]
            a04, a05, a06, a07 = a[i, r + 4], a[i, r + 5], a[i, r + 6], a[i, r + 7]
            a10, a11, a12, a13 = a[i + 1, r], a[i + 1, r + 1], a[i + 1, r + 2], a[i + 1, r + 3]
            a14, a15, a16, a17 = a[i + 1, r + 4], a[i + 1, r + 5], a[i + 1, r + 6], a[i + 1, r + 7]
            for j in range(n):
                u0, u1, u2, u3, u4, u5, u6, u7 = x0[j], x1[j], x2[j], x3[j], x4[j], x5[j], x6[j], x7[j]
                y0[j] += a00 * u0 + a01 * u1 + a02 * u2 + a03 * u3 + a04 * u4 + a05 * u5 + a06 * u6 + a07 * u7
                y1[j] += a10 * u0 + a11 * u1 + a12 * u2 + a13 * u3 + a14 * u4 + a15 * u5 + a16 * u6 + a17 * u7
            r += 8
        while r + 4 <= count:
            x0, x1 = rows[offsets[r] : offsets[r] + n], rows[offsets[r + 1] : offsets[r + 1] + n]
            x2, x3 = rows[offsets[r + 2] : offsets[r + 2] + n], rows[offsets[r + 3] : offsets[r + 3] + n]
            a00, a01, a02, a03 = a[i, r], a[i, r + 1], a[i, r + 2], a[i, r + 3]
            a10, a11, a12, a13 = a[i + 1, r], a[i + 1, r + 1], a[i + 1, r + 2], a[i + 1, r + 3]
            for j in range(n):
                u0, u1, u2, u3 = x0[j], x1[j], x2[j], x3[j]
                y0[j] += a00 * u0 + a01 * u1 + a02 * u2 + a03 * u3
                y1[j] += a10 * u0 + a11 * u1 + a12 * u2 + a13 * u3
            r += 4
        while r < count:
            x0 = rows[offsets[r] : offsets[r] + n]
            b0, b1 = a[i, r], a[i + 1, r]
            for j in range(n):
                y0[j] += b0 * x0[j]
                y1[j] += b1 * x0[j]
            r += 1
        i += 2
    while i < m:
        y0 = out[i]
        r = 0
        while r + 4 <= count:
            x0, x1 = rows[offsets[r] : offsets[r] + n], rows[offsets[r + 1] : offsets[r + 1] + n]
            x2, x3 = rows[offsets[r + 2] : offsets[r + 2] + n], rows[offsets[r + 3] : offsets[r + 3] + n]
            a00, a01, a02, a03 = a[i, r], a[i, r + 1], a[i, r + 2], a[i, r + 3]
            for j in range(n):
                y0[j] += a00 * x0[j] + a01 * x1[j] + a02 * x2[j] + a03 * x3[j]
            r += 4
        while r < count:
            x0 = rows[offsets[r] : offsets[r] + n]
            b0 = a[i, r]
            for j in range(n):
                y0[j] += b0 * x0[j]
            r += 1
        i += 1


@njit(**_OPTIONS)
def correlate(g, rows, offsets, out, n):  # type: ignore[no-untyped-def]
    """out[i, r] += sum_j g[i, j] * rows[offsets[r] + j] over j < n."""
    m, count = len(g), len(offsets)
    zero = rows.dtype.type(0)
    i = 0
    while i + 4 <= m:
        g0, g1, g2, g3 = g[i], g[i + 1], g[i + 2], g[i + 3]
        r = 0
        while r + 2 <= count:
            x0, x1 = rows[offsets[r] : offsets[r] + n], rows[offsets[r + 1] : offsets[r + 1] + n]
            s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = zero
            for j in range(n):
                u0, u1 = x0[j], x1[j]
                s00 += g0[j] * u0
                s01 += g0[j] * u1
                s10 += g1[j] * u0
                s11 += g1[j] * u1
                s20 += g2[j] * u0
                s21 += g2[j] * u1
                s30 += g3[j] * u0
                s31 += g3[j] * u1
            out[i, r] += s00
            out[i, r + 1] += s01
            out[i + 1, r] += s10
            out[i + 1, r + 1] += s11
            out[i + 2, r] += s20
            out[i + 2, r + 1] += s21
            out[i + 3, r] += s30
            out[i + 3, r + 1] += s31
            r += 2
        while r < count:
            x0 = rows[offsets[r] : offsets[r] + n]
            s0 = s1 = s2 = s3 = zero
            for j in range(n):
                s0 += g0[j] * x0[j]
                s1 += g1[j] * x0[j]
                s2 += g2[j] * x0[j]
                s3 += g3[j] * x0[j]
            out[i, r] += s0
            out[i + 1, r] += s1
            out[i + 2, r] += s2
            out[i + 3, r] += s3
            r += 1
        i += 4
    while i < m:
        g0 = g[i]
        for r in range(count):
            x0 = rows[offsets[r] : offsets[r] + n]
            s = zero
            for j in range(n):
                s += g0[j] * x0[j]
            out[i, r] += s
        i += 1


@njit(**_OPTIONS)
def ring_window(x, first, rings, base, stride, begin, width, columns, buffer):  # type: ignore[no-untyped-def]
    """Copy columns begin ... begin + width (mod M) of consecutive rings, all channels, into ``buffer``."""
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


@njit(**_OPTIONS)
def _signed(shift, columns):  # type: ignore[no-untyped-def]
    return shift - columns if 2 * shift >= columns else shift


@njit(**_OPTIONS)
def ring_extent(indptr, ring, shift, columns, r0, r1):  # type: ignore[no-untyped-def]
    """(first ring, number of rings, lowest shift, highest shift) that rows r0 ... r1 touch."""
    first, last, low, high = np.int64(1 << 40), np.int64(-1), np.int64(0), np.int64(0)
    for t in range(indptr[r0], indptr[r1]):
        s = _signed(np.int64(shift[t]), columns)
        low, high = min(low, s), max(high, s)
        first, last = min(first, np.int64(ring[t])), max(last, np.int64(ring[t]))
    return first, last - first + 1, low, high


@njit(**_OPTIONS)
def _taps(indptr, ring, shift, columns, p, first, width, low, offsets):  # type: ignore[no-untyped-def]
    begin = indptr[p]
    for t in range(indptr[p + 1] - begin):
        s = _signed(np.int64(shift[begin + t]), columns)
        offsets[t] = (np.int64(ring[begin + t]) - first) * width + s - low


@njit(**_OPTIONS)
def _row_values(v, begin, count):  # type: ignore[no-untyped-def]
    out = np.empty((v.shape[0], count), v.dtype)
    for k in range(v.shape[0]):
        for t in range(count):
            out[k, t] = v[k, begin + t]
    return out


@njit(**_OPTIONS)
def _spread(offsets, channels, step):  # type: ignore[no-untyped-def]
    """Offsets of one channel's taps, repeated for every channel."""
    taps = len(offsets)
    out = np.empty(channels * taps, np.int64)
    for c in range(channels):
        for t in range(taps):
            out[c * taps + t] = offsets[t] + c * step
    return out


@njit(**_OPTIONS)
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


@njit(parallel=True, **_OPTIONS)
def ring_apply(  # type: ignore[no-untyped-def]
    x,
    v,
    w,
    indptr,
    ring,
    shift,
    source_base,
    source_stride,
    target_base,
    target_stride,
    columns,
    chunks,
    step,
    folds,
    y,
):
    """y (B, O, P) from x (B, C, Q): a task is a chunk of rows times a block of ``step`` columns.

    w is (O, C*K), or has no rows, in which case y gets the K functions unmixed, (B, C*K, P).
    """
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
        ring_window(x[b], first, rings, source_base, source_stride, j0 + low, width, columns, buffer)
        out = np.empty((height, n), x.dtype)
        z = np.empty((channels * k, n), x.dtype)
        z_offsets = np.arange(channels * k) * n
        for p in range(r0, r1):
            taps = indptr[p + 1] - indptr[p]
            if taps == 0:
                continue
            offsets = np.empty(taps, np.int64)
            _taps(indptr, ring, shift, columns, p, first, width, low, offsets)
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


@njit(parallel=True, **_OPTIONS)
def ring_gradients(  # type: ignore[no-untyped-def]
    g, v, w, x, indptr, ring, shift, g_base, g_stride, x_base, x_stride, columns, chunks, step, folds, gx, dw
):
    """Both gradients from one contraction, over the adjoint pattern: with u_ok(q) = sum_p psi_k(p, q) g_o(p),

    gx_c(q) = sum_ok w[c, o*K + k] u_ok(q) and dw[c, o*K + k] = sum_q x_c(q) u_ok(q).
    g (B, O, P), w (C, O*K), x and gx (B, C, Q) (gx may have no channels: not wanted), dw (threads, C, O*K).
    """
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
        ring_window(g[b], first, rings, g_base, g_stride, j0 + low, width, columns, buffer)
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
            _taps(indptr, ring, shift, columns, q, first, width, low, offsets)
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


@njit(**_OPTIONS)
def _spectral_contract(re, im, parts, extent, function, imaginary, k, f0, n, zr, zi):  # type: ignore[no-untyped-def]
    """z[c*K + k] = sum_q Psi_k(q) X_c(q) for one row: re, im (C, rings, F), parts (E, rings, F)."""
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


@njit(**_OPTIONS)
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


@njit(parallel=True, **_OPTIONS)
def spectral_mix(re, im, parts, function, imaginary, w, step, out_re, out_im):  # type: ignore[no-untyped-def]
    """out (B, N, O, rows, F) from x (B, N, C, rings, F), parts (N, rows, E, rings, F), w (O, C*K), in blocks of F."""
    batch, number, channels, _, f = re.shape
    rows, k = parts.shape[1], w.shape[1] // channels
    blocks = (f + step - 1) // step
    for task in prange(batch * number * rows * blocks):
        b, band = task // (number * rows * blocks), (task // (rows * blocks)) % number
        p, f0 = (task // blocks) % rows, (task % blocks) * step
        n = min(step, f - f0)
        zr, zi = np.empty((channels * k, n), re.dtype), np.empty((channels * k, n), re.dtype)
        part = parts[band, p]
        _spectral_contract(
            re[b, band], im[b, band], part, _extent(part), function, imaginary, k, f0, n, zr, zi
        )
        offsets = np.arange(channels * k) * n
        y = np.zeros((len(w), n), re.dtype)
        accumulate(w, zr.reshape(-1), offsets, y, n)
        out_re[b, band, :, p, f0 : f0 + n] = y
        y[:] = 0
        accumulate(w, zi.reshape(-1), offsets, y, n)
        out_im[b, band, :, p, f0 : f0 + n] = y


@njit(parallel=True, **_OPTIONS)
def spectral_correlate(re, im, parts, function, imaginary, k, g_re, g_im, step, dw):  # type: ignore[no-untyped-def]
    """dw (threads, O, C*K) from x (B, N, C, rings, F) and g (B, N, O, rows, F)."""
    batch, number, channels, _, f = re.shape
    rows, height = parts.shape[1], g_re.shape[2]
    blocks = (f + step - 1) // step
    for task in prange(batch * number * rows * blocks):
        thread = numba.get_thread_id()
        b, band = task // (number * rows * blocks), (task // (rows * blocks)) % number
        p, f0 = (task // blocks) % rows, (task % blocks) * step
        n = min(step, f - f0)
        zr, zi = np.empty((channels * k, n), re.dtype), np.empty((channels * k, n), re.dtype)
        part = parts[band, p]
        _spectral_contract(
            re[b, band], im[b, band], part, _extent(part), function, imaginary, k, f0, n, zr, zi
        )
        offsets = np.arange(channels * k) * n
        grad = np.empty((height, n), re.dtype)
        grad[:] = g_re[b, band, :, p, f0 : f0 + n]
        correlate(grad, zr.reshape(-1), offsets, dw[thread], n)
        grad[:] = g_im[b, band, :, p, f0 : f0 + n]
        correlate(grad, zi.reshape(-1), offsets, dw[thread], n)


@njit(**_OPTIONS)
def _contract_row(v, begin, taps, x, offsets, z, base, k, n):  # type: ignore[no-untyped-def]
    """z[base + f*n : base + (f+1)*n] = sum_t v[begin + t, f] x[offsets[t] : offsets[t] + n] for each f < k.

    ``accumulate`` for stretches of a few channels, where its slices would cost more than the sums: flat arrays and
    unsigned indices, which need no test for counting from the end.
    """
    f = 0
    while f < k:
        pair = f + 1 < k
        b0 = np.uint64(base + f * n)
        b1 = np.uint64(base + (f + 1) * n)
        for c in range(n):
            z[b0 + np.uint64(c)] = 0
        if pair:
            for c in range(n):
                z[b1 + np.uint64(c)] = 0
        t = 0
        while t + 4 <= taps:
            q0, q1, q2, q3 = offsets[t], offsets[t + 1], offsets[t + 2], offsets[t + 3]
            a0, a1, a2, a3 = v[begin + t, f], v[begin + t + 1, f], v[begin + t + 2, f], v[begin + t + 3, f]
            if pair:
                e0, e1 = v[begin + t, f + 1], v[begin + t + 1, f + 1]
                e2, e3 = v[begin + t + 2, f + 1], v[begin + t + 3, f + 1]
                for c in range(n):
                    u = np.uint64(c)
                    x0, x1, x2, x3 = x[q0 + u], x[q1 + u], x[q2 + u], x[q3 + u]
                    z[b0 + u] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                    z[b1 + u] += e0 * x0 + e1 * x1 + e2 * x2 + e3 * x3
            else:
                for c in range(n):
                    u = np.uint64(c)
                    z[b0 + u] += a0 * x[q0 + u] + a1 * x[q1 + u] + a2 * x[q2 + u] + a3 * x[q3 + u]
            t += 4
        while t < taps:
            q0, a0 = offsets[t], v[begin + t, f]
            for c in range(n):
                u = np.uint64(c)
                z[b0 + u] += a0 * x[q0 + u]
            if pair:
                e0 = v[begin + t, f + 1]
                for c in range(n):
                    u = np.uint64(c)
                    z[b1 + u] += e0 * x[q0 + u]
            t += 1
        f += 2


@njit(parallel=True, **_OPTIONS)
def csr_contract(x, v, indptr, indices, start, members, first, last, longest, block, z):  # type: ignore[no-untyped-def]
    """z (last - first, K*C) from x (Q*C,), channels last, and v (T, K), for rows first ... last.

    With ``members`` the rows are members[first:last], and consecutive ones that read the same coefficients are one
    product over all their neighbours side by side.
    """
    k = v.shape[1]
    channels = z.shape[1] // k
    number = (last - first + block - 1) // block
    flat = z.reshape(-1)
    listed = len(members) > 0
    for task in prange(number):
        i, end = first + task * block, min(first + (task + 1) * block, last)
        offsets = np.empty(longest, np.uint64)
        stretch = np.empty(longest, np.int64)
        while i < end:
            p = np.int64(members[i]) if listed else i
            row, begin = indptr[p], start[p]
            taps = indptr[p + 1] - row
            run = i + 1
            while listed and run < end:
                other = np.int64(members[run])
                if start[other] != begin or indptr[other + 1] - indptr[other] != taps:
                    break
                run += 1
            count = run - i
            if count < 3:
                for t in range(taps):
                    offsets[t] = np.uint64(np.int64(indices[row + t]) * channels)
                _contract_row(v, begin, taps, x, offsets, flat, (i - first) * k * channels, k, channels)
                i += 1
                continue
            width = count * channels
            buffer = np.empty(taps * width, x.dtype)
            for j in range(count):
                row = indptr[np.int64(members[i + j])]
                for t in range(taps):
                    at = np.uint64(t * width + j * channels)
                    q = np.uint64(np.int64(indices[row + t]) * channels)
                    for c in range(channels):
                        buffer[at + np.uint64(c)] = x[q + np.uint64(c)]
            for t in range(taps):
                stretch[t] = t * width
            out = np.zeros((k, width), x.dtype)
            accumulate(v[begin : begin + taps].T, buffer, stretch[:taps], out, width)
            for j in range(count):
                for f in range(k):
                    at = np.uint64(((i + j - first) * k + f) * channels)
                    for c in range(channels):
                        flat[at + np.uint64(c)] = out[f, j * channels + c]
            i = run
