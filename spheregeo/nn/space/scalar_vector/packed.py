"""The layout of scalars and vectors in one tensor: (points, 4, channels), a scalar and the three components of a vector."""

from __future__ import annotations

from torch import Tensor

from spheregeo.checks import check_tensor

SMALLEST = (
    1e-6  # added to squared lengths of vectors, so that the root of a vanishing one has all derivatives
)


def check_packed(x: Tensor, channels: int) -> None:
    """Raises: ValueError for another shape than (points, 4, channels)."""
    check_tensor(x)
    if x.ndim != 3 or tuple(x.shape[1:]) != (4, channels):
        raise ValueError(
            f"x has shape {tuple(x.shape)}; expected (points, 4, {channels}), a scalar and a vector for each channel"
        )


def lengths(vectors: Tensor) -> Tensor:
    """Lengths of vectors, √(|v|² + 1e-6) - 1e-3, smooth at 0. Shape: (N, 3, C) -> (N, C)."""
    return (vectors.square().sum(1) + SMALLEST).sqrt() - SMALLEST**0.5
