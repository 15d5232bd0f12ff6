"""Fields on points that form no lat-lon grid (curvilinear or unstructured), brought to an image by cells and triangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from spheregeo.data.common import IGNORE
from spheregeo.grids import Scattered
from spheregeo.lazy import cached_property
from spheregeo.sampling.interpolation import stencils
from spheregeo.sampling.triangles import triangulation

__all__ = ["PointField"]

DENSE = 16  # points in a cell from which on their mean is taken; others have the field interpolated at SUB x SUB places
SUB = 4  # with fewer points than DENSE these are as close as the points
REACH = 3.0  # an edge of a triangle longer than this many typical ones spans a gap, not the field
SAME = 1e-7  # radians: points nearer than this are one, such as all columns at a pole


@dataclass(frozen=True)
class PointField:
    """Values of a field at points of the planet in any order.

    Args:
        values: NaN where missing.
        latitude: latitudes of the points.
        longitude: longitudes of the points.

    Shape: values (C, N); latitude (N,); longitude (N,).
    Units: degrees; values in the file's units.

    Example:
        >>> import numpy as np
        >>> from spheregeo.data import PointField
        >>> PointField(np.zeros((1, 5)), np.linspace(-80, 80, 5), np.arange(5.0)).values.shape
        (1, 5)
    """

    values: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray

    def map_to(self, size: tuple[int, int]) -> PointMap:
        """The map from these points to an image of the given size."""
        return PointMap(self.latitude, self.longitude, size)


def directions(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Unit vectors of latitudes and longitudes in degrees: (N,) -> (N, 3)."""
    a, b = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)], -1)


class PointMap:
    """Averages and majorities of values at points in the cells of an image, as :class:`AreaMap` has them for grids.

    A cell with many points takes their mean. In the others the field is interpolated linearly at 16 places, each in the Delaunay
    triangle around it, with the weights of missing values shared out among the others. Beyond the points' region there is no
    value.

    Args:
        latitude: latitudes of the points in degrees.
        longitude: longitudes of the points in degrees.
        size: rows and columns of the image.
    """

    def __init__(self, latitude: np.ndarray, longitude: np.ndarray, size: tuple[int, int]) -> None:
        self.size = size
        height, width = size
        row = np.clip(((90 - latitude) / 180 * height).astype(np.int64), 0, height - 1)
        column = ((longitude + 180) % 360 / 360 * width).astype(np.int64) % width
        self.cell = row * width + column
        self.dense = np.bincount(self.cell, minlength=height * width) >= DENSE
        self._positions = directions(latitude, longitude)

    @cached_property
    def _merged(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct positions, and which of them each point is."""
        rounded = np.round(self._positions / SAME).astype(np.int64)
        distinct, which = np.unique(rounded, axis=0, return_inverse=True)
        positions = distinct / np.linalg.norm(distinct, axis=1, keepdims=True)
        return positions, which.reshape(-1)

    @cached_property
    def _grid(self) -> Scattered:
        positions, _ = self._merged
        if len(positions) < 4:
            raise ValueError(f"the field has {len(positions)} different points; expected 4 or more")
        return Scattered(positions, areas=np.ones(len(positions)))

    @cached_property
    def _read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each place in sparse cells: indices and weights of three distinct positions, and whether these surround it."""
        height, width = SUB * self.size[0], SUB * self.size[1]
        cell = np.flatnonzero(~self.dense)[:, None]
        step = np.arange(SUB * SUB)
        row = cell // self.size[1] * SUB + step // SUB
        sparse = (row * width + cell % self.size[1] * SUB + step % SUB).reshape(
            -1
        )  # place by place, cell after cell
        centres = directions(
            90 - (sparse // width + 0.5) * 180 / height, -180 + (sparse % width + 0.5) * 360 / width
        )
        positions, _ = self._merged
        if not len(sparse):
            return np.zeros((0, 3), np.int64), np.zeros((0, 3)), np.zeros(0, bool)
        chunks = list(stencils(self._grid, torch.from_numpy(centres), "linear"))
        index, weight = (torch.cat([chunk[k] for chunk in chunks]).numpy() for k in (0, 1))
        corners = positions[index]  # (M, 3, 3)
        edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(1)
        nearest = np.linalg.norm(corners - centres[:, None], axis=2).min(1)
        local = self._extent[0][index].max(1)
        return index, weight, (edges <= REACH * local) & (nearest <= local)

    @cached_property
    def _extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Length of a typical edge of the triangulation at each distinct position, and the area that each point stands for."""
        positions, which = self._merged
        faces = triangulation(self._grid).faces.numpy()
        ends, others = (
            np.concatenate(pair).reshape(-1)
            for pair in ((faces, faces[:, [1, 2, 0]]), (faces[:, [1, 2, 0]], faces))
        )
        length = np.linalg.norm(positions[ends] - positions[others], axis=1)
        order = np.lexsort((length, ends))
        start = np.searchsorted(ends[order], np.arange(len(positions)))
        count = np.bincount(ends, minlength=len(positions))
        middle = np.minimum(start + np.maximum(count - 1, 0) // 2, len(order) - 1)
        spacing = np.where(count > 0, length[order][middle], 0.0)  # the median of the edges that meet there
        spacing = np.minimum(spacing, 10 * np.median(spacing))
        a, b, c = (positions[faces[:, k]] for k in range(3))
        third = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
        area = np.bincount(faces.reshape(-1), np.repeat(third, 3), len(positions))
        area = np.minimum(
            area, spacing**2
        )  # at the border of the points' region triangles are larger than cells
        return spacing, (area / np.bincount(which, minlength=len(positions)))[which]

    def average(self, x: np.ndarray) -> np.ndarray:
        """Mean in each cell, (..., N) -> (..., h, w) float32; NaN is left out, and wins from half of a cell on."""
        planes = x.reshape(-1, x.shape[-1]).astype(np.float64)
        return np.stack([self._average(plane) for plane in planes]).reshape(*x.shape[:-1], *self.size)

    def _average(self, x: np.ndarray) -> np.ndarray:
        cells, (positions, which) = self.size[0] * self.size[1], self._merged
        valid = np.isfinite(x)
        filled = np.where(valid, x, 0.0)
        area = self._extent[1]
        total = np.bincount(self.cell, filled * area, cells)
        known, count = (np.bincount(self.cell, v, cells) for v in (valid * area, area))
        result = np.where(self.dense & (known >= 0.5 * count), total / np.maximum(known, 1e-30), np.nan)
        at = [np.bincount(which, v, len(positions)) for v in (filled, valid.astype(float))]
        value, here = at[0] / np.maximum(at[1], 1), at[1] > 0
        index, weight, inside = self._read
        share = (weight * here[index]).sum(1)
        mean = (weight * here[index] * value[index]).sum(1) / np.maximum(share, 1e-12)
        found = (inside & (share >= 0.5)).reshape(-1, SUB * SUB)
        places = (np.where(found, mean.reshape(found.shape), 0).sum(1), found.sum(1))
        result[~self.dense] = np.where(
            2 * places[1] >= SUB * SUB, places[0] / np.maximum(places[1], 1), np.nan
        )
        return result.reshape(self.size).astype(np.float32)

    def majority(self, label: np.ndarray, ignore: int = IGNORE) -> np.ndarray:
        """The commonest label of each cell's points, or of the points nearest to its places, (N,) -> (h, w) int64."""
        (positions, which), dense = self._merged, np.flatnonzero(self.dense)
        values, code = np.unique(np.append(label, ignore), return_inverse=True)
        code, void = code[:-1], int(code[-1])
        result = np.full(len(self.dense), ignore, np.int64)
        number = np.cumsum(self.dense) - 1
        within = self.dense[self.cell]
        area = self._extent[1][within]
        result[dense] = values[
            _commonest(number[self.cell[within]], code[within], len(dense), len(values), area)
        ]
        first = np.zeros(len(positions), np.int64)
        first[which[::-1]] = np.arange(len(label))[::-1]
        index, weight, inside = self._read
        nearest = index[np.arange(len(index)), weight.argmax(1)] if len(index) else np.zeros(0, np.int64)
        at_place = np.where(inside, code[first[nearest]], void)
        rows = np.arange(len(at_place)) // (SUB * SUB)
        result[~self.dense] = values[_commonest(rows, at_place, len(result) - len(dense), len(values))]
        return result.reshape(self.size)


def _commonest(
    row: np.ndarray, code: np.ndarray, rows: int, codes: int, weight: np.ndarray | None = None
) -> np.ndarray:
    """The code of the largest weight in each row."""
    count = np.bincount(row * codes + code, weight, minlength=rows * codes)
    return count.reshape(rows, codes).argmax(1)
