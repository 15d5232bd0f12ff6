"""Harmonics of a block of points at a time, and their first and second derivatives contracted with cotangents.

Along a block everything is contiguous, so LLVM vectorises; nothing larger than the result is kept. Arithmetic is in float64
for float32 points too: memory, not arithmetic, sets the pace. For fixed m the polynomials
Q_lm(y) follow in degree, Q_l = a y Q_{l−1} − b Q_{l−2}, and their derivatives in y by the same recurrence differentiated. With
C_m + i S_m = (z + i x)^m the harmonics are Y_{l,m} = Q_lm C_m and Y_{l,−m} = Q_lm S_m.
"""

from __future__ import annotations

import numpy as np

from spheregeo.jit import njit

BLOCK = 128
# NaN and infinity keep their meaning
OPTIONS = {
    "fastmath": {"contract", "reassoc", "nsz"},
    "nogil": True,
    "boundscheck": False,
    "error_model": "numpy",
}


@njit(**OPTIONS)
def directions(vectors, start, n, ux, uy, uz, inverse, some):  # type: ignore[no-untyped-def]
    """Unit vectors, 1/|r|, and whether there is a direction: 0 at r = 0, where the unit vector and 1/|r| are 0 as well."""
    zero, one = 0.0, 1.0
    for j in range(n):
        x, y, z = (
            np.float64(vectors[start + j, 0]),
            np.float64(vectors[start + j, 1]),
            np.float64(vectors[start + j, 2]),
        )
        size = max(abs(x), abs(y), abs(z))
        nothing = size == zero
        scale = one if nothing else size
        x, y, z = x / scale, y / scale, z / scale
        length = one if nothing else np.sqrt(x * x + y * y + z * z)
        ux[j], uy[j], uz[j] = x / length, y / length, z / length
        inverse[j] = zero if nothing else one / (length * scale)
        some[j] = zero if nothing else one


@njit(**OPTIONS)
def forward(vectors, start, stop, lmax, first, a, b, out):  # type: ignore[no-untyped-def]
    """out[p, l² + l + m] = Y_lm of the direction of vectors[p], for p from start to stop."""
    work = np.empty((10, BLOCK))
    ux, uy, uz, inverse, some = work[0], work[1], work[2], work[3], work[4]
    c, s, before, current, after = work[5], work[6], work[7], work[8], work[9]
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        directions(vectors, begin, n, ux, uy, uz, inverse, some)
        for j in range(n):
            out[begin + j, 0] = first[0]
            c[j], s[j] = some[j], 0.0
        for m in range(lmax + 1):
            start_value = first[m]
            for j in range(n):
                before[j], current[j] = 0.0, start_value
            for degree in range(m, lmax + 1):
                if degree > m:
                    p, q = a[degree, m], b[degree, m]
                    for j in range(n):
                        after[j] = p * uy[j] * current[j] - q * before[j]
                    before, current, after = current, after, before
                if degree == 0:
                    continue
                centre = degree * degree + degree
                if m == 0:
                    for j in range(n):
                        out[begin + j, centre] = current[j] * c[j]
                else:
                    for j in range(n):
                        out[begin + j, centre + m] = current[j] * c[j]
                        out[begin + j, centre - m] = current[j] * s[j]
            for j in range(n):
                u, v = c[j], s[j]
                c[j] = uz[j] * u - ux[j] * v
                s[j] = uz[j] * v + ux[j] * u


@njit(**OPTIONS)
def backward(vectors, start, stop, lmax, first, a, b, grad, out):  # type: ignore[no-untyped-def]
    """out[p] = gradient with respect to vectors[p] of the sum over k of grad[p, k] Y_k."""
    zero = 0.0
    work = np.empty((21, BLOCK))
    ux, uy, uz, inverse, some = work[0], work[1], work[2], work[3], work[4]
    c, s, c1, s1 = work[5], work[6], work[7], work[8]
    q0, q1, q2, d0, d1, d2 = work[9], work[10], work[11], work[12], work[13], work[14]
    cos0, sin0, cos1, sin1 = work[15], work[16], work[17], work[18]
    gx, gz = work[19], work[20]
    gy = np.empty(BLOCK)
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        directions(vectors, begin, n, ux, uy, uz, inverse, some)
        for j in range(n):
            c[j], s[j], c1[j], s1[j] = some[j], zero, zero, zero
            gx[j], gy[j], gz[j] = zero, zero, zero
        for m in range(lmax + 1):
            start_value, mm = first[m], float(m)
            for j in range(n):
                q0[j], q1[j], d0[j], d1[j] = zero, start_value, zero, zero
                cos0[j], sin0[j], cos1[j], sin1[j] = zero, zero, zero, zero
            for degree in range(m, lmax + 1):
                if degree > m:
                    p, q = a[degree, m], b[degree, m]
                    for j in range(n):
                        q2[j] = p * uy[j] * q1[j] - q * q0[j]
                        d2[j] = p * (q1[j] + uy[j] * d1[j]) - q * d0[j]
                    q0, q1, q2 = q1, q2, q0
                    d0, d1, d2 = d1, d2, d0
                centre = degree * degree + degree
                for j in range(n):
                    g = grad[begin + j, centre + m]
                    cos0[j] += g * q1[j]
                    cos1[j] += g * d1[j]
                if m:
                    for j in range(n):
                        g = grad[begin + j, centre - m]
                        sin0[j] += g * q1[j]
                        sin1[j] += g * d1[j]
            for j in range(n):
                gy[j] += c[j] * cos1[j] + s[j] * sin1[j]
                gz[j] += mm * (c1[j] * cos0[j] + s1[j] * sin0[j])
                gx[j] += mm * (c1[j] * sin0[j] - s1[j] * cos0[j])
                u, v = c[j], s[j]
                c1[j], s1[j] = u, v
                c[j] = uz[j] * u - ux[j] * v
                s[j] = uz[j] * v + ux[j] * u
        for j in range(n):
            along = gx[j] * ux[j] + gy[j] * uy[j] + gz[j] * uz[j]
            out[begin + j, 0] = (gx[j] - along * ux[j]) * inverse[j]
            out[begin + j, 1] = (gy[j] - along * uy[j]) * inverse[j]
            out[begin + j, 2] = (gz[j] - along * uz[j]) * inverse[j]


@njit(**OPTIONS)
def second(vectors, start, stop, lmax, first, a, b, grad, along, values, out):  # type: ignore[no-untyped-def]
    """The derivative of ``forward`` (values) and of ``backward`` (out) when vectors[p] moves along along[p]."""
    zero, two = 0.0, 2.0
    work = np.empty((46, BLOCK))
    ux, uy, uz, inverse, some = work[0], work[1], work[2], work[3], work[4]
    dx, dy, dz, radial = work[5], work[6], work[7], work[8]  # motion of the unit vector, and of log |r|
    c, s, c1, s1, c2, s2 = work[9], work[10], work[11], work[12], work[13], work[14]
    q0, q1, q2, d0, d1, d2 = work[15], work[16], work[17], work[18], work[19], work[20]
    e0, e1, e2, dc, ds = work[21], work[22], work[23], work[24], work[25]
    cos0, sin0, cos1, sin1, cos2, sin2 = work[26], work[27], work[28], work[29], work[30], work[31]
    gx, gy, gz, hx, hy, hz = work[32], work[33], work[34], work[35], work[36], work[37]
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        directions(vectors, begin, n, ux, uy, uz, inverse, some)
        for j in range(n):
            vx, vy, vz = along[begin + j, 0], along[begin + j, 1], along[begin + j, 2]
            t = vx * ux[j] + vy * uy[j] + vz * uz[j]
            dx[j], dy[j], dz[j] = (
                (vx - t * ux[j]) * inverse[j],
                (vy - t * uy[j]) * inverse[j],
                (vz - t * uz[j]) * inverse[j],
            )
            radial[j] = t * inverse[j]
            c[j], s[j], c1[j], s1[j], c2[j], s2[j] = some[j], zero, zero, zero, zero, zero
            gx[j], gy[j], gz[j], hx[j], hy[j], hz[j] = zero, zero, zero, zero, zero, zero
        for m in range(lmax + 1):
            start_value, m1 = first[m], float(m - 1)
            mm = float(m)
            for j in range(n):
                q0[j], q1[j], d0[j], d1[j], e0[j], e1[j] = zero, start_value, zero, zero, zero, zero
                cos0[j], sin0[j], cos1[j], sin1[j], cos2[j], sin2[j] = zero, zero, zero, zero, zero, zero
                dc[j] = mm * (c1[j] * dz[j] - s1[j] * dx[j])
                ds[j] = mm * (s1[j] * dz[j] + c1[j] * dx[j])
            for degree in range(m, lmax + 1):
                if degree > m:
                    p, q = a[degree, m], b[degree, m]
                    for j in range(n):
                        q2[j] = p * uy[j] * q1[j] - q * q0[j]
                        d2[j] = p * (q1[j] + uy[j] * d1[j]) - q * d0[j]
                        e2[j] = p * (two * d1[j] + uy[j] * e1[j]) - q * e0[j]
                    q0, q1, q2 = q1, q2, q0
                    d0, d1, d2 = d1, d2, d0
                    e0, e1, e2 = e1, e2, e0
                centre = degree * degree + degree
                for j in range(n):
                    g = grad[begin + j, centre + m]
                    cos0[j] += g * q1[j]
                    cos1[j] += g * d1[j]
                    cos2[j] += g * e1[j]
                    values[begin + j, centre + m] = d1[j] * dy[j] * c[j] + q1[j] * dc[j]
                if m:
                    for j in range(n):
                        g = grad[begin + j, centre - m]
                        sin0[j] += g * q1[j]
                        sin1[j] += g * d1[j]
                        sin2[j] += g * e1[j]
                        values[begin + j, centre - m] = d1[j] * dy[j] * s[j] + q1[j] * ds[j]
            for j in range(n):
                gy[j] += c[j] * cos1[j] + s[j] * sin1[j]
                gz[j] += mm * (c1[j] * cos0[j] + s1[j] * sin0[j])
                gx[j] += mm * (c1[j] * sin0[j] - s1[j] * cos0[j])
                hy[j] += (c[j] * cos2[j] + s[j] * sin2[j]) * dy[j] + dc[j] * cos1[j] + ds[j] * sin1[j]
                tc = m1 * (c2[j] * dz[j] - s2[j] * dx[j])
                ts = m1 * (s2[j] * dz[j] + c2[j] * dx[j])
                hz[j] += mm * (tc * cos0[j] + ts * sin0[j] + (c1[j] * cos1[j] + s1[j] * sin1[j]) * dy[j])
                hx[j] += mm * (tc * sin0[j] - ts * cos0[j] + (c1[j] * sin1[j] - s1[j] * cos1[j]) * dy[j])
                u, v = c[j], s[j]
                c2[j], s2[j], c1[j], s1[j] = c1[j], s1[j], u, v
                c[j] = uz[j] * u - ux[j] * v
                s[j] = uz[j] * v + ux[j] * u
        for j in range(n):
            # gradient (1 - u u^T) g / |r|: its three factors move
            x, y, z, i = ux[j], uy[j], uz[j], inverse[j]
            t = gx[j] * x + gy[j] * y + gz[j] * z
            w = hx[j] * x + hy[j] * y + hz[j] * z + gx[j] * dx[j] + gy[j] * dy[j] + gz[j] * dz[j]
            out[begin + j, 0] = (hx[j] - w * x - t * dx[j] - (gx[j] - t * x) * radial[j]) * i
            out[begin + j, 1] = (hy[j] - w * y - t * dy[j] - (gy[j] - t * y) * radial[j]) * i
            out[begin + j, 2] = (hz[j] - w * z - t * dz[j] - (gz[j] - t * z) * radial[j]) * i
