"""Scattered rows: channels last, one row at a time, or all rows that read the same coefficients side by side."""

from __future__ import annotations

import numpy as np
from numba import prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.inner import tiled_set
from spheregeo.sparse.engines.kernels.options import OPTIONS
from spheregeo.sparse.engines.kernels.product import accumulate


@njit(parallel=True, **OPTIONS)
def csr_contract(x, v, pattern, stretch_of_rows, sizes, z):  # type: ignore[no-untyped-def]
    """z (last - first, K*C) from x (Q*C,), channels last, and v (T, K), for a stretch of rows first ... last.

    ``pattern`` (indptr, indices, start, members), ``sizes`` (entries of the longest row, rows a task).

    With ``members`` the rows are members[first:last], and consecutive ones that read the same coefficients are one
    product over all their neighbours side by side.
    """
    indptr, indices, start, members = pattern
    first, last = stretch_of_rows
    longest, block = sizes
    k = v.shape[1]
    channels = z.shape[1] // k
    number = (last - first + block - 1) // block
    flat = z.reshape(-1)
    listed = len(members) > 0
    for task in prange(number):
        i, end = first + task * block, min(first + (task + 1) * block, last)
        offsets = np.empty(longest, np.int64)
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
                    offsets[t] = np.int64(indices[row + t]) * channels
                base = (i - first) * k * channels
                tiled_set(v, begin * k, 1, k, x, 0, offsets, flat, base, channels, k, taps, channels)
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
