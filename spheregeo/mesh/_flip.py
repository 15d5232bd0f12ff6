"""Compiled edge flips that make an intrinsic triangulation Delaunay; importing this imports numba."""

from __future__ import annotations

import math

import numpy as np

from spheregeo.jit import njit

OPTIONS = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
TOLERANCE = 1e-11  # a weight less negative than this is rounding; flipping on it might never end


@njit(**OPTIONS)
def _following(h):  # type: ignore[no-untyped-def]
    return h + 1 if h % 3 < 2 else h - 2


@njit(**OPTIONS)
def _cotangent(opposite, b, c):  # type: ignore[no-untyped-def]
    """Cotangent of the angle opposite a side, by Kahan's area."""
    x, y, z = opposite, b, c
    if x < y:
        x, y = y, x
    if y < z:
        y, z = z, y
    if x < y:
        x, y = y, x
    four = math.sqrt(max((x + (y + z)) * (z - (x - y)) * (z + (x - y)) * (x + (y - z)), 0.0))
    return (b * b + c * c - opposite * opposite) / four if four > 0.0 else math.inf


@njit(**OPTIONS)
def make_delaunay(corners, sides, across):  # type: ignore[no-untyped-def]
    """Flip edges of a surface without border, in place, until opposite angles sum to at most π everywhere.

    Corners, sides and the glued half-edge ``across`` (F, 3): side s runs from corner s to s + 1. Returns the number of flips.
    """
    v, l, glued = corners.reshape(-1), sides.reshape(-1), across.reshape(-1)
    count = len(v)
    stack = np.arange(count)
    waiting = np.ones(count, np.bool_)
    size, flips = count, 0
    while size > 0:
        size -= 1
        h = stack[size]
        waiting[h] = False
        o = glued[h]
        if h // 3 == o // 3:
            continue  # glued to itself: the only edge at a vertex, never to be flipped
        h1, o1 = _following(h), _following(o)
        h2, o2 = _following(h1), _following(o1)
        weight = _cotangent(l[h], l[h1], l[h2]) + _cotangent(l[h], l[o1], l[o2])
        if not weight < -TOLERANCE:
            continue
        # lay both triangles out: edge from (0, 0) to (e, 0), h's third corner above, o's below
        e = l[h]
        x = (l[h2] * l[h2] + e * e - l[h1] * l[h1]) / (2 * e)
        y = math.sqrt(max(l[h2] * l[h2] - x * x, 0.0))
        u = (l[o1] * l[o1] + e * e - l[o2] * l[o2]) / (2 * e)
        w = math.sqrt(max(l[o1] * l[o1] - u * u, 0.0))
        diagonal = math.hypot(x - u, y + w)
        top, bottom = v[h2], v[o2]
        # sides round the quadrilateral: h1 (right, top), h2 (top, left), o1 (left, bottom), o2 (bottom, right)
        l_h1, l_h2, l_o1, l_o2 = l[h1], l[h2], l[o1], l[o2]
        g_h1, g_h2, g_o1, g_o2 = glued[h1], glued[h2], glued[o1], glued[o2]
        left, right = v[h], v[o]
        # h's face becomes (bottom, top, left): sides h (bottom, top), h1 (top, left), h2 (left, bottom);
        # o's becomes (top, bottom, right): o (top, bottom), o1 (bottom, right), o2 (right, top)
        v[h], v[h1], v[h2] = bottom, top, left
        v[o], v[o1], v[o2] = top, bottom, right
        l[h], l[o] = diagonal, diagonal
        l[h1], l[h2], l[o1], l[o2] = l_h2, l_o1, l_o2, l_h1
        # where a side was glued to another side of this quadrilateral, its partner has moved too
        for k in range(4):
            new = h1 if k == 0 else (h2 if k == 1 else (o1 if k == 2 else o2))
            old = g_h2 if k == 0 else (g_o1 if k == 1 else (g_o2 if k == 2 else g_h1))
            if old == h1:
                old = o2
            elif old == h2:
                old = h1
            elif old == o1:
                old = h2
            elif old == o2:
                old = o1
            glued[new], glued[old] = old, new
        flips += 1
        for k in range(4):
            new = h1 if k == 0 else (h2 if k == 1 else (o1 if k == 2 else o2))
            if not waiting[new] and not waiting[glued[new]]:
                stack[size] = new
                waiting[new] = True
                size += 1
    return flips
