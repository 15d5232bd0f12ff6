"""Harmonics at any points: what grids without rings, and targets that are no grids, are transformed with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spheregeo.spectral.legendre import Legendre, blocks, chunk, lowest, triangle


def harmonics_at(colatitude: Tensor, longitude: Tensor, lmax: int, spin: int = 0) -> Tensor:
    """Real orthonormal harmonics of a spin at points.

    Args:
        colatitude: (N,) angle of each point from +z.
        longitude: (N,) angle of each point from +x towards +y.
        lmax: largest degree.
        spin: order of the tangent field; 0 for scalars.

    Shape: (N, (lmax + 1)²); for spin ≠ 0 (2, N, 2, (lmax + 1)²): components along south and east, coefficients of gradient and
    curl.
    Units: radians.
    """
    theta, phi = colatitude.to(torch.float64), longitude.to(torch.float64)
    degree, m = triangle(lmax)
    centre = degree * (degree + 1)
    angle = phi[:, None] * torch.arange(lmax + 1, dtype=torch.float64)
    cos, sin = torch.cos(angle), torch.sin(angle)
    cos[:, 1:] *= math.sqrt(2)
    sin[:, 1:] *= math.sqrt(2)
    cos, sin = cos[:, m], sin[:, m]
    plus = _functions(theta, lmax, spin)
    if not spin:
        out = plus.new_empty(len(theta), (lmax + 1) ** 2)
        out[:, centre - m] = plus * sin
        out[:, centre + m] = plus * cos
        return out
    sign = 1.0 - 2.0 * ((degree + m + spin) % 2)
    minus = _functions(math.pi - theta, lmax, spin) * sign
    even, odd = -(plus + minus) / 2, -(plus - minus) / 2
    out = plus.new_empty(2, len(theta), 2, (lmax + 1) ** 2)
    for south, east, place, a, b in ((0, 1, centre - m, sin, -cos), (0, 1, centre + m, cos, sin)):
        # the real part of (E − i E') e^{imφ} and of i times it, for cosine and sine coefficients
        out[south, :, 0, place] = even * a
        out[south, :, 1, place] = -odd * b
        out[east, :, 0, place] = -odd * b
        out[east, :, 1, place] = -even * a
    return out


def _functions(theta: Tensor, lmax: int, spin: int) -> Tensor:
    """Λ_lm(θ) for each point. Shape: (N, T)."""
    structure = Legendre(lmax, theta, spin)
    out = theta.new_zeros(len(theta), structure.size)
    for start in range(0, lmax + 1, 64):
        made = chunk(structure, torch.arange(start, min(start + 64, lmax + 1)), len(theta))
        for first, r, stop, values in blocks(made):
            for i, function in enumerate(values):
                l = lowest(made.orders, spin) + first + i
                m = made.orders[l <= lmax]
                t = m * (2 * lmax + 1 - m) // 2 + l[: len(m)]
                out[r:stop, t] = (function * made.scale[first + i, :, None])[: len(m)].T
    return out
