"""Map projections of a panorama: Mollweide's equal-area ellipse and the orthographic globe (Snyder 1987, USGS
Professional Paper 1395, p. 251 and p. 149).

A panorama is an array (H, W, ...) whose row 0 is north, whose pixels are cell-centred and whose columns run from
longitude -pi to pi: its middle column looks along longitude 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from spheregeo.grids import Grid

Array = NDArray[Any]


def sample(panorama: Array, latitude: Array, longitude: Array) -> Array:
    """Nearest pixel of the panorama (H, W, ...) at each latitude and longitude, in radians."""
    height, width = panorama.shape[:2]
    row = np.clip(((np.pi / 2 - latitude) / np.pi * height).astype(int), 0, height - 1)
    column = np.floor((longitude + np.pi) / (2 * np.pi) * width).astype(int) % width
    return panorama[row, column]


def mollweide(panorama: Array, width: int = 1024, outside: int = 255) -> Array:
    """The whole sphere as an equal-area ellipse (width/2, width, ...); ``outside`` fills the corners."""
    height = width // 2
    y, x = np.mgrid[0:height, 0:width]
    x = (x + 0.5) / width * 2 - 1  # in units of 2 sqrt 2
    y = 1 - (y + 0.5) / height * 2  # in units of sqrt 2
    inside = x**2 + y**2 < 1
    theta = np.arcsin(np.clip(y, -1, 1))
    latitude = np.arcsin(np.clip((2 * theta + np.sin(2 * theta)) / np.pi, -1, 1))
    longitude = np.pi * np.where(inside, x / np.maximum(np.cos(theta), 1e-12), 0.0)
    picture = sample(panorama, latitude, longitude)
    picture[~inside] = outside
    return picture


def globe(
    panorama: Array, size: int = 512, latitude: float = 0.35, longitude: float = 0.0, outside: int = 255
) -> Array:
    """One hemisphere seen from far away above (latitude, longitude), (size, size, ...)."""
    y, x = np.mgrid[0:size, 0:size]
    x = (x + 0.5) / size * 2 - 1
    y = 1 - (y + 0.5) / size * 2
    inside = x**2 + y**2 < 1
    z = np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))  # towards the viewer
    sin, cos = np.sin(latitude), np.cos(latitude)
    up, out = y * cos + z * sin, z * cos - y * sin
    picture = sample(panorama, np.arcsin(np.clip(up, -1, 1)), longitude + np.arctan2(x, out))
    picture[~inside] = outside
    return picture


def to_panorama(field: Tensor, grid: Grid, height: int = 256) -> Array:
    """A field (*grid.shape) as a panorama: itself on lat-lon grids, nearest points (height, 2 height) on others."""
    if len(grid.shape) == 2 and grid.shape[1] == 2 * grid.shape[0]:
        return np.asarray(field.detach().cpu())
    from spheregeo.grids import Equiangular
    from spheregeo.sampling import resample

    spread = resample(field.detach().cpu().double(), grid, Equiangular(height, 2 * height), method="nearest")
    return np.asarray(spread)
