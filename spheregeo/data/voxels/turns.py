"""Rotations of volumes: exact by the symmetries of the cube, by interpolation otherwise."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

ROTATIONS = ("none", "cube", "so3")


@cache
def cube_rotations() -> np.ndarray:
    """The 24 rotations of the cube. Shape: (24, 3, 3)."""
    return np.round(Rotation.create_group("O").as_matrix())


def rotation_of(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return a rotation drawn from a set.

    Args:
        kind: "none", "cube" for the 24 rotations of the cube, or "so3" for all.
        rng: the generator.

    Shape: -> (3, 3).
    Raises: ValueError for another word.
    """
    if kind not in ROTATIONS:
        raise ValueError(f"rotation is {kind!r}; expected one of {', '.join(ROTATIONS)}")
    if kind == "none":
        return np.eye(3)
    if kind == "cube":
        return np.asarray(cube_rotations()[rng.integers(24)])
    return Rotation.random(random_state=rng).as_matrix()


def turn(volume: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return a volume turned about its centre: f(R⁻¹ p). What comes from outside is the volume's edge.

    Args:
        volume: the volume.
        rotation: the rotation R; a symmetry of the cube on a cubic volume is exact, others are interpolated linearly.

    Shape: (C, D, H, W), (3, 3) -> (C, D, H, W).

    Example:
        >>> import numpy as np
        >>> quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
        >>> turn(np.arange(8).reshape(1, 2, 2, 2), quarter)[0, :, :, 0].tolist()
        [[2, 6], [0, 4]]
    """
    whole = np.round(rotation)
    if np.abs(rotation - whole).max() < 1e-9 and len(set(volume.shape[1:])) == 1:
        axes = np.abs(whole).argmax(1)
        turned = volume.transpose(0, *(1 + axes))
        flipped = tuple(1 + a for a in range(3) if whole[a].sum() < 0)
        return np.ascontiguousarray(np.flip(turned, flipped))
    centre = (np.array(volume.shape[1:]) - 1) / 2
    offset = centre - rotation.T @ centre
    parts = [affine_transform(channel, rotation.T, offset, order=1, mode="nearest") for channel in volume]
    return np.stack(parts).astype(volume.dtype)
