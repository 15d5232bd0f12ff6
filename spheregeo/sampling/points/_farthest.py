"""Compiled farthest-point sampling; importing this imports numba.

Points come in buckets of neighbours. A new sample can only shorten the distances of a bucket whose box is nearer to it than
the bucket's largest distance so far, so most buckets are passed over without a look at their points. The result is the same.
"""

from __future__ import annotations

import math

import numpy as np

from spheregeo.jit import njit

OPTIONS = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
RELATIVE = 2.0**-10  # as in query.py
BUCKET = 32


@njit(**OPTIONS)
def farthest(points, names, first, count, tolerance):  # type: ignore[no-untyped-def]
    """Names of ``count`` of the points, from the place ``first`` on; ties go to the lowest name."""
    n = len(points)
    buckets = (n + BUCKET - 1) // BUCKET
    low = np.empty((buckets, 3))
    high = np.empty((buckets, 3))
    for b in range(buckets):
        for c in range(3):
            low[b, c] = np.inf
            high[b, c] = -np.inf
            for i in range(b * BUCKET, min(n, (b + 1) * BUCKET)):
                low[b, c] = min(low[b, c], points[i, c])
                high[b, c] = max(high[b, c], points[i, c])
    far = np.full(n, np.inf)  # squared distance to the nearest sample; -1 for samples
    most = np.full(buckets, np.inf)
    chosen = np.empty(count, np.int64)
    new = first
    for k in range(count):
        chosen[k] = names[new]
        far[new] = -1.0
        px, py, pz = points[new, 0], points[new, 1], points[new, 2]
        touched = new // BUCKET
        best = -1.0
        for b in range(buckets):
            gx = max(low[b, 0] - px, px - high[b, 0], 0.0)
            gy = max(low[b, 1] - py, py - high[b, 1], 0.0)
            gz = max(low[b, 2] - pz, pz - high[b, 2], 0.0)
            if (gx * gx + gy * gy + gz * gz) * (1 - 1e-12) <= most[b] or b == touched:
                top = -1.0
                for i in range(b * BUCKET, min(n, (b + 1) * BUCKET)):
                    x, y, z = points[i, 0] - px, points[i, 1] - py, points[i, 2] - pz
                    far[i] = min(far[i], x * x + y * y + z * z)
                    top = max(top, far[i])
                most[b] = top
            best = max(best, most[b])
        if best < 0:
            break  # all are samples
        length = math.sqrt(best)
        least = length - min(tolerance, RELATIVE * length)
        least = least * least
        lowest = -1
        for b in range(buckets):
            if most[b] >= least:
                for i in range(b * BUCKET, min(n, (b + 1) * BUCKET)):
                    if far[i] >= least and (lowest < 0 or names[i] < names[lowest]):
                        lowest = i
        new = lowest
    return chosen
