"""What every dataset of point clouds shares: the cloud as it is stored, the unit sphere, the batch.

A dataset gives :class:`Cloud`; :class:`~spheregeo.data.points.views.Views` makes of it the item that a network sees:

==============  ==========  =========  ====================================================================================
key             shape       dtype      meaning
==============  ==========  =========  ====================================================================================
``positions``   (P, 3)      float32    centred on their mean, the farthest at distance 1
``features``    (P, 3)      float32    unit normals, where they are asked for; turned with the positions
``label``       ()          int64      class of the cloud
``index``       ()          int64      number of the cloud in its dataset
``part``        (P,)        int64      part of every point, 255 where it is not known; of a :class:`PartDataset` alone
==============  ==========  =========  ====================================================================================

A batch holds positions and features end to end, ``batch`` (P_1 + P_2 + ...,) int64, the cloud of each point, ``label`` (B,) and
``index`` (B,). Where a cloud is shown in several ``votes``, they follow one another, and positions hold B · votes clouds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from spheregeo.data.batches import collate_clouds as collate  # noqa: F401  (its former place)

__all__ = ["Cloud", "PartDataset", "PointDataset", "unit_sphere"]

AXES = ("x", "y", "z")
LARGEST = float(np.finfo(np.float32).max)  # networks and caches hold coordinates in float32
PointItem = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Cloud:
    """A cloud as it is stored, in one floating-point type.

    Args:
        points: coordinates.
        normals: unit normals; None where they are not known.
        dropped: points that the source has beyond these, left out for being NaN or infinite.
        parts: the part that each point belongs to, 255 where that is not known; None for clouds without parts.

    Shape: points (P, 3); normals (P, 3); parts (P,) int64.

    Example:
        >>> import numpy as np
        >>> Cloud(np.zeros((5, 3))).normals is None
        True
    """

    points: np.ndarray
    normals: np.ndarray | None = None
    dropped: int = 0
    parts: np.ndarray | None = None


def check_cloud(
    points: np.ndarray,
    normals: np.ndarray | None,
    name: str,
    drop_nan: bool | None = None,
    parts: np.ndarray | None = None,
) -> Cloud:
    """The cloud, once found to be one: at least one point, three finite coordinates each; normals brought to length 1.

    Args:
        points: coordinates.
        normals: normals of any length, where known.
        name: what the cloud is called in messages.
        drop_nan: leave out points that are not finite, or whose normals are not; None where that is no option.
        parts: a whole number for each point, where known.

    Raises: ValueError that begins with ``name``.
    """
    points = np.asarray(points)
    if parts is not None:
        parts = _check_parts(np.asarray(parts).reshape(-1), len(points), name)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"{name} holds an array of shape {points.shape}; expected points (P, 3)")
    if not len(points):
        raise ValueError(f"{name} holds no point; expected at least one")
    if normals is not None and np.shape(normals) != points.shape:
        raise ValueError(f"{name} has normals of shape {np.shape(normals)}; expected {points.shape}")
    bad = ~np.isfinite(points).all(1)
    if drop_nan:
        bad |= False if normals is None else ~np.isfinite(normals).all(1)
        dropped = int(bad.sum())
        if dropped == len(points):
            raise ValueError(f"{name} holds no point that is finite; expected at least one")
        points, normals = points[~bad], None if normals is None else np.asarray(normals)[~bad]
        parts = None if parts is None else parts[~bad]
    elif bad.any():
        hint = "" if drop_nan is None else ", or leave them out: drop_nan=True (--data.drop_nan true)"
        raise ValueError(
            f"{name} holds {int(bad.sum())} points that are NaN or infinite, the first is number "
            f"{int(bad.argmax())}; remove them{hint}"
        )
    else:
        dropped = 0
    if points.dtype.kind == "f" and float(np.abs(points).max()) > LARGEST:
        raise ValueError(
            f"{name} has coordinates up to {np.abs(points).max():g}; expected at most {LARGEST:g}"
        )
    if normals is None:
        return Cloud(points, None, dropped, parts)
    normals = np.asarray(normals)
    if not np.isfinite(normals).all():
        raise ValueError(f"{name} has normals that are NaN or infinite; expected finite ones")
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return Cloud(points, normals / np.maximum(length, np.finfo(normals.dtype).tiny), dropped, parts)


def _check_parts(parts: np.ndarray, count: int, name: str) -> np.ndarray:
    """Parts as int64. Raises: ValueError for another number of them, or no whole numbers."""
    if len(parts) != count:
        raise ValueError(f"{name} has {len(parts)} parts for {count} points; expected one a point")
    if parts.dtype.kind not in "iuf" or not np.array_equal(parts, np.round(parts)):
        raise ValueError(
            f"{name} has parts that are no whole numbers; expected the number of a part for each point"
        )
    return parts.astype(np.int64)


def check_spread(points: np.ndarray, name: str, distinct: int = 2) -> None:
    """Check that a cloud has enough points at different places for a network to see a shape.

    Places are compared as networks are given them: on the unit sphere, in float32.

    Args:
        points: coordinates.
        name: what the cloud is called in the message.
        distinct: places that are needed, such as the number of neighbours that a network takes of each point.

    Shape: points (P, 3).
    Raises: ValueError that begins with ``name`` for fewer places, and for coordinates that are not finite or beyond float32.
    """
    points = np.asarray(points, np.float64)
    largest = float(np.abs(points).max(initial=0.0))
    if not largest <= LARGEST:
        raise ValueError(f"{name} has coordinates up to {largest:g}; expected at most {LARGEST:g}")
    places = len(np.unique(unit_sphere(points).astype(np.float32), axis=0)) if len(points) else 0
    if places < distinct:
        held = f"{len(points)} points, all at one place" if places == 1 else f"points at {places} places"
        raise ValueError(f"{name} holds {held}; expected at least {distinct} different places")


def unit_sphere(points: np.ndarray) -> np.ndarray:
    """Move and scale points so that their mean is the origin and the farthest is at distance 1, in float64.

    Points that all coincide, up to rounding, are all at the origin.

    Args:
        points: coordinates.

    Shape: (P, 3) -> (P, 3).
    Equivariance: translations and scale drop out; rotations and reflections act on the result as on the points.

    Example:
        >>> import numpy as np
        >>> from spheregeo.data import unit_sphere
        >>> unit_sphere(np.array([[2.0, 0, 0], [4.0, 0, 0]])).tolist()
        [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    points = np.asarray(points, np.float64)
    centred = points - points.mean(0)
    radius = float(np.sqrt((centred**2).sum(1).max()))
    if radius <= 1e-12 * float(np.abs(points).max(initial=0.0)) or radius == 0.0:
        return np.zeros_like(centred)
    return np.asarray(centred / radius)


class PointDataset(Dataset[Cloud], ABC):
    """Base class of datasets of labelled clouds.

    A subclass implements ``__len__`` and ``load``, and sets ``labels`` (one int per cloud), ``class_names`` and, where things
    stand upright, ``up``.

    Raises: IndexError for an index outside the dataset.
    """

    class_names: tuple[str, ...] = ()
    labels: Sequence[int] | np.ndarray
    up: int | None = None  # the axis that points against gravity, 0 to 2; None where it is not known

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int) -> Cloud:
        """Reads or makes one cloud."""

    def name(self, index: int) -> str:
        """What a cloud is called in messages and tables."""
        return str(index)

    def __getitem__(self, index: int) -> Cloud:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside a dataset of {len(self)} clouds")
        return self.load(index)


class PartDataset(PointDataset):
    """Base class of datasets of clouds whose points belong to parts: ``labels`` are categories, each with its own parts.

    A subclass implements what one of :class:`PointDataset` does, with ``parts`` in its clouds, and sets ``part_names`` and
    ``category_parts``, the parts of each category.
    """

    part_names: tuple[str, ...] = ()
    category_parts: tuple[tuple[int, ...], ...] = ()
