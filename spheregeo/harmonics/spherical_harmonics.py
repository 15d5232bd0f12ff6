r"""Real orthonormal spherical harmonics by the stable recurrence in degree at fixed order.

S_l0 = Y_l0, S_{l,m} = √2 (−1)^m Re Y_lm and S_{l,−m} = √2 (−1)^m Im Y_lm for m > 0: no Condon–Shortley phase, order
(l, m = −l…l). With x = cos θ, s = sin θ and normalised P̄_lm (phase dropped):
P̄_mm = √((2m+1)/2m) s P̄_{m−1,m−1}, and for l > m
P̄_lm = √((4l²−1)/(l²−m²)) [x P̄_{l−1,m} − √(((l−1)²−m²)/(4(l−1)²−1)) P̄_{l−2,m}].
P̄_mm = O(s^m) underflows harmfully only beyond degree 1900 in float64.
Reference: Press et al., Numerical Recipes, 3rd ed., §6.7; Holmes & Featherstone 2002 on the range.
"""

from __future__ import annotations

import math
import operator

import torch
from torch import Tensor

LARGEST_DEGREE = 1900  # beyond it P̄_mm underflows where P̄_lm does not (worst norm error 8e-12 at degree 1920)


def real_harmonics(points: Tensor, lmax: int) -> Tensor:
    """Real orthonormal harmonics of all degrees up to and including ``lmax``.

    Shape: points (..., 3) unit vectors -> (..., (lmax + 1)²) float64, index l² + l + m.
    Units: orthonormal on the unit sphere, ∫ S² = 1.
    Equivariance: each degree's 2l + 1 values transform among themselves under SO(3), exactly.
    Raises: ValueError for points that are not unit vectors, or lmax outside 0…1900.
    Reference: e3nn's ``spherical_harmonics(..., normalization="integral")`` at (y, z, x) gives the same values.
    """
    lmax = operator.index(lmax)
    if not 0 <= lmax <= LARGEST_DEGREE:
        raise ValueError(
            f"real_harmonics: lmax is {lmax}, expected 0 to {LARGEST_DEGREE} (float64 underflows beyond)"
        )
    if points.ndim < 1 or points.shape[-1] != 3:
        raise ValueError(f"real_harmonics: points has shape {tuple(points.shape)}, expected (..., 3)")
    x, y, z = points.to(torch.float64).unbind(-1)
    s = torch.hypot(x, y)
    worst = (torch.hypot(s, z) - 1).abs()
    if not bool((worst <= 1e-5).all()):  # written so that NaN fails too
        raise ValueError(
            "real_harmonics: points must be finite unit vectors (to 1e-5); divide them by their norm first"
        )
    pole = s < 1e-300  # every order but m = 0 vanishes there, so any longitude will do
    safe = torch.where(pole, torch.ones_like(s), s)
    east = torch.complex(
        torch.where(pole, torch.ones_like(s), x / safe), torch.where(pole, torch.zeros_like(s), y / safe)
    )

    out = points.new_empty((*points.shape[:-1], (lmax + 1) ** 2), dtype=torch.float64)
    diagonal = torch.full_like(s, 1 / math.sqrt(4 * math.pi))  # P̄_mm
    turn = torch.ones_like(east)  # e^{imφ}
    for m in range(lmax + 1):
        if m:
            diagonal = diagonal * s * math.sqrt((2 * m + 1) / (2 * m))
            turn = turn * east
        before, current = torch.zeros_like(s), diagonal
        for degree in range(m, lmax + 1):
            if degree > m:
                gain = math.sqrt((4 * degree**2 - 1) / (degree**2 - m**2))
                drag = math.sqrt(((degree - 1) ** 2 - m**2) / (4 * (degree - 1) ** 2 - 1))
                before, current = current, gain * (z * current - drag * before)
            centre = degree * degree + degree
            if m == 0:
                out[..., centre] = current
            else:
                out[..., centre + m] = math.sqrt(2) * current * turn.real
                out[..., centre - m] = math.sqrt(2) * current * turn.imag
    return out
