"""Rotations and reflections of images: exact for quarter turns and flips of squares, by interpolation otherwise."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import affine_transform

TURNS = ("none", "c4", "d4", "so2", "o2")
ORDERS = {"nearest": 0, "linear": 1, "cubic": 3}  # of the splines


def turn_of(kind: str, rng: np.random.Generator) -> tuple[float, bool]:
    """Return a turn drawn from a group: its angle in radians, counter-clockwise, and whether the image is flipped before it.

    Args:
        kind: "none", "c4" for quarter turns, "d4" for these with flips, "so2" for all angles, "o2" for these with flips.
        rng: the generator.

    Raises: ValueError for another word.
    """
    if kind not in TURNS:
        raise ValueError(f"rotation is {kind!r}; expected one of {', '.join(TURNS)}")
    if kind == "none":
        return 0.0, False
    angle = rng.integers(4) * math.pi / 2 if kind in ("c4", "d4") else rng.uniform(0, 2 * math.pi)
    return float(angle), kind in ("d4", "o2") and bool(rng.integers(2))


def turn(image: np.ndarray, angle: float, flip: bool = False, interpolation: str = "cubic") -> np.ndarray:
    """Return an image flipped, if asked for, and then turned about its centre. What comes from outside is the mirrored image.

    Quarter turns of squares only move pixels. Other turns change no scale, so that nothing has to be smoothed; splines of order
    3 pass through the pixels and keep fine structure, and results stay between the image's least and largest value.

    Args:
        image: the image, or a mask.
        angle: of the turn.
        flip: whether columns are reversed first.
        interpolation: "nearest" (for masks), "linear" or "cubic".

    Shape: (..., H, W) -> (..., H, W).
    Units: radians, counter-clockwise as the image is seen.
    Raises: ValueError for another interpolation.

    Example:
        >>> import numpy as np
        >>> turn(np.array([[1, 2], [3, 4]]), np.pi / 2).tolist()
        [[2, 4], [1, 3]]
    """
    if interpolation not in ORDERS:
        raise ValueError(f"interpolation is {interpolation!r}; expected one of {', '.join(ORDERS)}")
    if flip:
        image = image[..., ::-1]
    height, width = image.shape[-2:]
    quarters = angle / (math.pi / 2)
    if abs(quarters - round(quarters)) < 1e-9 and (height == width or round(quarters) % 2 == 0):
        return np.ascontiguousarray(np.rot90(image, round(quarters) % 4, (-2, -1)))
    cos, sin = math.cos(angle), math.sin(angle)
    # rows count downwards, so that R^-1 acts on (row, column) as the turn by +angle on (x, y)
    matrix = np.array([[cos, sin], [-sin, cos]])
    centre = (np.array([height, width]) - 1) / 2
    offset, order = centre - matrix @ centre, ORDERS[interpolation]
    flat = image.reshape(-1, height, width)
    parts = [
        np.clip(affine_transform(part, matrix, offset, order=order, mode="reflect"), part.min(), part.max())
        for part in flat
    ]
    return np.stack(parts).reshape(image.shape).astype(image.dtype)
