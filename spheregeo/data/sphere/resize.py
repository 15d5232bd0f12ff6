"""Equirectangular images at another size: averages and majorities by solid angle, with what is missing left out.

Row i is centred at colatitude (i + 1/2) pi/H, column j at longitude -pi + (j + 1/2) 2 pi/W. Shrinking is first-order
conservative remapping (Jones 1999, doi:10.1175/1520-0493(1999)127): a target cell takes the mean of what it covers, each
part by its solid angle. Rows and columns separate, so that 2048 x 4096 pixels need no map with as many entries, and cells
may have any edges: planets come on grids that are neither centred nor complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy import sparse

from spheregeo.data.common import IGNORE
from spheregeo.grids import Equiangular

__all__ = ["panorama_grid", "resize_depth", "resize_image", "resize_labels"]


def panorama_grid(height: int, width: int) -> Equiangular:
    """Return the grid of an image's pixels, whose column 0 is half a pixel east of longitude -pi.

    Args:
        height: rows of the image.
        width: columns of the image.

    Example:
        >>> from spheregeo.data import panorama_grid
        >>> panorama_grid(32, 64).shape
        (32, 64)
    """
    return Equiangular(height, width, offset=(1 - width) / 2)


def uniform_edges(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges, in degrees, of an image's rows (north first) and columns (from -180)."""
    return np.linspace(90, -90, height + 1), np.linspace(-180, 180, width + 1)


def overlap(source: np.ndarray, target: np.ndarray, period: float | None = None) -> sparse.csr_matrix:
    """Length of the overlap of two partitions' cells, (targets, sources); edges ascend."""
    rows, columns, values = [], [], []
    for shift in (0.0,) if period is None else (-2 * period, -period, 0.0, period, 2 * period):
        low, high = source[:-1] + shift, source[1:] + shift
        first = np.clip(np.searchsorted(target, low, "right") - 1, 0, len(target) - 2)
        last = np.clip(np.searchsorted(target, high, "left"), 1, len(target) - 1)
        for k in range(int((last - first).max())):
            cell = np.minimum(first + k, len(target) - 2)
            length = np.minimum(high, target[cell + 1]) - np.maximum(low, target[cell])
            keep = (length > 0) & (first + k < last)
            rows.append(cell[keep])
            columns.append(np.flatnonzero(keep))
            values.append(length[keep])
    shape = (len(target) - 1, len(source) - 1)
    where = np.concatenate(rows), np.concatenate(columns)
    return sparse.csr_matrix((np.concatenate(values).astype(np.float32), where), shape=shape)


class AreaMap:
    """Averages and majorities from cells with given edges (degrees; rows north first) to an image of the given size."""

    def __init__(
        self, latitude_edges: np.ndarray, longitude_edges: np.ndarray, size: tuple[int, int]
    ) -> None:
        rows, columns = uniform_edges(*size)
        ascending = [
            -np.sin(np.radians(edges)) for edges in (latitude_edges, rows)
        ]  # solid angle is even in sin(lat)
        self.rows = overlap(ascending[0], ascending[1])
        self.columns = overlap(np.radians(longitude_edges), np.radians(columns), period=2 * np.pi)
        self.size = size
        self.area = np.outer(np.diff(ascending[1]), np.diff(np.radians(columns))).astype(np.float32)

    def integrate(self, x: np.ndarray) -> np.ndarray:
        """Integral over each target cell: (H, W) -> (h, w)."""
        return np.asarray(self.columns @ (self.rows @ x).T).T

    def average(self, x: np.ndarray) -> np.ndarray:
        """Mean over each target cell, (..., H, W) -> (..., h, w) float32; NaN is left out, and wins above half the area."""
        result = []
        for plane in x.reshape(-1, *x.shape[-2:]):
            valid = np.isfinite(plane)
            total = self.integrate(np.where(valid, plane, 0).astype(np.float32))
            weight = self.integrate(valid.astype(np.float32))
            mean = total / np.maximum(weight, np.float32(1e-12))
            result.append(np.where(weight >= 0.499 * self.area, mean, np.nan))
        return np.stack(result).reshape(*x.shape[:-2], *self.size).astype(np.float32)

    def majority(self, label: np.ndarray, ignore: int = IGNORE) -> np.ndarray:
        """The label that covers most of each target cell, (H, W) -> (h, w) int64; ``ignore`` is a label like any other."""
        values = np.flatnonzero(np.bincount(label.ravel()))
        winner = np.full(self.size, ignore, np.int64)
        best = np.zeros(self.size, np.float32)
        for value, share in zip(values, self._shares(label, values), strict=True):
            # A hair's margin, so that halves shared by rounding go to the lower label on every machine.
            better = share > best + 1e-5 * self.area
            winner, best = np.where(better, value, winner), np.where(better, share, best)
        return winner

    def _shares(self, label: np.ndarray, values: np.ndarray) -> Iterator[np.ndarray]:
        """Area of each value in each target cell, one (h, w) after another."""
        if self.rows.nnz == label.shape[0] and self.columns.nnz == label.shape[1]:
            # Every source cell lies in one target cell (a whole ratio, the usual case): one count does for all values.
            place = np.zeros(values[-1] + 1, np.int64)
            place[values] = np.arange(len(values))
            row, column = self.rows.tocsc(), self.columns.tocsc()
            cell = (row.indices[:, None].astype(np.int64) * self.size[1] + column.indices) * len(
                values
            ) + place[label]
            weight = np.broadcast_to(row.data[:, None] * column.data, label.shape)
            count = np.bincount(cell.ravel(), weight.ravel(), self.size[0] * self.size[1] * len(values))
            yield from np.moveaxis(count.reshape(*self.size, len(values)), -1, 0).astype(np.float32)
        else:
            for value in values:
                yield self.integrate((label == value).astype(np.float32))


@lru_cache(maxsize=16)
def image_map(height: int, width: int, size: tuple[int, int]) -> AreaMap:
    """The AreaMap between two sizes of image, kept."""
    return AreaMap(*uniform_edges(height, width), size)


def _grow(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, (..., H, W) -> (..., h, w); beyond a pole an image goes on with its own rows, half a turn further.

    Missing values (NaN) are left out, and win where they have more than half of the weight.
    """
    valid = np.isfinite(x)
    if not valid.all():
        weight = _grow(valid.astype(x.dtype), size)
        values = _grow(np.where(valid, x, np.zeros((), x.dtype)), size)
        return np.where(weight >= 0.499, values / np.maximum(weight, 0.499), np.asarray(np.nan, x.dtype))
    height, width = x.shape[-2:]
    over = [np.roll(x[..., row, :], width // 2, -1)[..., None, :] for row in (0, -1)]
    wide = np.concatenate([over[0], x, over[1]], -2)
    wide = np.concatenate([wide[..., -1:], wide, wide[..., :1]], -1)  # (..., H + 2, W + 2)
    for axis, (many, few) in ((-2, (size[0], height)), (-1, (size[1], width))):
        place = (np.arange(many) + 0.5) * few / many + 0.5
        low = np.floor(place).astype(np.int64)
        share = (place - low).astype(x.dtype).reshape((-1, 1) if axis == -2 else (-1,))
        wide = wide.take(low, axis) * (1 - share) + wide.take(low + 1, axis) * share
    return wide


def _nearest(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    row, column = (
        ((np.arange(many) + 0.5) * few / many).astype(np.int64)
        for many, few in zip(size, x.shape, strict=True)
    )
    return x[np.ix_(row, column)]


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize floating-point images: area averages when they shrink, bilinear when they grow.

    Args:
        image: any channels.
        size: rows and columns wanted.

    Shape: (..., H, W) -> (..., h, w).

    Example:
        >>> import numpy as np
        >>> from spheregeo.data import resize_image
        >>> resize_image(np.ones((3, 8, 16), np.float32), (4, 8)).shape
        (3, 4, 8)
    """
    height, width = image.shape[-2:]
    if (height, width) == size:
        return image
    if height < size[0]:
        return _grow(image, size)
    return image_map(height, width, size).average(image)


def resize_labels(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize labels: the majority by area when they shrink, the nearest when they grow.

    Args:
        label: class numbers.
        size: rows and columns wanted.

    Shape: (H, W) -> (h, w).

    Example:
        >>> import numpy as np
        >>> from spheregeo.data import resize_labels
        >>> resize_labels(np.zeros((8, 16), np.int64), (4, 8)).shape
        (4, 8)
    """
    height, width = label.shape
    if (height, width) == size:
        return label
    if height < size[0]:
        return _nearest(label, size)
    return image_map(height, width, size).majority(label)


def resize_depth(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize depths, 0 where missing: the mean of what was measured, if that is half the pixel.

    Args:
        depth: depths in metres.
        size: rows and columns wanted.

    Shape: (H, W) -> (h, w).

    Example:
        >>> import numpy as np
        >>> from spheregeo.data import resize_depth
        >>> resize_depth(np.ones((8, 16), np.float32), (4, 8)).shape
        (4, 8)
    """
    height, width = depth.shape
    if (height, width) == size:
        return depth
    if height < size[0]:
        return _nearest(depth, size)
    mean = image_map(height, width, size).average(np.where(depth > 0, depth, np.nan))
    return np.nan_to_num(mean, nan=0.0)
