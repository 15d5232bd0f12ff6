"""Compiled propagation of distance, direction and transport from one vertex over a patch; importing this imports numba.

Vertices are taken from a heap in the order of their distance. When one is taken, each of its triangles with another
taken vertex is unfolded together with the point in the plane that has the two known distances, and the third vertex
is reached by a straight line from that point, if the line crosses the known edge; else along an edge.
"""

from __future__ import annotations

import math

import numpy as np

from spheregeo.jit import njit

OPTIONS = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
LEAST, MOST = 0.05, 4.0  # bounds on how curvature changes the distance that paths seem to come from
GAIN = 1e-12  # relative: a shorter way by less than this is rounding


@njit(**OPTIONS)
def _rise(heap, place, key, at):  # type: ignore[no-untyped-def]
    """Move heap[at] up to where it belongs."""
    item = heap[at]
    while at > 0:
        above = (at - 1) >> 1
        if key[heap[above]] <= key[item]:
            break
        heap[at] = heap[above]
        place[heap[at]] = at
        at = above
    heap[at] = item
    place[item] = at


@njit(**OPTIONS)
def _take(heap, place, key, size):  # type: ignore[no-untyped-def]
    """Remove and return the vertex with the smallest key of a heap of ``size``."""
    first, item = heap[0], heap[size - 1]
    size -= 1
    at = 0
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and key[heap[below + 1]] < key[heap[below]]:
            below += 1
        if key[heap[below]] >= key[item]:
            break
        heap[at] = heap[below]
        place[heap[at]] = at
        at = below
    heap[at] = item
    place[item] = at
    place[first] = -1
    return first


@njit(**OPTIONS)
def _wrap(angle):  # type: ignore[no-untyped-def]
    return angle - 2 * math.pi * math.floor((angle + math.pi) / (2 * math.pi))


@njit(**OPTIONS)
def _unfold(df, dg, fg, gt, tf):  # type: ignore[no-untyped-def]
    """Reach t over edge (f, g) of the triangle (f, g, t) from distances df, dg of f and g and its sides fg, gt, tf.

    Returns the distance of t, infinite if the straight line misses the edge; the places (xs, ys) of the source and
    (xt, yt) of t, with f at (0, 0) and g at (fg, 0); and the share of the edge that lies before the line.
    """
    xs = (df * df + fg * fg - dg * dg) / (2 * fg)
    ys = -math.sqrt(max(df * df - xs * xs, 0.0))
    xt = (tf * tf + fg * fg - gt * gt) / (2 * fg)
    yt = math.sqrt(max(tf * tf - xt * xt, 0.0))
    rise = yt - ys
    cross = xs * rise - (xt - xs) * ys  # where the line crosses the edge, times rise
    if not rise > 0.0 or cross < 0.0 or cross > fg * rise:
        return math.inf, xs, ys, xt, yt, 0.0
    return math.sqrt((xt - xs) * (xt - xs) + rise * rise), xs, ys, xt, yt, cross / (fg * rise)


@njit(**OPTIONS)
def _share(fg, xs, ys, xt, yt, over, bend, spread):  # type: ignore[no-untyped-def]
    """Share of the angle at the source between the paths to f and g that lies before t.

    ``bend`` is that angle, ``spread`` the one between the paths where they reach f and g: on curved surfaces paths converge
    or diverge, so that they seem to come from another distance than they do.
    """
    mx, my = fg / 2 - xs, -ys  # from the source to the middle of the edge
    middle = math.hypot(mx, my)
    opening = math.atan2(fg * my, mx * mx + my * my - fg * fg / 4)
    if not (middle > 0.0 and opening > 0.0):
        return over
    if abs(bend) > 3 * opening + 0.5:  # the front met itself: f and g were reached round different sides
        return 0.0 if over < 0.5 else 1.0
    ratio = abs(spread) / opening if spread * bend > 0.0 else 0.0
    near = min(max(ratio, LEAST), MOST) / middle  # one over the distance the paths seem to come from
    mx, my = mx / middle, my / middle
    along, aside = fg / 2 * mx, fg / 2 * my  # of g from the middle; of f the negative
    t_along, t_aside = (xt - fg / 2) * mx + yt * my, (xt - fg / 2) * my - yt * mx
    at_f = math.atan2(-aside * near, 1 - along * near)
    at_g = math.atan2(aside * near, 1 + along * near)
    at_t = math.atan2(t_aside * near, 1 + t_along * near)
    share = (at_t - at_f) / (at_g - at_f) if at_g > at_f else over
    return min(max(share, 0.0), 1.0)


@njit(**OPTIONS)
def propagate(  # type: ignore[no-untyped-def]
    sources, radius, indptr, indices, reverse, half_edge, angle, transport, corners, length, carried
):
    """Rows of the log map of ``sources``: their lengths, and index, distance, direction and transport of each entry.

    Per slot: indices, reverse, half_edge, angle, transport. Per half-edge: its first vertex ``corners``, ``length`` and
    transport ``carried`` from its first vertex to its second.
    """
    n = len(indptr) - 1
    distance = np.full(n, np.inf)
    direction, turn = np.empty(n), np.empty(n)
    heap, place = np.empty(n, np.int32), np.full(n, -1, np.int32)
    taken = np.zeros(n, np.bool_)
    touched = np.empty(n, np.int32)
    counts = np.zeros(len(sources), np.int64)
    room = 64 * len(sources)
    out_index = np.empty(room, np.int64)
    out = np.empty((3, room))
    used = 0
    for row in range(len(sources)):
        s = sources[row]
        distance[s], direction[s], turn[s], taken[s] = 0.0, 0.0, 0.0, True
        touched[0] = s
        reached, size, longest = 1, 0, 0.0
        for k in range(indptr[s], indptr[s + 1]):
            q = indices[k]
            far = length[half_edge[k] if half_edge[k] >= 0 else half_edge[reverse[k]]]
            longest = max(longest, far)
            if distance[q] == np.inf:
                touched[reached] = q
                reached += 1
                heap[size] = q
                size += 1
            elif far >= distance[q]:
                continue
            distance[q], direction[q], turn[q] = far, angle[k], transport[k]
            _rise(heap, place, distance, size - 1 if place[q] < 0 else place[q])
        while size > 0:
            if (
                distance[heap[0]] > radius + longest
            ):  # a vertex inside may be reached over an edge that ends outside
                break
            j = _take(heap, place, distance, size)
            size -= 1
            taken[j] = True
            for k in range(indptr[j], indptr[j + 1]):
                h0 = half_edge[k]
                if h0 < 0:
                    continue
                first = h0 - h0 % 3
                h1 = first + (h0 - first + 1) % 3
                h2 = first + (h0 - first + 2) % 3
                if distance[j] <= radius:
                    longest = max(longest, length[h0], length[h1], length[h2])
                for side in range(2):  # the triangle (j, a, b): reach b over (j, a), then a over (b, j)
                    fg, gt, tf = (h0, h1, h2) if side == 0 else (h2, h0, h1)
                    f, g, t = corners[fg], corners[gt], corners[tf]
                    if t == s:
                        continue
                    best = distance[j] + length[tf if side == 0 else gt]
                    where, along = direction[j], turn[f] + carried[tf] if side == 0 else turn[g] - carried[gt]
                    known = taken[f] and taken[g] and f != s and g != s
                    # no point of the edge is nearer than half of what its ends have less its length
                    if known and distance[f] + distance[g] - length[fg] < 2 * distance[t]:
                        straight, xs, ys, xt, yt, over = _unfold(
                            distance[f], distance[g], length[fg], length[gt], length[tf]
                        )
                        if straight < best and straight < distance[t]:
                            bend = _wrap(direction[g] - direction[f])
                            inside = _wrap(turn[f] - turn[g] - carried[fg])  # curvature between the two paths
                            share = _share(length[fg], xs, ys, xt, yt, over, bend, bend + inside)
                            face = _wrap(carried[fg] + carried[gt] + carried[tf])
                            best, where = straight, direction[f] + share * bend
                            along = turn[f] + carried[tf] - share * inside - over * face
                    if best < distance[t] * (1 - GAIN):
                        if distance[t] == np.inf:
                            touched[reached] = t
                            reached += 1
                        distance[t], direction[t], turn[t] = best, where, along
                        if place[t] < 0:
                            heap[size] = t
                            size += 1
                            _rise(heap, place, distance, size - 1)
                        else:
                            _rise(heap, place, distance, place[t])
        if used + reached > room:
            room = 2 * room + reached
            longer_index, longer = np.empty(room, np.int64), np.empty((3, room))
            longer_index[:used], longer[:, :used] = out_index[:used], out[:, :used]
            out_index, out = longer_index, longer
        touched[:reached].sort()
        begin = used
        for k in range(reached):
            q = touched[k]
            if distance[q] <= radius:
                out_index[used], out[0, used] = q, distance[q]
                out[1, used], out[2, used] = direction[q], turn[q]
                used += 1
            distance[q], taken[q], place[q] = np.inf, False, -1
        counts[row] = used - begin
    return counts, out_index[:used].copy(), out[:, :used].copy()
