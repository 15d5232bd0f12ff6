r"""Real orthonormal spherical harmonics with polar axis z, for signals on grids.

S_l0 = Y_l0, S_{l,m} = √2 (−1)^m Re Y_lm and S_{l,−m} = √2 (−1)^m Im Y_lm for m > 0: no Condon–Shortley phase, order
(l, m = −l…l). They are the harmonics of features (:mod:`.irrep_harmonics`, polar axis y) at (y, z, x), and up to degree 300 come
from the same kernels. Beyond, the recurrence of :mod:`.recurrence` starts from P̄_mm = Q_mm s^m, which underflows harmfully only
beyond degree 1900 in float64.
Reference: Press et al., Numerical Recipes, 3rd ed., §6.7; Holmes & Featherstone 2002 on the range.
"""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from spheregeo.harmonics.irrep_harmonics import component_harmonics
from spheregeo.harmonics.recurrence import LARGEST_COMPILED, coefficients, polynomials

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
    if lmax <= LARGEST_COMPILED:
        turned = torch.stack([y, z, x], -1)  # the same point with its pole along y
        return component_harmonics(turned, lmax, normalization="integral")
    return stable_harmonics(x, y, z, s, lmax)


def stable_harmonics(x: Tensor, y: Tensor, z: Tensor, s: Tensor, lmax: int) -> Tensor:
    """Harmonics of any degree by torch operations, with s^m in the polynomials; s is √(x² + y²).

    Shape: four (...) -> (..., (lmax + 1)²).
    """
    pole = s < 1e-300  # every order but m = 0 vanishes there, so any longitude will do
    safe = torch.where(pole, torch.ones_like(s), s)
    east = torch.complex(
        torch.where(pole, torch.ones_like(s), x / safe), torch.where(pole, torch.zeros_like(s), y / safe)
    )
    first, a, b = coefficients.__wrapped__(lmax, "integral")  # large tables are not kept
    out = s.new_empty((*s.shape, (lmax + 1) ** 2))
    power = torch.ones_like(s)  # s^m
    turn = torch.ones_like(east)  # e^{imφ}
    for m in range(lmax + 1):
        if m:
            power, turn = power * s, turn * east
        for degree, value in polynomials(first[m] * power, z, m, lmax, a, b):
            centre = degree * degree + degree
            if m == 0:
                out[..., centre] = value
            else:
                out[..., centre + m] = value * turn.real
                out[..., centre - m] = value * turn.imag
    return out
