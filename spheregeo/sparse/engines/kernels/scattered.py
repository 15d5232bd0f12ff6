"""Scattered rows: channels last, one row at a time, or all rows that read the same coefficients side by side."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from spheregeo.sparse.engines.kernels.product import OPTIONS, accumulate


@njit(**OPTIONS)
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


@njit(parallel=True, **OPTIONS)
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
