"""Two micro-kernels that do nearly all the arithmetic of the CPU engine.

``accumulate`` is a small matrix product whose right-hand rows are stretches of one buffer at given offsets:
contracting a ring's taps (offsets are shifts), contracting scattered neighbours (offsets are points), folding weights
into taps, and mixing channels are all this one product with other offsets. ``correlate`` is its adjoint in the matrix.
The innermost loop runs along contiguous memory with four rows and four terms in registers, which LLVM vectorises.
"""

from __future__ import annotations

from numba import njit

OPTIONS = {"fastmath": True, "nogil": True, "cache": True, "boundscheck": False, "error_model": "numpy"}


@njit(**OPTIONS)
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


@njit(**OPTIONS)
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
