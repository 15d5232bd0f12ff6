"""Differential operators, as what they do to coefficients of real harmonics."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def largest_degree(coefficients: Tensor) -> int:
    """Return lmax of coefficients (..., (lmax + 1)²).

    Args:
        coefficients: coefficients of a field.

    Raises: ValueError where the last axis is no square.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import largest_degree
        >>> largest_degree(torch.zeros(3, 25))
        4
    """
    count = coefficients.shape[-1] if coefficients.ndim else 0
    root = math.isqrt(count)
    if root < 1 or root * root != count:
        raise ValueError(
            f"coefficients has shape {tuple(coefficients.shape)}; expected (..., (lmax + 1)²), a square number of them"
        )
    return root - 1


def degrees(lmax: int, like: Tensor | None = None) -> Tensor:
    """Return the degree l of each coefficient, in their order l² + l + m.

    Args:
        lmax: largest degree.
        like: a tensor on whose device and in whose real type degrees come; whole numbers on the CPU if None.

    Shape: ((lmax + 1)²,).

    Example:
        >>> from spheregeo.spectral import degrees
        >>> degrees(1)
        tensor([0, 1, 1, 1])
    """
    l = torch.arange(lmax + 1)
    l = l.repeat_interleave(2 * l + 1)
    return l if like is None else l.to(like.device, like.real.dtype)


def roots(lmax: int, like: Tensor) -> Tensor:
    """√(l(l + 1)) of each coefficient, computed in float64, as a tensor like another. Shape: ((lmax + 1)²,)."""
    l = degrees(lmax).double()
    return (l * (l + 1)).sqrt().to(like)


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
    l = degrees(largest_degree(coefficients), coefficients)
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
    l = degrees(largest_degree(coefficients), coefficients)
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
    l = degrees(largest_degree(coefficients), coefficients)
    found = coefficients * ((l * (l + 1)).sqrt() / radius)
    return torch.stack([found, torch.zeros_like(found)], -2)
