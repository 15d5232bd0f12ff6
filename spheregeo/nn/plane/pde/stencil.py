"""Windows of taps on SE(2) and on the plane, with what distances see of them: each value of the coordinates once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.groups.lie import se2_half_angle

Shifts = list[tuple[int, int, int]]


def odd(name: str, value: int) -> int:
    """A positive odd number. Raises: ValueError for others."""
    value = check_count(name, value)
    if value % 2 == 0:
        raise ValueError(f"{name} is {value}; expected an odd number, whose window has a centre")
    return value


def shifts_of(size: int, turns: int = 1) -> Shifts:
    """(turn, down, right) of a window of ``turns`` orientations and ``size`` pixels along each side, the centre first."""
    r, s = size // 2, turns // 2
    window = [(a, i, j) for a in range(-s, s + 1) for i in range(-r, r + 1) for j in range(-r, r + 1)]
    return sorted(window, key=lambda shift: shift[0] ** 2 + shift[1] ** 2 + shift[2] ** 2)


def relative_motions(shifts: Shifts, orientations: int) -> Tensor:
    """Motions g⁻¹h from a voxel g of each orientation to its taps h.

    Shape: (orientations, taps, 3) float64. Units: pixels and radians.
    """
    turn, down, right = torch.tensor(shifts, dtype=torch.float64).unbind(-1)
    angle = 2 * math.pi / orientations * torch.arange(orientations, dtype=torch.float64)[:, None]
    c, s = angle.cos(), angle.sin()
    x, y = c * right - s * down, -s * right - c * down  # R_{-angle} of (right, -down)
    return torch.stack([x, y, (2 * math.pi / orientations * turn).expand_as(x)], -1)


def half_angles(shifts: Shifts, orientations: int) -> tuple[Tensor, Tensor]:
    """Sizes (|b₁|, |b₂|, |θ|) that occur among the taps, each once, and which of them a tap has.

    Shape: (N, 3) float64 and (orientations, taps) int64.
    """
    b = se2_half_angle(relative_motions(shifts, orientations)).abs()
    found, which = torch.unique((b * 1e9).round().flatten(0, 1), dim=0, return_inverse=True)
    first = torch.full((len(found),), len(which)).scatter_reduce(0, which, torch.arange(len(which)), "amin")
    return b.flatten(0, 1)[first], which.view(b.shape[:2])
