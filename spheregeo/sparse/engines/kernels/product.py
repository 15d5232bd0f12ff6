"""The micro-kernels that do nearly all the arithmetic of the CPU engine.

``accumulate`` is a small matrix product whose right-hand rows are stretches of one buffer at given places:
contracting a ring's taps (places are shifts), contracting scattered neighbours (places are points), folding weights
into taps, mixing channels, and coupling pairs are all this one product with other places. ``correlate`` is its adjoint in the
matrix. The others are the same with more freedom, see :mod:`spheregeo.sparse.engines.kernels.tiles`.
"""

from __future__ import annotations

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels import inner, loops
from spheregeo.sparse.engines.kernels.inner import no_inline, tiled_add, tiled_dot, tiled_set
from spheregeo.sparse.engines.kernels.options import OPTIONS


@njit(**OPTIONS)
def product_add(a, at, by_row, by_term, x, x_at, xs, z, z_at, zs, m, count, n):  # type: ignore[no-untyped-def]
    """``tiled_add`` as a function, compiled once."""
    no_inline()
    tiled_add(a, at, by_row, by_term, x, x_at, xs, z, z_at, zs, m, count, n)


@njit(**OPTIONS)
def product_set(a, at, by_row, by_term, x, x_at, xs, z, z_at, zs, m, count, n):  # type: ignore[no-untyped-def]
    """``tiled_set`` as a function, compiled once."""
    no_inline()
    tiled_set(a, at, by_row, by_term, x, x_at, xs, z, z_at, zs, m, count, n)


@njit(**OPTIONS)
def products_of_rows(x, x_at, xs, y, y_at, ys, out, at, by_row, by_column, m, count, n):  # type: ignore[no-untyped-def]
    """``tiled_dot`` as a function, compiled once."""
    no_inline()
    tiled_dot(x, x_at, xs, y, y_at, ys, out, at, by_row, by_column, m, count, n)


if inner.chosen is loops:
    accumulate, correlate = loops.accumulate, loops.correlate
else:

    @njit(**OPTIONS)
    def accumulate(a, rows, offsets, out, n):  # type: ignore[no-untyped-def]
        """out[i, :n] += sum_r a[i, r] * rows[offsets[r] : offsets[r] + n]."""
        no_inline()
        m, count = a.shape
        down, across = a.strides[0] // a.itemsize, a.strides[1] // a.itemsize
        tiled_add(a, 0, down, across, rows, 0, offsets, out, 0, out.strides[0] // out.itemsize, m, count, n)

    @njit(**OPTIONS)
    def correlate(g, rows, offsets, out, n):  # type: ignore[no-untyped-def]
        """out[i, r] += sum_j g[i, j] * rows[offsets[r] + j] over j < n."""
        no_inline()
        down = out.strides[0] // out.itemsize
        tiled_dot(
            g, 0, g.strides[0] // g.itemsize, rows, 0, offsets, out, 0, down, 1, len(g), len(offsets), n
        )
