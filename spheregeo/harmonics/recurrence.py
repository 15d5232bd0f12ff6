r"""The polynomials of spherical harmonics by the recurrence in degree at fixed order, for both pole conventions.

    Q_mm = √(Π_{k ≤ m} (2k + 1)/2k),   Q_lm = a_lm t Q_{l−1,m} − b_lm Q_{l−2,m},
    a_lm = √((4l² − 1)/(l² − m²)),   b_lm = a_lm √(((l − 1)² − m²)/(4(l − 1)² − 1)),

t being the coordinate along the pole: y for features (:mod:`.irrep_harmonics`), z for signals on grids
(:mod:`.spherical_harmonics`). A harmonic is Q_lm times the real or imaginary part of s^m e^{imφ}, s the sine of the angle from
the pole. With s^m inside the start Q_mm nothing overflows, whatever the degree.
Reference: Press et al., Numerical Recipes, 3rd ed., §6.7.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

LARGEST_COMPILED = 300  # degree up to which Q_lm without s^m is used: beyond it would overflow in time


@lru_cache(maxsize=64)
def coefficients(lmax: int, normalization: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Q_mm, and a and b of Q_lm = a y Q_{l−1,m} − b Q_{l−2,m}; float64, √2 of the orders m > 0 included."""
    first, a, b = np.zeros(lmax + 1), np.zeros((lmax + 1, lmax + 1)), np.zeros((lmax + 1, lmax + 1))
    start = 1.0
    scale = {
        "component": np.ones(lmax + 1),
        "norm": 1 / np.sqrt(2 * np.arange(lmax + 1) + 1.0),
        "integral": np.full(lmax + 1, 1 / math.sqrt(4 * math.pi)),
    }[normalization]
    for m in range(lmax + 1):
        if m:
            start *= math.sqrt((2 * m + 1) / (2 * m))
        first[m] = start * scale[m] * (math.sqrt(2) if m else 1)
        for degree in range(m + 1, lmax + 1):
            gain = math.sqrt((4 * degree**2 - 1) / (degree**2 - m**2))
            a[degree, m] = gain * scale[degree] / scale[degree - 1]
            if degree > m + 1:
                drag = math.sqrt(((degree - 1) ** 2 - m**2) / (4 * (degree - 1) ** 2 - 1))
                b[degree, m] = gain * drag * scale[degree] / scale[degree - 2]
    return first, a, b


def polynomials(
    start: Tensor, t: Tensor, m: int, lmax: int, a: np.ndarray, b: np.ndarray, squared: Tensor | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Yield (l, Q_lm) for l = m … lmax, by differentiable torch operations.

    Args:
        start: Q_mm, times any factor that all degrees are to carry.
        t: coordinate along the pole.
        m: order.
        lmax: largest degree.
        a, b: tables of :func:`coefficients`.
        squared: |r|² of vectors that are not unit vectors, for homogeneous polynomials.
    """
    before, current = torch.zeros_like(start), start
    yield m, current
    for degree in range(m + 1, lmax + 1):
        drag = b[degree, m] * before
        drag = drag if squared is None else drag * squared
        before, current = current, a[degree, m] * t * current - drag
        yield degree, current
