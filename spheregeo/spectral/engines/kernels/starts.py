"""What the Legendre stage needs beforehand: scales of the recurrences, and where on each ring functions begin to matter."""

from __future__ import annotations

import numpy as np

from spheregeo.jit import njit
from spheregeo.sparse.engines.kernels.options import OPTIONS

TINY = 2.0**-70  # functions below this are left out: they are of size 1 or more where they count
STEPS = 8  # recurrences begin at multiples of this
SHIFT = 128  # power of two by which mantissas are brought back
LOW = (
    -600
)  # powers of two below which a ring waits: float64 ends at -1022, and functions fall before they rise


@njit(**OPTIONS)
def scales(back, offsets, scale, following):  # type: ignore[no-untyped-def]
    """Scales with s(k + 1) = back(k) s(k - 1), s(0) = s(1) = 1 for each order: s(k) and s(k + 1) of each step."""
    for m in range(len(offsets) - 1):
        before, now = 1.0, 1.0
        for s in range(offsets[m], offsets[m + 1]):
            after = 1.0 if s == offsets[m] else back[s] * before
            scale[s], following[s] = now, after
            before, now = now, after


@njit(**OPTIONS)
def starts(slope, shift, scale, offsets, y, seeds, exponents, first, own, values):  # type: ignore[no-untyped-def]
    """Where the recurrences of each order begin, for each block of rings.

    Args:
        slope, shift: q(k + 1) = (slope y + shift) q(k) - q(k - 1), all orders one after another.
        scale: of each step; the function is scale times q.
        offsets: (M + 1,) first step of each order.
        y: (rings,) the recurrence's variable.
        seeds, exponents: (M, rings) q(0) is seeds times 2 ** exponents.
        first: (M, blocks) set to a multiple of ``STEPS`` before which all rings of the block are below ``TINY``.
        own: (M, rings) set to where a ring begins: with its block, or later, if it is below 2 ** ``LOW`` there.
        values: (M, 2, rings) set to q(own - 1) and q(own).
    """
    lanes = (
        len(y) // first.shape[1]
    )  # a variable: loops of constant length are unrolled, which takes long to compile
    for m in range(len(offsets) - 1):
        count = offsets[m + 1] - offsets[m]
        for block in range(first.shape[1]):
            p = block * lanes
            first[m, block] = count
            for j in range(p, p + lanes):  # the first that matters
                limit = min(first[m, block] + STEPS, count)
                at = _until(slope, shift, scale, offsets[m], limit, y[j], seeds[m, j], exponents[m, j])
                first[m, block] = min(first[m, block], at - at % STEPS)
            for j in range(p, p + lanes):
                before, now, power = 0.0, seeds[m, j], exponents[m, j]
                for k in range(count):
                    if k >= first[m, block] and k % STEPS == 0 and power >= LOW:
                        own[m, j] = k
                        values[m, 0, j], values[m, 1, j] = np.ldexp(before, power), np.ldexp(now, power)
                        break
                    before, now, power = _next(slope, shift, offsets[m] + k, y[j], before, now, power)
                else:
                    own[m, j] = count
                    values[m, 0, j], values[m, 1, j] = 0.0, 0.0


@njit(**OPTIONS)
def _next(slope, shift, s, y, before, now, power):  # type: ignore[no-untyped-def]
    """A step of the recurrence on numbers times 2 ** power."""
    if abs(now) > 2.0**SHIFT:
        now *= 2.0**-SHIFT
        before *= 2.0**-SHIFT
        power += SHIFT
    return now, (slope[s] * y + shift[s]) * now - before, power


@njit(**OPTIONS)
def _until(slope, shift, scale, at, limit, y, now, power):  # type: ignore[no-untyped-def]
    """The first step at which a ring's function is not below ``TINY``, ``limit`` if that is not before."""
    before = 0.0
    for k in range(limit):
        if power > LOW and abs(np.ldexp(now * scale[at + k], power)) > TINY:
            return k
        before, now, power = _next(slope, shift, at + k, y, before, now, power)
    return limit
