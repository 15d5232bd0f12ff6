"""Compiled loops of the neighbours on surfaces; importing this module imports numba."""

from __future__ import annotations

import math

import numpy as np

from spheregeo.jit import njit

OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
}  # no fast mathematics: infinities are compared


@njit(**OPTIONS)
def reach(indptr, indices, points, targets, seeds, radius, detour):  # type: ignore[no-untyped-def]
    """Vertices within ``radius`` in space of each target that ways along edges lead to from the target's seed.

    A way may be ``detour`` times as long as the radius and the distance from target to seed together. A seed out of
    reach leaves the row empty.

    Returns: (count of each row, vertices row by row in the order of their index).
    """
    count = np.zeros(len(targets), np.int64)
    room = 32 * len(targets)
    out = np.empty(room, np.int64)
    length = np.full(len(points), np.inf)  # shortest way found, in the row at hand
    waiting = np.zeros(len(points), np.bool_)
    touched, queue = [np.int64(0)], [np.int64(0)]
    used = 0
    for row in range(len(targets)):
        s = seeds[row]
        x, y, z = targets[row, 0], targets[row, 1], targets[row, 2]
        start = math.sqrt((points[s, 0] - x) ** 2 + (points[s, 1] - y) ** 2 + (points[s, 2] - z) ** 2)
        if start > radius:
            continue
        limit = detour * (radius + start)
        touched.clear()
        queue.clear()
        touched.append(s)
        queue.append(s)  # first in, first out; a vertex comes back when a shorter way to it is found
        length[s], waiting[s] = 0.0, True
        head = 0
        while head < len(queue):
            here = queue[head]
            head += 1
            waiting[here] = False
            px, py, pz = points[here, 0], points[here, 1], points[here, 2]
            for k in range(indptr[here], indptr[here + 1]):
                q = indices[k]
                qx, qy, qz = points[q, 0], points[q, 1], points[q, 2]
                way = length[here] + math.sqrt((qx - px) ** 2 + (qy - py) ** 2 + (qz - pz) ** 2)
                if way >= length[q]:
                    continue
                away = math.sqrt((qx - x) ** 2 + (qy - y) ** 2 + (qz - z) ** 2)
                if way + max(0.0, away - radius) > limit:  # too long, if only for coming back into the ball
                    continue
                if length[q] == np.inf:
                    touched.append(q)
                length[q] = way
                if not waiting[q]:
                    waiting[q] = True
                    queue.append(q)
        if used + len(touched) > room:
            room = 2 * room + len(touched)
            longer = np.empty(room, np.int64)
            longer[:used] = out[:used]
            out = longer
        begin = used
        for q in touched:
            length[q] = np.inf
            away = math.sqrt((points[q, 0] - x) ** 2 + (points[q, 1] - y) ** 2 + (points[q, 2] - z) ** 2)
            if away <= radius:
                out[used] = q
                used += 1
        out[begin:used].sort()
        count[row] = used - begin
    return count, out[:used].copy()


@njit(**OPTIONS)
def relate(  # type: ignore[no-untyped-def]
    rows,
    indptr,
    indices,
    p,
    n,
    e,
    q,
    m,
    f,
    radius,
    opposite,
    count,
    index,
    distance,
    angle,
    transport,
    offset,
):
    """Relative geometry of the pairs of rows ``rows[0]`` to ``rows[1]``, those too far or with opposite normals left out.

    Targets have points p, normals n and frames e; sources q, m and f. What is kept of row i begins at ``indptr[i]``.
    """
    for i in range(rows[0], rows[1]):
        at = indptr[i]
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            chord = minus = plus = u = v = along = across = 0.0
            for c in range(3):
                d = q[j, c] - p[i, c]
                offset[at, c] = d
                chord += d * d
                u += d * e[i, 0, c]
                v += d * e[i, 1, c]
                minus += (n[i, c] - m[j, c]) ** 2
                plus += (n[i, c] + m[j, c]) ** 2
                along += e[i, 0, c] * f[j, 0, c]
                across += e[i, 1, c] * f[j, 0, c]
            other = turned = 0.0
            for c in range(3):
                other += e[i, 1, c] * f[j, 1, c]
                turned += e[i, 0, c] * f[j, 1, c]
            sine, cosine = (
                math.sqrt(minus) / 2,
                math.sqrt(plus) / 2,
            )  # of half the angle, accurate at 0 and at π
            r = math.sqrt(chord)
            if sine > 0.0:
                r *= math.atan2(sine, cosine) / sine
            if r > radius or plus < 2 * opposite:
                continue
            index[at], distance[at] = j, r
            angle[at] = math.atan2(v, u) if chord > 0.0 else 0.0
            transport[at] = math.atan2(across - turned, along + other)
            at += 1
        count[i] = at - indptr[i]
