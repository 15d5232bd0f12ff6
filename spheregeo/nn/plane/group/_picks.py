"""Compiled loops that place weights in whole kernels and sum them back; importing this module imports numba."""

from __future__ import annotations

from spheregeo.jit import njit

OPTIONS = {"nogil": True, "error_model": "numpy"}


@njit(**OPTIONS)
def pick(weight, start, stop, index, out):  # type: ignore[no-untyped-def]
    """out[o, t, c, r] = weight[o, c, index[t, r]] for the fields o from start to stop."""
    cosets, rest = index.shape
    for o in range(start, stop):
        for t in range(cosets):
            for c in range(weight.shape[1]):
                for r in range(rest):
                    out[o, t, c, r] = weight[o, c, index[t, r]]


@njit(**OPTIONS)
def collect(entries, start, stop, index, total):  # type: ignore[no-untyped-def]
    """total[o, c, index[t, r]] += entries[o, t, c, r] for the fields o from start to stop, in order of t and r."""
    cosets, rest = index.shape
    for o in range(start, stop):
        for c in range(total.shape[1]):
            for t in range(cosets):
                for r in range(rest):
                    total[o, c, index[t, r]] += entries[o, t, c, r]
