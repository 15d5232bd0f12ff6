r"""Synthesis at any points of the sphere, fast: the field's Fourier series in colatitude and longitude, evaluated off its grid.

Continued over the poles, F(2π − θ, φ) = (−1)^s F(θ, φ + π), a field of degree lmax is a trigonometric polynomial of degree lmax
in both angles. Its values on an equiangular grid give the series; divided by the transform of a narrow kernel and evaluated on a
grid twice as fine, the series needs only the few grid points around each target: a non-uniform Fourier transform of type 2.
Reference: Barnett, Magland & af Klinteberg 2019, arXiv 1808.06736 (the kernel and its width).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from spheregeo.checks import check_tensor
from spheregeo.grids import Equiangular
from spheregeo.spectral.operators import largest_degree
from spheregeo.spectral.sht import InverseSHT

__all__ = ["angles_of", "synthesis_at"]

CHUNK = 1 << 21  # values of the fine grid that are gathered at a time, over all channels
POLE = 1e-6  # radians
ACCURACY = {torch.float32: 1e-6, torch.float64: 1e-10}


def angles_of(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return colatitude and longitude of directions, without derivatives within 1e-6 of the poles, where longitudes have none.

    Args:
        points: vectors of any length but 0.

    Shape: (..., 3) -> twice (...).
    Units: radians.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import angles_of
        >>> [round(float(a), 4) for a in angles_of(torch.tensor([0.0, 1.0, 0.0]))]
        [1.5708, 1.5708]
    """
    x, y, z = points.unbind(-1)
    near = torch.hypot(x, y).detach() <= POLE * z.detach().abs()
    x, y, z = (torch.where(near, part.detach(), part) for part in (x, y, z))
    return torch.atan2(torch.hypot(x, y), z), torch.atan2(y, x)


def _kernel(t: Tensor, width: int) -> Tensor:
    """The kernel exp(β(√(1 − z²) − 1)), z = 2t/width, 0 outside |z| < 1; t in steps of the fine grid."""
    inside = 1 - (2 * t / width).square()
    root = inside.clamp_min(1e-30).sqrt()
    return torch.where(inside > 0, torch.exp(2.3 * width * (root - 1)), 0.0)


@lru_cache(maxsize=32)
def _kernel_transform(width: int, size: int, lmax: int) -> Tensor:
    """Σ over the line of the kernel times e^{−ikt 2π/size}, for k = 0 ... lmax."""
    nodes, weights = np.polynomial.legendre.leggauss(2 * width + 24)
    t = torch.from_numpy(nodes * width / 2)
    values = torch.from_numpy(weights * width / 2) * _kernel(t, width)
    k = torch.arange(lmax + 1, dtype=torch.float64)
    return torch.cos(2 * math.pi / size * k[:, None] * t) @ values


@lru_cache(maxsize=8)
def _synthesis(lmax: int, spin: int) -> InverseSHT:
    return InverseSHT(Equiangular(lmax + 2, 2 * lmax + 4), lmax, spin)


def _fine_values(field: Tensor, lmax: int, spin: int, width: int) -> Tensor:
    """Values that the kernel interpolates, on a torus of (n, n) points from angle 0 on: (C, n, n)."""
    rows, columns = field.shape[-2:]
    over = field.flip(-2).roll(columns // 2, -1) * (-1) ** spin
    torus = torch.cat([field, over], -2)  # (C, 2 rows, columns), colatitudes (i + ½)π/rows
    series = torch.fft.rfft2(torus, norm="forward")[..., : lmax + 1]
    size = 4 * rows
    k = torch.arange(-lmax, lmax + 1, device=field.device)
    angle = k.double() * (-math.pi / (2 * rows))  # the first row stands half a step from the pole
    shift = torch.complex(angle.cos(), angle.sin())
    gain = 1 / _kernel_transform(width, size, lmax).to(field.device)
    series = series[..., k % (2 * rows), :] * ((shift * gain[k.abs()])[:, None] * gain).to(series.dtype)
    padded = series.new_zeros(*series.shape[:-2], size, size // 2 + 1)
    padded[..., k % size, : lmax + 1] = series
    return torch.fft.irfft2(padded, s=(size, size), norm="forward")


def synthesis_at(
    coefficients: Tensor, points: Tensor, spin: int = 0, accuracy: float | None = None
) -> Tensor:
    """Field with given coefficients at any points. Differentiable in coefficients and points, save at the poles.

    Args:
        coefficients: coefficients as :class:`InverseSHT` takes them.
        points: unit vectors.
        spin: order of the tangent field; 0 for scalars.
        accuracy: error relative to the field's size; 1e-6 in float32 and 1e-10 in float64 if None.

    Shape: coefficients (..., (lmax + 1)²) and points (P, 3) -> (..., P); for spin s ≠ 0 coefficients (..., 2, (lmax + 1)²) ->
        (..., 2, P), components along south and east at the points.
    Equivariance: exact to ``accuracy``.
    Raises: ValueError for other shapes, or an accuracy outside 1e-13 ... 0.1.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import synthesis_at
        >>> synthesis_at(torch.ones(3, 25), torch.eye(3)).shape
        torch.Size([3, 3])
    """
    check_tensor(coefficients, "coefficients")
    lmax = largest_degree(coefficients)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points have shape {tuple(points.shape)}; expected (P, 3)")
    accuracy = ACCURACY.get(coefficients.dtype, 1e-6) if accuracy is None else accuracy
    if not 1e-13 <= accuracy <= 0.1:
        raise ValueError(f"accuracy is {accuracy}; expected 1e-13 ... 0.1")
    width = max(2, math.ceil(-math.log10(accuracy)) + 2)
    field = _synthesis(lmax, spin).to(coefficients.device)(coefficients)
    leading = field.shape[:-2]
    if not field.numel():
        return field.new_zeros(*leading, len(points))
    fine = _fine_values(field.flatten(0, -3) if leading else field[None], lmax, spin, width)
    theta, phi = angles_of(points.to(torch.float64))
    flat = fine.flatten(1)
    size = max(1, CHUNK // (width * width * len(flat)))
    n = fine.shape[-1]
    parts = []
    for first in range(0, len(points), size):
        part = slice(first, first + size)
        index, weights = [], []
        for angle in (theta[part], phi[part]):
            place = angle * (n / (2 * math.pi))
            start = torch.ceil(place.detach() - width / 2)
            steps = start[:, None] + torch.arange(width, device=place.device)
            weights.append(_kernel(place[:, None] - steps, width).to(fine.dtype))
            index.append(steps.long() % n)
        cells = index[0][:, :, None] * n + index[1][:, None, :]  # (p, w, w)
        with torch.autocast(fine.device.type, enabled=False):
            parts.append(torch.einsum("cpij,pi,pj->cp", flat[:, cells], weights[0], weights[1]))
    return torch.cat(parts, -1).reshape(*leading, len(points)) if parts else fine.new_zeros(*leading, 0)
