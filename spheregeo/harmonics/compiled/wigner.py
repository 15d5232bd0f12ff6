"""Wigner matrices of a block of unit quaternions at a time, and their products with the generators of rotations.

Matrices lie packed in a row a rotation: degree l begins at l(4l² − 1)/3 and is stored row by row.
"""

from __future__ import annotations

import numpy as np

from spheregeo.harmonics.compiled.harmonics import OPTIONS
from spheregeo.jit import njit

BLOCK = 64


@njit(**OPTIONS)
def powers(re, im, count, pr, pi, n):  # type: ignore[no-untyped-def]
    """pr + i pi [k] = (re + i im)^k for k < count."""
    for j in range(n):
        pr[0, j], pi[0, j] = 1, 0
    for k in range(1, count):
        for j in range(n):
            u, v = pr[k - 1, j], pi[k - 1, j]
            pr[k, j] = u * re[j] - v * im[j]
            pi[k, j] = u * im[j] + v * re[j]


@njit(**OPTIONS)
def matrices(quaternions, start, stop, lmax, first, a, b, c, out):  # type: ignore[no-untyped-def]
    """out[p] = packed D^l, l ≤ lmax, of the unit quaternion quaternions[p], float64; tables of ``jacobi_tables``.

    Only ``out`` may be float32: storing it takes the time, not the arithmetic.
    """
    one, zero, root = 1.0, 0.0, np.sqrt(2.0)
    count = 2 * lmax + 1
    table = np.empty((4, count, BLOCK))
    ar, ai, br, bi = table[0], table[1], table[2], table[3]
    work = np.empty((19, BLOCK))
    t = work[0]
    er, ei, hr, hi, kr, ki, wr, wi = (
        work[1], work[2], work[3], work[4], work[5], work[6], work[7], work[8],
    )  # fmt: skip
    f0, f1, f2, g0, g1, g2 = work[9], work[10], work[11], work[12], work[13], work[14]
    x0, x1, x2, x3 = work[15], work[16], work[17], work[18]
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        for j in range(n):
            x0[j], x1[j] = quaternions[begin + j, 0], quaternions[begin + j, 2]
            x2[j], x3[j] = quaternions[begin + j, 1], quaternions[begin + j, 3]
            t[j] = (x0[j] * x0[j] + x1[j] * x1[j]) - (x2[j] * x2[j] + x3[j] * x3[j])
        powers(x0, x1, count, ar, ai, n)
        powers(x2, x3, count, br, bi, n)
        for row in range(lmax + 1):
            for col in range(row + 1):
                d, s = row - col, row + col
                even, sign = one if d % 2 == 0 else -one, one if col % 2 == 0 else -one
                factor = one
                if col == 0 and row > 0:
                    factor = root
                begin_f = first[row, col] * factor
                for j in range(n):
                    # P and its mirror: conj(A)^s B^d, ε conj(A)^s conj(B)^d
                    p, q, u, v = ar[s, j], -ai[s, j], br[d, j], bi[d, j]
                    er[j], ei[j] = p * u - q * v, p * v + q * u
                    kr[j], ki[j] = even * (p * u + q * v), even * (q * u - p * v)
                    # Q and its mirror: ± conj(A)^d B^s, ± A^d B^s
                    p, q, u, v = ar[d, j], ai[d, j], br[s, j], bi[s, j]
                    hr[j], hi[j] = sign * (p * u + q * v), sign * (p * v - q * u)
                    wr[j], wi[j] = sign * even * (p * u - q * v), sign * even * (p * v + q * u)
                    f0[j], f1[j], g0[j], g1[j] = zero, begin_f, zero, begin_f
                for degree in range(row, lmax + 1):
                    if degree > row:
                        ca, cb, cc = a[degree, row, col], b[degree, row, col], c[degree, row, col]
                        for j in range(n):
                            f2[j] = (ca * t[j] + cb) * f1[j] - cc * f0[j]
                            g2[j] = (ca * t[j] - cb) * g1[j] - cc * g0[j]
                        f0, f1, f2 = f1, f2, f0
                        g0, g1, g2 = g1, g2, g0
                    size = 2 * degree + 1
                    centre = degree * (4 * degree * degree - 1) // 3 + degree * size + degree
                    up, right = row * size, col
                    if row == 0:
                        for j in range(n):
                            out[begin + j, centre] = f1[j] * er[j]
                    elif col == 0:
                        for j in range(n):
                            out[begin + j, centre + up] = f1[j] * er[j]
                            out[begin + j, centre - up] = -f1[j] * ei[j]
                            out[begin + j, centre + row] = f1[j] * kr[j]
                            out[begin + j, centre - row] = f1[j] * ki[j]
                    else:
                        for j in range(n):
                            p, q, u, v = f1[j] * er[j], f1[j] * ei[j], g1[j] * hr[j], g1[j] * hi[j]
                            out[begin + j, centre + up + right] = p + u
                            out[begin + j, centre - up - right] = p - u
                            out[begin + j, centre - up + right] = -(q + v)
                            out[begin + j, centre + up - right] = q - v
                        if col < row:
                            up2, right2 = col * size, row
                            for j in range(n):
                                p, q, u, v = f1[j] * kr[j], f1[j] * ki[j], g1[j] * wr[j], g1[j] * wi[j]
                                out[begin + j, centre + up2 + right2] = p + u
                                out[begin + j, centre - up2 - right2] = p - u
                                out[begin + j, centre - up2 + right2] = -(q + v)
                                out[begin + j, centre + up2 - right2] = q - v


@njit(**OPTIONS)
def torque(left, start, stop, entries, values, right, out):  # type: ignore[no-untyped-def]
    """out[p, k] = Σ_l ⟨left^l, 𝒳_k right^l⟩; entries (n, 4) hold axis, two row offsets and the row length."""
    for p in range(start, stop):
        x, y, z = 0.0, 0.0, 0.0
        for e in range(len(values)):
            i, j, size = entries[e, 1], entries[e, 2], entries[e, 3]
            total = values.dtype.type(0)
            for k in range(size):
                total += left[p, i + k] * right[p, j + k] - left[p, j + k] * right[p, i + k]
            axis = entries[e, 0]
            if axis == 0:
                x += values[e] * total
            elif axis == 1:
                y += values[e] * total
            else:
                z += values[e] * total
        out[p, 0], out[p, 1], out[p, 2] = x, y, z


@njit(**OPTIONS)
def turn(vectors, start, stop, entries, values, right, out):  # type: ignore[no-untyped-def]
    """out^l[p] = Σ_k vectors[p, k] 𝒳_k right^l[p]."""
    for p in range(start, stop):
        out[p] = 0
        for e in range(len(values)):
            i, j, size = entries[e, 1], entries[e, 2], entries[e, 3]
            v = values[e] * vectors[p, entries[e, 0]]
            for k in range(size):
                out[p, i + k] += v * right[p, j + k]
                out[p, j + k] -= v * right[p, i + k]
