"""Compiled edge collapses in the order of their cost; importing this imports numba.

A quadric is ten numbers (a11, a12, a13, a22, a23, a33, b1, b2, b3, c): the cost x·a x + 2 b·x + c of putting a cluster at x.
The corners at a vertex form a linked list, so that two vertices merge without moving memory.
"""

from __future__ import annotations

import math

import numpy as np

from spheregeo.jit import njit

OPTIONS = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
LEVEL = 0.2  # cosine by which a face's normal may turn in one collapse


@njit(**OPTIONS)
def _best(qa, qb, at):  # type: ignore[no-untyped-def]
    """Write the cheapest place of the union of two clusters into ``at``; return its cost."""
    a11, a12, a13 = qa[0] + qb[0], qa[1] + qb[1], qa[2] + qb[2]
    a22, a23, a33 = qa[3] + qb[3], qa[4] + qb[4], qa[5] + qb[5]
    b1, b2, b3 = qa[6] + qb[6], qa[7] + qb[7], qa[8] + qb[8]
    # Cholesky factorisation; regular, for every cluster has inertia
    l11 = math.sqrt(a11)
    l21, l31 = a12 / l11, a13 / l11
    l22 = math.sqrt(a22 - l21 * l21)
    l32 = (a23 - l31 * l21) / l22
    l33 = math.sqrt(a33 - l31 * l31 - l32 * l32)
    y1 = -b1 / l11
    y2 = (-b2 - l21 * y1) / l22
    y3 = (-b3 - l31 * y1 - l32 * y2) / l33
    at[2] = y3 / l33
    at[1] = (y2 - l32 * at[2]) / l22
    at[0] = (y1 - l21 * at[1] - l31 * at[2]) / l11
    return max(qa[9] + qb[9] + b1 * at[0] + b2 * at[1] + b3 * at[2], 0.0)


@njit(**OPTIONS)
def _sift_up(cost, item, at):  # type: ignore[no-untyped-def]
    value, first, second, third = cost[at], item[at, 0], item[at, 1], item[at, 2]
    while at > 0:
        above = (at - 1) >> 1
        if cost[above] <= value:
            break
        cost[at] = cost[above]
        item[at] = item[above]
        at = above
    cost[at], item[at, 0], item[at, 1], item[at, 2] = value, first, second, third


@njit(**OPTIONS)
def _sift_down(cost, item, at, size):  # type: ignore[no-untyped-def]
    value, first, second, third = cost[at], item[at, 0], item[at, 1], item[at, 2]
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and cost[below + 1] < cost[below]:
            below += 1
        if cost[below] >= value:
            break
        cost[at] = cost[below]
        item[at] = item[below]
        at = below
    cost[at], item[at, 0], item[at, 1], item[at, 2] = value, first, second, third


@njit(**OPTIONS)
def _folds(v, faces, following, head, at, i, j):  # type: ignore[no-untyped-def]
    """Whether a face at i that j is not in would turn too far, or lose its area, if i moved to ``at``."""
    c = head[i]
    while c >= 0:
        f, k = c // 3, c % 3
        a, b = faces[f, (k + 1) % 3], faces[f, (k + 2) % 3]
        if a != j and b != j:
            ux, uy, uz = v[b, 0] - v[a, 0], v[b, 1] - v[a, 1], v[b, 2] - v[a, 2]
            px, py, pz = v[i, 0] - v[a, 0], v[i, 1] - v[a, 1], v[i, 2] - v[a, 2]
            qx, qy, qz = at[0] - v[a, 0], at[1] - v[a, 1], at[2] - v[a, 2]
            nx, ny, nz = uy * pz - uz * py, uz * px - ux * pz, ux * py - uy * px
            mx, my, mz = uy * qz - uz * qy, uz * qx - ux * qz, ux * qy - uy * qx
            old, new = math.sqrt(nx * nx + ny * ny + nz * nz), math.sqrt(mx * mx + my * my + mz * mz)
            longest = max(ux * ux + uy * uy + uz * uz, qx * qx + qy * qy + qz * qz)
            if new < 1e-4 * longest or nx * mx + ny * my + nz * mz < LEVEL * old * new:
                return True
        c = following[c]
    return False


@njit(**OPTIONS)
def _prune(following, head, tail, alive, i):  # type: ignore[no-untyped-def]
    """Take the corners of dead faces out of i's list; return how many are left."""
    left, last, c = 0, -1, head[i]
    while c >= 0:
        ahead = following[c]
        if alive[c // 3]:
            if last < 0:
                head[i] = c
            else:
                following[last] = c
            last = c
            left += 1
        c = ahead
    if last < 0:
        head[i] = -1
    else:
        following[last] = -1
    tail[i] = last
    return left


@njit(**OPTIONS)
def collapse(v, faces, quadrics, edges, border, target):  # type: ignore[no-untyped-def]
    """Collapse edges, in place, until ``target`` vertices with faces are left or no edge can be.

    v (V, 3), faces (F, 3), quadrics (V, 10), edges (E, 2), border (V,) bool. Returns the vertex each one went into, its
    own index where it stays, and which faces are left.
    """
    count, number = len(v), len(faces)
    into = np.arange(count)
    alive = np.ones(number, np.bool_)
    following = np.full(3 * number, -1, np.int64)
    head, tail = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    left = 0
    for f in range(number):
        for k in range(3):
            i = faces[f, k]
            if head[i] < 0:
                head[i] = 3 * f + k
                left += 1
            else:
                following[tail[i]] = 3 * f + k
            tail[i] = 3 * f + k
    room = 2 * len(edges) + 64
    cost, item = np.empty(room), np.empty((room, 3), np.int32)
    version = np.zeros(count, np.int32)
    mark = np.full(count, -1, np.int64)
    at = np.empty(3)
    around = np.empty(1024, np.int64)
    size = len(edges)
    for e in range(size):
        i, j = edges[e]
        cost[e] = _best(quadrics[i], quadrics[j], at)
        item[e, 0], item[e, 1], item[e, 2] = i, j, 0
    for e in range(size // 2, -1, -1):
        if e < size:
            _sift_down(cost, item, e, size)
    stamp = 0
    while left > target and size > 0:
        i, j, age = np.int64(item[0, 0]), np.int64(item[0, 1]), item[0, 2]
        size -= 1
        cost[0] = cost[size]
        item[0] = item[size]
        if size > 0:
            _sift_down(cost, item, 0, size)
        if into[i] != i or into[j] != j or version[i] + version[j] != age:
            continue
        # what lies round both: the vertices both see must be those across the edge
        degree_i = _prune(following, head, tail, alive, i)
        degree_j = _prune(following, head, tail, alive, j)
        stamp += 2
        c = head[i]
        shared, across_a, across_b = 0, np.int64(-1), np.int64(-1)
        while c >= 0:
            f, k = c // 3, c % 3
            a, b = faces[f, (k + 1) % 3], faces[f, (k + 2) % 3]
            mark[a] = stamp
            mark[b] = stamp
            if a == j or b == j:
                third = b if a == j else a
                shared += 1
                if across_a < 0:
                    across_a = third
                else:
                    across_b = third
            c = following[c]
        if shared == 0 or shared > 2 or (border[i] and border[j] and shared == 2):
            continue
        if degree_i + degree_j - 2 * shared < 1:
            continue
        common = 0
        sound = True
        c = head[j]
        while c >= 0:
            f, k = c // 3, c % 3
            a, b = faces[f, (k + 1) % 3], faces[f, (k + 2) % 3]
            for other in (a, b):
                if mark[other] == stamp:
                    common += 1
                    mark[other] = stamp + 1
            if (a == across_a and b == across_b) or (a == across_b and b == across_a):
                sound = False  # a tetrahedron would be left with two faces on the same vertices
            c = following[c]
        if not sound or common != shared:
            continue
        if _prune(following, head, tail, alive, across_a) < 2:
            continue
        if across_b >= 0 and _prune(following, head, tail, alive, across_b) < 2:
            continue
        _best(quadrics[i], quadrics[j], at)
        if _folds(v, faces, following, head, at, i, j) or _folds(v, faces, following, head, at, j, i):
            continue
        # j goes into i
        c = head[j]
        while c >= 0:
            f, k = c // 3, c % 3
            if faces[f, (k + 1) % 3] == i or faces[f, (k + 2) % 3] == i:
                alive[f] = False
            else:
                faces[f, k] = i
            c = following[c]
        if tail[i] < 0:
            head[i] = head[j]
        else:
            following[tail[i]] = head[j]
        tail[i] = tail[j]
        into[j] = i
        left -= 1
        border[i] = border[i] or border[j]
        quadrics[i] += quadrics[j]
        v[i] = at
        version[i] += 1
        _prune(following, head, tail, alive, i)
        # new costs of the edges round i
        stamp += 2
        near = 0
        c = head[i]
        while c >= 0:
            f, k = c // 3, c % 3
            for step in range(1, 3):
                q = faces[f, (k + step) % 3]
                if mark[q] != stamp:
                    mark[q] = stamp
                    if near == len(around):
                        wider = np.empty(2 * near, np.int64)
                        wider[:near] = around
                        around = wider
                    around[near] = q
                    near += 1
            c = following[c]
        if size + near > room:  # drop what is out of date
            kept = 0
            for e in range(size):
                a, b = np.int64(item[e, 0]), np.int64(item[e, 1])
                if into[a] == a and into[b] == b and version[a] + version[b] == item[e, 2]:
                    cost[kept] = cost[e]
                    item[kept] = item[e]
                    kept += 1
            size = kept
            for e in range(size // 2, -1, -1):
                if e < size:
                    _sift_down(cost, item, e, size)
        for n in range(near):
            q = around[n]
            cost[size] = _best(quadrics[i], quadrics[q], at)
            item[size, 0], item[size, 1], item[size, 2] = i, q, version[i] + version[q]
            size += 1
            _sift_up(cost, item, size - 1)
    return into, alive
