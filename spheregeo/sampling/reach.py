"""Compiled search along a mesh's edges; importing this module imports numba."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def reach(indptr, indices, points, targets, seeds, radius, limit):  # type: ignore[no-untyped-def]
    """Vertices within ``radius`` in space of each target that paths from its seed reach.

    Paths run along edges, over vertices within ``radius`` of the target, and are at most ``limit`` long, the straight way from
    the target to its seed included. A seed of -1, or one out of reach, leaves the row empty.

    Returns: (count of each row, vertices row by row in the order of their index).
    """
    count = np.zeros(len(targets), dtype=np.int64)
    out = np.empty(max(16, 16 * len(targets)), dtype=np.int64)
    length = np.full(len(points), np.inf)  # shortest path found, of the row in hand
    square = radius * radius
    queued = np.zeros(len(points), dtype=np.bool_)
    total = 0
    for row in range(len(targets)):
        seed = seeds[row]
        if seed < 0:
            continue
        x, y, z = targets[row, 0], targets[row, 1], targets[row, 2]
        start = (points[seed, 0] - x) ** 2 + (points[seed, 1] - y) ** 2 + (points[seed, 2] - z) ** 2
        if start > square:
            continue
        begin = total
        if total == len(out):
            out = np.concatenate((out, np.empty_like(out)))
        out[total] = seed
        total += 1
        length[seed] = np.sqrt(start)
        waiting = [seed]  # first in, first out; a vertex comes back when a shorter path to it is found
        queued[seed] = True
        head = 0
        while head < len(waiting):
            here = waiting[head]
            head += 1
            queued[here] = False
            for k in range(indptr[here], indptr[here + 1]):
                q = indices[k]
                px, py, pz = points[q, 0], points[q, 1], points[q, 2]
                if (px - x) ** 2 + (py - y) ** 2 + (pz - z) ** 2 > square:
                    continue
                step = np.sqrt(
                    (px - points[here, 0]) ** 2 + (py - points[here, 1]) ** 2 + (pz - points[here, 2]) ** 2
                )
                way = length[here] + step
                if way > limit or way >= length[q]:
                    continue
                if length[q] == np.inf:
                    if total == len(out):
                        out = np.concatenate((out, np.empty_like(out)))
                    out[total] = q
                    total += 1
                length[q] = way
                if not queued[q]:
                    queued[q] = True
                    waiting.append(q)
        for k in range(begin, total):
            length[out[k]] = np.inf
        out[begin:total].sort()
        count[row] = total - begin
    return count, out[:total].copy()
