"""What happens within degrees: matrix products of coefficients, one for each degree.

Coefficients of functions on SO(3) are (..., Σ(2l + 1)²), blocks by degree, each (2l + 1, 2l + 1) with the index m that rotations
act on first. Products are gathered so that each degree is one matrix product over samples, channels and both orders.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sphere_sizes(lmax: int) -> list[int]:
    """Number of coefficients of each degree on the sphere."""
    return [2 * degree + 1 for degree in range(lmax + 1)]


def rotation_sizes(lmax: int) -> list[int]:
    """Number of coefficients of each degree on SO(3)."""
    return [(2 * degree + 1) ** 2 for degree in range(lmax + 1)]


def lift(f: Tensor, kernel: Tensor, lmax: int) -> Tensor:
    """Correlation of functions on the sphere: h^l_mn = Σ_i f_i,lm ψ_oi,ln.

    Shape: f (B, in, (lmax + 1)²), kernel (out, in, (lmax + 1)²) -> (B, out, Σ(2l + 1)²).
    """
    batch, channels, out = len(f), f.shape[1], len(kernel)
    parts = []
    for degree, (a, b) in enumerate(
        zip(f.split(sphere_sizes(lmax), -1), kernel.split(sphere_sizes(lmax), -1), strict=True)
    ):
        size = 2 * degree + 1
        if channels == 1:
            y = a.unsqueeze(-1) * b.transpose(0, 1).unsqueeze(2)  # (B, 1, m, 1) (1, out, 1, n)
        else:
            rows = a.transpose(1, 2).reshape(batch * size, channels)
            y = rows @ b.transpose(0, 1).reshape(channels, out * size)
            y = y.view(batch, size, out, size).transpose(1, 2)
        parts.append(y.reshape(batch, out, size * size))
    return torch.cat(parts, -1)


def correlate(h: Tensor, kernel: Tensor, lmax: int) -> Tensor:
    """Correlation of functions on SO(3): out^l_mk = Σ_i Σ_n h_i^l_mn ψ_oi^l_nk.

    Shape: h (B, in, Σ(2l + 1)²), kernel (out, in, Σ(2l + 1)²), blocks (n, k) -> (B, out, Σ(2l + 1)²).
    """
    batch, channels, out = len(h), h.shape[1], len(kernel)
    parts = []
    for degree, (a, b) in enumerate(
        zip(h.split(rotation_sizes(lmax), -1), kernel.split(rotation_sizes(lmax), -1), strict=True)
    ):
        size = 2 * degree + 1
        rows = a.view(batch, channels, size, size).transpose(1, 2).reshape(batch * size, channels * size)
        matrix = b.view(out, channels, size, size).permute(1, 2, 0, 3).reshape(channels * size, out * size)
        y = (rows @ matrix).view(batch, size, out, size).transpose(1, 2)
        parts.append(y.reshape(batch, out, size * size))
    return torch.cat(parts, -1)


def project(h: Tensor, kernel: Tensor, lmax: int) -> Tensor:
    """Functions on the sphere from functions on SO(3): y_lm = Σ_i Σ_n h_i^l_mn c_oi,ln.

    Shape: h (B, in, Σ(2l + 1)²), kernel (out, in, (lmax + 1)²) -> (B, out, (lmax + 1)²).
    """
    batch, channels, out = len(h), h.shape[1], len(kernel)
    parts = []
    for degree, (a, b) in enumerate(
        zip(h.split(rotation_sizes(lmax), -1), kernel.split(sphere_sizes(lmax), -1), strict=True)
    ):
        size = 2 * degree + 1
        rows = a.view(batch, channels, size, size).transpose(1, 2).reshape(batch, size, channels * size)
        parts.append(b.reshape(out, channels * size) @ rows.transpose(1, 2))
    return torch.cat(parts, -1)


def mix(f: Tensor, weight: Tensor, lmax: int) -> Tensor:
    """Channels mixed by a matrix for each degree: y_o,lm = Σ_i w_l,oi f_i,lm.

    Shape: f (B, in, (lmax + 1)²), weight (lmax + 1, out, in) -> (B, out, (lmax + 1)²).
    """
    batch, channels = f.shape[:2]
    parts = []
    for w, part in zip(weight.unbind(0), f.transpose(0, 1).split(sphere_sizes(lmax), -1), strict=True):
        size = part.shape[-1]
        parts.append((w @ part.reshape(channels, batch * size)).view(len(w), batch, size))
    return torch.cat(parts, -1).transpose(0, 1)
