"""Differential operators, as what they do to coefficients of real harmonics."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def degrees(lmax: int, like: Tensor | None = None) -> Tensor:
    """The degree l of each of (lmax + 1)² coefficients, in the type and on the device of a tensor. Shape: ((lmax + 1)²,)."""
    l = torch.arange(lmax + 1).repeat_interleave(2 * torch.arange(lmax + 1) + 1)
    return (
        l
        if like is None
        else l.to(device=like.device, dtype=like.real.dtype if like.is_complex() else like.dtype)
    )


def laplacian(coefficients: Tensor, radius: float = 1.0) -> Tensor:
    """Coefficients of the Laplacian of a field, −l(l+1)/radius² times its own.

    Args:
        coefficients: of a scalar field, index l² + l + m.
        radius: of the sphere.

    Shape: (..., (lmax + 1)²) -> (..., (lmax + 1)²).
    Units: those of the field over those of radius².
    Equivariance: exact.
    Raises: ValueError for another number of coefficients.

    Example:
        >>> import torch
        >>> laplacian(torch.ones(4))
        tensor([-0., -2., -2., -2.])
    """
    l = degrees(_lmax(coefficients), coefficients)
    return coefficients * (-l * (l + 1) / radius**2)


def inverse_laplacian(coefficients: Tensor, radius: float = 1.0) -> Tensor:
    """Coefficients of the field of mean zero whose Laplacian is given; the mean of what is given is ignored.

    Args:
        coefficients: of the Laplacian, index l² + l + m.
        radius: of the sphere.

    Shape: (..., (lmax + 1)²) -> (..., (lmax + 1)²).
    Units: those of what is given times those of radius².
    Equivariance: exact.
    Raises: ValueError for another number of coefficients.

    Example:
        >>> import torch
        >>> inverse_laplacian(torch.ones(4))
        tensor([-0.0000, -0.5000, -0.5000, -0.5000])
    """
    l = degrees(_lmax(coefficients), coefficients)
    factor = torch.where(l > 0, -(radius**2) / (l * (l + 1)).clamp(min=1), -torch.zeros_like(l))
    return coefficients * factor


def gradient(coefficients: Tensor, radius: float = 1.0) -> Tensor:
    """Gradient and curl coefficients of the gradient of a scalar field, for :class:`InverseVectorSHT`.

    Args:
        coefficients: of the scalar field, index l² + l + m.
        radius: of the sphere.

    Shape: (..., (lmax + 1)²) -> (..., 2, (lmax + 1)²); the second of the two is zero.
    Units: those of the field over those of radius.
    Equivariance: exact.
    Raises: ValueError for another number of coefficients.

    Example:
        >>> import torch
        >>> gradient(torch.ones(4)).shape
        torch.Size([2, 4])
    """
    l = degrees(_lmax(coefficients), coefficients)
    found = coefficients * ((l * (l + 1)).sqrt() / radius)
    return torch.stack([found, torch.zeros_like(found)], -2)


def _lmax(coefficients: Tensor) -> int:
    """The largest degree of coefficients. Raises: ValueError where their number is no square."""
    n = coefficients.shape[-1] if coefficients.ndim else 0
    lmax = math.isqrt(n) - 1
    if lmax < 0 or (lmax + 1) ** 2 != n:
        raise ValueError(f"coefficients has shape {tuple(coefficients.shape)}; expected (..., (lmax + 1)²)")
    return lmax
