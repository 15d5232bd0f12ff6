"""Steps shared by the three loops over pairs in ``coupling.py``, whose head describes the arguments."""

from __future__ import annotations

import numpy as np

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.inner import line_add, line_set, prefetch
from spheregeo.sparse.engines.kernels.options import OPTIONS
from spheregeo.sparse.engines.kernels.product import product_set

PIECE = 16  # pairs whose coefficients are held at a time


@njit(**OPTIONS)
def largest(blocks, heads):  # type: ignore[no-untyped-def]
    """Of all blocks the most components, functions of all heads, coefficients of a pair, numbers of a source."""
    components = functions = coefficients = numbers = np.int64(1)
    for b in range(len(blocks)):
        count = blocks[b, 4] - blocks[b, 3]
        components = max(components, blocks[b, 1])
        functions = max(functions, heads * count)
        coefficients = max(coefficients, count * blocks[b, 1])
        numbers = max(numbers, blocks[b, 1] * blocks[b, 2])
    return components, functions, coefficients, numbers


@njit(**OPTIONS)
def transposed(y, first, count, dim, out):  # type: ignore[no-untyped-def]
    """out[m, t] = y[first + t, m], lines of PIECE."""
    for t in range(count):
        at = (first + t) * dim
        for m in range(dim):
            out[m * PIECE + t] = y[at + m]


@njit(**OPTIONS)
def coefficients(y, at, count, dim, tables, b, yt, a):  # type: ignore[no-untyped-def]
    """Coefficients a (F, d * count) of block b for the pairs at, ..., from their features, which go to yt transposed."""
    blocks, _, entries, values = tables
    first, wide = blocks[b, 3], blocks[b, 1] * count
    transposed(y, at, count, dim, yt)
    for k in range((blocks[b, 4] - first) * wide):
        a[k] = 0
    for n in range(blocks[b, 5], blocks[b, 6]):
        goal = (entries[n, 0] - first) * wide + entries[n, 1] * count
        line_add(yt, entries[n, 2] * PIECE, values[n], 0, a, goal, count)


@njit(**OPTIONS)
def for_heads(a, wt, heads, number, d, count, out):  # type: ignore[no-untyped-def]
    """out[h * F + f, (m1, t)] = w[t, h] a[f, (m1, t)]."""
    for h in range(heads):
        for k in range(number * d):
            line_set(a, k * count, wt, h * PIECE, out, (h * number * d + k) * count, count)


@njit(**OPTIONS)
def end_of_path(functions, f, last):  # type: ignore[no-untyped-def]
    """One past the last function of the path that begins at f."""
    end = f + 1
    while end < last and functions[end, 5] == functions[f, 5]:
        end += 1
    return end


@njit(**OPTIONS)
def source_places(sources, first, count, base, d, mul, places):  # type: ignore[no-untyped-def]
    """Where the channels of component m of the source of pair t begin: places[m * count + t]."""
    for t in range(count):
        here = base + sources[first + t] * d * mul
        for m in range(d):
            places[m * count + t] = here + m * mul


@njit(**OPTIONS)
def target_place(functions, f, i, heads, targets):  # type: ignore[no-untyped-def]
    """Where the channels of the first head's function f of row i begin among the planar groups."""
    group, wide, component = functions[f, 0], functions[f, 1], functions[f, 2]
    return heads * (targets * group + i * wide + component * functions[f, 3]) + functions[f, 4]


@njit(**OPTIONS)
def target_places(functions, first, number, i, heads, targets, spots):  # type: ignore[no-untyped-def]
    """Where the channels of each head's functions of row i begin among the planar groups."""
    for f in range(number):
        start = target_place(functions, first + f, i, heads, targets)
        for h in range(heads):
            spots[h * number + f] = start + h * functions[first + f, 3]


@njit(**OPTIONS)
def prefetch_rows(r, stretch, streams, rows, blocks, functions, sizes):  # type: ignore[no-untyped-def]
    """Prefetch inputs and outputs of the next rows of ``order``; hardware prefetching fails on indirect access.

    Six rows ahead where a row's pairs begin, two rows ahead the pairs and the outputs, one row ahead the pairs' sources, of which
    only the stretch (first, last) of the blocks. ``streams``: sources, pairs' features, weights, result.
    """
    first, last = stretch
    x, y, w, z = streams
    indptr, sources, order = rows
    kind, heads, inner, width, dim, num_source, num_target = sizes
    if r + 1 < len(order):
        i = order[r + 1]
        for b in range(first, last):
            base, size = num_source * blocks[b, 0], blocks[b, 1] * blocks[b, 2]
            for at in range(indptr[i], indptr[i + 1]):
                prefetch(x, base + sources[at] * size, size)
    if r + 6 < len(order):
        prefetch(indptr, order[r + 6], 2)
    if r + 2 < len(order):
        i = order[r + 2]
        at, count = indptr[i], indptr[i + 1] - indptr[i]
        prefetch(sources, at, count)
        prefetch(y, at * dim, count * dim)
        wide = inner if kind == 3 else width
        prefetch(w, at * wide, count * wide)
        for f in range(len(functions)):  # the beginning of each output; hardware prefetching follows
            prefetch(z, target_place(functions, f, i, heads, num_target), 16)


@njit(**OPTIONS)
def weights(kind, factors, at, count, columns, widths, made):  # type: ignore[no-untyped-def]
    """Where the weights of some channels are for the pair ``at``, and the step to the next pair.

    ``factors`` (w, v), ``columns`` (first channel, number of channels), ``widths`` (K, channels of all paths).
    """
    w, v = factors
    column, n = columns
    inner, width = widths
    if kind == 2:
        return at * width + column, width
    product_set(w, at * inner, inner, 1, v, column, width, made, 0, n, count, inner, n)
    return np.int64(0), n
