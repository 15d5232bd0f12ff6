"""The inner loops in plain Python for numba, with the names and arguments of :mod:`spheregeo.sparse.engines.kernels.tiles`.

Slower by what README.md in this folder lists, and free of LLVM code: used where ``SPHEREGEO_TILES=0``, where tiles do not
build, and, uncompiled, under ``NUMBA_DISABLE_JIT=1``. Arrays of any shape count as memory, and must be C-contiguous.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import extending
from numba.core import types as numba_types

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.options import OPTIONS

types: Any = numba_types  # types are made as attributes are read


def _begin(places, index):  # type: ignore[no-untyped-def]
    """Where a stretch begins: an entry of an array, or a multiple of a step."""
    return places[index] if isinstance(places, np.ndarray) else index * places


@extending.overload(_begin)
def _compiled_begin(places, index):  # type: ignore[no-untyped-def]
    if isinstance(places, types.Array):
        return lambda places, index: places[index]
    return lambda places, index: index * places


def _factor(y, index):  # type: ignore[no-untyped-def]
    """An entry of an array, or the number that stands in its place."""
    return y[index] if isinstance(y, np.ndarray) else y


@extending.overload(_factor)
def _compiled_factor(y, index):  # type: ignore[no-untyped-def]
    if isinstance(y, types.Array):
        return lambda y, index: y[index]
    return lambda y, index: y


@njit(**OPTIONS)
def _memory(array):  # type: ignore[no-untyped-def]
    assert array.flags.c_contiguous  # of others, reshape makes a copy
    return array.reshape(-1)


@njit(**OPTIONS)
def tiled_add(a, at, by_row, by_term, x, x_at, xs, z, z_at, zs, m, count, n):  # type: ignore[no-untyped-def]
    """z[z_at + Z(i) + j] += sum_r a[at + i by_row + r by_term] x[x_at + X(r) + j] for i < m, r < count, j < n."""
    factors, source, goal = _memory(a), _memory(x), _memory(z)
    for i in range(m):
        to = z_at + _begin(zs, i)
        for r in range(count):
            factor = factors[at + i * by_row + r * by_term]
            begin = x_at + _begin(xs, r)
            for j in range(n):
                goal[to + j] += factor * source[begin + j]


@njit(**OPTIONS)
def tiled_set(a, at, by_row, by_term, x, x_at, xs, z, z_at, zs, m, count, n):  # type: ignore[no-untyped-def]
    """As ``tiled_add``, with = in place of +=."""
    goal = _memory(z)
    for i in range(m):
        to = z_at + _begin(zs, i)
        for j in range(n):
            goal[to + j] = 0
    tiled_add(a, at, by_row, by_term, x, x_at, xs, z, z_at, zs, m, count, n)


@njit(**OPTIONS)
def tiled_dot(x, x_at, xs, y, y_at, ys, out, at, by_row, by_column, m, count, n):  # type: ignore[no-untyped-def]
    """out[at + i by_row + r by_column] += sum_j x[x_at + X(i) + j] y[y_at + Y(r) + j] for i < m, r < count, j < n."""
    left, right, goal = _memory(x), _memory(y), _memory(out)
    for i in range(m):
        first = x_at + _begin(xs, i)
        for r in range(count):
            second = y_at + _begin(ys, r)
            total = goal[at + i * by_row + r * by_column]
            for j in range(n):
                total += left[first + j] * right[second + j]
            goal[at + i * by_row + r * by_column] = total


@njit(**OPTIONS)
def line_add(x, x_at, y, y_at, z, z_at, n):  # type: ignore[no-untyped-def]
    """z[z_at + j] += x[x_at + j] y[y_at + j] for j < n; y may be a number, and y_at is then not read."""
    for j in range(n):
        z[z_at + j] += x[x_at + j] * _factor(y, y_at + j)


@njit(**OPTIONS)
def line_set(x, x_at, y, y_at, z, z_at, n):  # type: ignore[no-untyped-def]
    """As ``line_add``, with = in place of +=."""
    for j in range(n):
        z[z_at + j] = x[x_at + j] * _factor(y, y_at + j)


@njit(**OPTIONS)
def accumulate(a, rows, offsets, out, n):  # type: ignore[no-untyped-def]
    """out[i, :n] += sum_r a[i, r] * rows[offsets[r] : offsets[r] + n]; ``a`` and ``out`` may have any strides."""
    for i in range(a.shape[0]):
        for r in range(a.shape[1]):
            factor = a[i, r]
            begin = offsets[r]
            for j in range(n):
                out[i, j] += factor * rows[begin + j]


@njit(**OPTIONS)
def correlate(g, rows, offsets, out, n):  # type: ignore[no-untyped-def]
    """out[i, r] += sum_j g[i, j] * rows[offsets[r] + j] over j < n."""
    for i in range(len(g)):
        for r in range(len(offsets)):
            begin = offsets[r]
            total = out[i, r]
            for j in range(n):
                total += g[i, j] * rows[begin + j]
            out[i, r] = total


@njit(**OPTIONS)
def prefetch(x, first, count):  # type: ignore[no-untyped-def]
    """Nothing: plain loops leave prefetching to the processor."""


@njit(**OPTIONS)
def no_inline():  # type: ignore[no-untyped-def]
    """Nothing: plain loops are small enough to be inlined."""
