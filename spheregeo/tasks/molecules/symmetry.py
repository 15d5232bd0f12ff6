"""Symmetries of molecules, and the distance of two places up to them.

What is left of a symmetric molecule may not tell where the missing atom was: above or below a planar rest, anywhere on a ring
about a line of atoms. Completions that a symmetry of the rest takes into one another are the same molecule or its mirror image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TOLERANCE = 0.05  # Å by which atoms may miss one another


def _frame(a: Array, b: Array) -> Array:
    """Orthonormal columns: along a, along what of b is normal to a, along both crossed. Shape: (..., 3) twice -> (..., 3, 3)."""
    first = a / np.linalg.norm(a, axis=-1, keepdims=True)
    second = b - (b * first).sum(-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], -1)


def point_group(numbers: NDArray[np.int64], positions: Array, tolerance: float = TOLERANCE) -> Array:
    """Rotations and reflections about the atoms' mean that take a molecule, whose atoms are not on a line, to itself.

    Args:
        numbers: atomic numbers, (P,).
        positions: places about their mean, (P, 3).
        tolerance: by how much atoms may miss one another, Å.

    Shape: -> (G, 3, 3), the identity first.

    Example:
        >>> water = np.array([[0.0, 0, 0.4], [0, 0.76, -0.2], [0, -0.76, -0.2]])
        >>> len(point_group(np.array([8, 1, 1]), water - water.mean(0)))
        4
    """
    radius = np.linalg.norm(positions, axis=1)
    far = radius > 4 * tolerance
    # two atoms, of the kinds with the fewest alike, whose images determine the map
    alike = (numbers[:, None] == numbers) & (np.abs(radius[:, None] - radius) < tolerance)
    order = np.lexsort([-radius, alike.sum(1)])
    order = order[far[order]]
    i = order[0]
    sine = np.linalg.norm(np.cross(positions[i], positions[order]), axis=1) / radius[i]
    j = order[np.flatnonzero(sine > 0.5 * sine.max())[0]]
    apart = np.linalg.norm(positions[:, None] - positions, axis=-1)
    close = np.abs(apart - apart[i, j]) < 2 * tolerance
    firsts, seconds = np.nonzero(alike[i][:, None] & alike[j][None] & close)
    kept = np.linalg.norm(np.cross(positions[firsts], positions[seconds]), axis=-1) > 1e-3
    firsts, seconds = firsts[kept], seconds[kept]
    home, images = _frame(positions[i], positions[j]), _frame(positions[firsts], positions[seconds])
    flip = np.diag([1.0, 1.0, -1.0])
    maps = np.concatenate([images @ home.T, images @ flip @ home.T])  # (G, 3, 3)
    moved = positions @ maps.swapaxes(1, 2)  # (G, P, 3)
    distance = np.linalg.norm(moved[:, :, None] - positions, axis=-1)
    distance[:, numbers[:, None] != numbers] = np.inf
    found = maps[distance.min(2).max(1) < tolerance]
    first = np.linalg.norm(found - np.eye(3), axis=(1, 2)).argsort(kind="stable")
    return np.asarray(found[first])


def symmetric_distance(
    numbers: NDArray[np.int64], positions: Array, one: Array, other: Array, tolerance: float = TOLERANCE
) -> tuple[float, int]:
    """Smallest distance of a place from the images of another under the symmetries of a molecule, and their number.

    Args:
        numbers: atomic numbers, (P,).
        positions: places of the atoms, (P, 3).
        one: a place, (3,).
        other: the place whose images count, (3,).
        tolerance: by how much atoms may miss one another, Å.

    Returns the distance, and the number of symmetries; 0 for infinitely many, of a single atom or of atoms on a line.

    Example:
        >>> symmetric_distance(np.array([1]), np.zeros((1, 3)), np.array([0.0, 0, 1]), np.array([0.5, 0, 0]))
        (0.5, 0)
    """
    centre = positions.mean(0)
    p, a, b = positions - centre, one - centre, other - centre
    if len(p) == 1:
        return float(abs(np.linalg.norm(a) - np.linalg.norm(b))), 0
    _, spread, axes = np.linalg.svd(p, full_matrices=False)
    if len(p) == 2 or spread[1] < tolerance:
        axis = axes[0]
        (za, zb), z = (float(a @ axis), float(b @ axis)), p @ axis
        ra, rb = (float(np.linalg.norm(v - (v @ axis) * axis)) for v in (a, b))
        found = np.hypot(za - zb, ra - rb)
        swapped, plain = np.argsort(-z), np.argsort(z)
        missed = np.abs(z[swapped] + z[plain]).max()
        reverses = missed < tolerance and (numbers[swapped] == numbers[plain]).all()
        return float(min(found, np.hypot(za + zb, ra - rb)) if reverses else found), 0
    group = point_group(numbers, p, tolerance)
    return float(np.linalg.norm(group @ b - a, axis=1).min()), len(group)
