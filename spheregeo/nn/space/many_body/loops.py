"""Compiled loops over the monomials of a polynomial, depth first, all channels of a point at a time.

Monomials are the nodes of a tree: a node is its parent's monomial times one variable. A point's pass holds the monomials of one
branch and nothing else; on the way down terms are added, on the way up derivatives are handed to the parent. Arguments come in
groups: ``tree`` (nodes (n, 4): depth, variable, first and last term; terms (K,): the row of each), ``places`` of variables and of
rows, (., 3) each: a variable's channels begin at C (N a + i b + m) for (a, b, m) and point i; ``sizes`` (N, C, K, depth); ``of``
the table of coefficients of each point. ``order`` are the points of a task.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.inner import line_add, line_set
from spheregeo.sparse.engines.kernels.options import OPTIONS


@njit(**OPTIONS)
def _at(places, k, i, count, channels):  # type: ignore[no-untyped-def]
    return channels * (count * places[k, 0] + i * places[k, 1] + places[k, 2])


@njit(**OPTIONS)
def _clear(z, places, i, count, channels):  # type: ignore[no-untyped-def]
    for k in range(len(places)):
        at = _at(places, k, i, count, channels)
        for j in range(channels):
            z[at + j] = 0


@njit(**OPTIONS)
def _value(points, x, c, of, tree, variables, rows, sizes, y):  # type: ignore[no-untyped-def]
    nodes, terms = tree
    count, channels, width, depth = sizes
    value = np.empty((depth + 1) * channels, x.dtype)
    one = value.dtype.type(1)
    for i in points:
        _clear(y, rows, i, count, channels)
        table = of[i] * width
        for n in range(len(nodes)):
            d = nodes[n, 0]
            at = _at(variables, nodes[n, 1], i, count, channels)
            if d == 1:
                line_set(x, at, one, 0, value, channels, channels)
            else:
                line_set(x, at, value, (d - 1) * channels, value, d * channels, channels)
            for k in range(nodes[n, 2], nodes[n, 3]):
                goal = _at(rows, terms[k], i, count, channels)
                line_add(value, d * channels, c, (table + k) * channels, y, goal, channels)


@njit(parallel=True, **OPTIONS)
def value(order, bounds, x, c, of, tree, variables, rows, sizes, y):  # type: ignore[no-untyped-def]
    """y = p(x), a task for each pair of bounds."""
    for t in prange(len(bounds) - 1):
        _value(order[bounds[t] : bounds[t + 1]], x, c, of, tree, variables, rows, sizes, y)


@njit(**OPTIONS)
def _gradients(points, x, c, g, of, tree, variables, rows, sizes, wanted, gx, gc):  # type: ignore[no-untyped-def]
    nodes, terms = tree
    count, channels, width, depth = sizes
    want_x, want_c = wanted
    value = np.empty((depth + 1) * channels, x.dtype)
    back = np.empty((depth + 1) * channels, x.dtype)
    path = np.zeros(depth + 1, np.int64)
    one = value.dtype.type(1)
    for i in points:
        if want_x:
            _clear(gx, variables, i, count, channels)
        table = of[i] * width
        here = 0
        for n in range(len(nodes) + 1):
            d = nodes[n, 0] if n < len(nodes) else 1
            while here >= d:  # up again
                if want_x:
                    at, own, above = path[here], here * channels, (here - 1) * channels
                    if here == 1:
                        line_add(back, own, one, 0, gx, at, channels)
                    else:
                        line_add(back, own, value, above, gx, at, channels)
                        line_add(back, own, x, at, back, above, channels)
                here -= 1
            if n == len(nodes):
                break
            at = _at(variables, nodes[n, 1], i, count, channels)
            here = d
            path[d] = at
            own = d * channels
            first, last = nodes[n, 2], nodes[n, 3]
            if d == 1:
                line_set(x, at, one, 0, value, own, channels)
            elif want_c or (n + 1 < len(nodes) and nodes[n + 1, 0] > d):  # a leaf's value only weights need
                line_set(x, at, value, own - channels, value, own, channels)
            if want_x:
                if first == last:
                    for j in range(channels):
                        back[own + j] = 0
                for k in range(first, last):
                    goal = _at(rows, terms[k], i, count, channels)
                    if k == first:
                        line_set(g, goal, c, (table + k) * channels, back, own, channels)
                    else:
                        line_add(g, goal, c, (table + k) * channels, back, own, channels)
            if want_c:
                for k in range(first, last):
                    goal = _at(rows, terms[k], i, count, channels)
                    line_add(g, goal, value, own, gc, (table + k) * channels, channels)


@njit(parallel=True, **OPTIONS)
def gradients(order, bounds, x, c, g, of, tree, variables, rows, sizes, wanted, gx, gc):  # type: ignore[no-untyped-def]
    """Gradients of <g, p(x)>; points with one table of coefficients are in one task where its gradient is wanted."""
    for t in prange(len(bounds) - 1):
        points = order[bounds[t] : bounds[t + 1]]
        _gradients(points, x, c, g, of, tree, variables, rows, sizes, wanted, gx, gc)


@njit(**OPTIONS)
def _second(points, x, c, g, v, of, tree, variables, rows, sizes, wanted, hx, hc, hg):  # type: ignore[no-untyped-def]
    nodes, terms = tree
    count, channels, width, depth = sizes
    want_x, want_c, want_g = wanted
    value = np.empty((depth + 1) * channels, x.dtype)
    slope = np.empty((depth + 1) * channels, x.dtype)  # of the value along v
    back = np.empty((depth + 1) * channels, x.dtype)  # of the slope
    rest = np.empty((depth + 1) * channels, x.dtype)  # of the value
    path = np.zeros(depth + 1, np.int64)
    one = value.dtype.type(1)
    for i in points:
        if want_x:
            _clear(hx, variables, i, count, channels)
        if want_g:
            _clear(hg, rows, i, count, channels)
        table = of[i] * width
        here = 0
        for n in range(len(nodes) + 1):
            d = nodes[n, 0] if n < len(nodes) else 1
            while here >= d:
                if want_x:
                    at, own, above = path[here], here * channels, (here - 1) * channels
                    if here == 1:
                        line_add(rest, own, one, 0, hx, at, channels)
                    else:
                        line_add(back, own, slope, above, hx, at, channels)
                        line_add(rest, own, value, above, hx, at, channels)
                        line_add(back, own, v, at, rest, above, channels)
                        line_add(rest, own, x, at, rest, above, channels)
                        line_add(back, own, x, at, back, above, channels)
                here -= 1
            if n == len(nodes):
                break
            at = _at(variables, nodes[n, 1], i, count, channels)
            here = d
            path[d] = at
            own, above = d * channels, (d - 1) * channels
            first, last = nodes[n, 2], nodes[n, 3]
            if d == 1:
                line_set(x, at, one, 0, value, own, channels)
                line_set(v, at, one, 0, slope, own, channels)
            else:
                line_set(x, at, value, above, value, own, channels)
                line_set(x, at, slope, above, slope, own, channels)
                line_add(v, at, value, above, slope, own, channels)
            if want_x:
                for j in range(channels):
                    back[own + j] = 0
                    rest[own + j] = 0
            for k in range(first, last):
                goal, mine = _at(rows, terms[k], i, count, channels), (table + k) * channels
                if want_x:
                    line_add(g, goal, c, mine, back, own, channels)
                if want_c:
                    line_add(g, goal, slope, own, hc, mine, channels)
                if want_g:
                    line_add(slope, own, c, mine, hg, goal, channels)


@njit(parallel=True, **OPTIONS)
def second(order, bounds, x, c, g, v, of, tree, variables, rows, sizes, wanted, hx, hc, hg):  # type: ignore[no-untyped-def]
    """Gradients to x, c and g of <v, d<g, p(x)>/dx>, in tasks as those of :func:`gradients`."""
    for t in prange(len(bounds) - 1):
        points = order[bounds[t] : bounds[t + 1]]
        _second(points, x, c, g, v, of, tree, variables, rows, sizes, wanted, hx, hc, hg)
