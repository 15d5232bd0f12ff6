"""``Part``: the points of a grid that one process owns, as a grid; ``Shares``: those of all grids of a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spheregeo.distributed.collectives import Group, group_rank
from spheregeo.distributed.partition import Partition
from spheregeo.grids import Grid
from spheregeo.grids.latlon import LatLon
from spheregeo.lazy import cached_property


class Part(Grid):
    """The points of a grid that one part of a partition owns.

    Fields on a part of a lat-lon grid keep their rows and columns where the part is made of whole rows.

    Args:
        partition: owners of a grid's points.
        part: number of the part.

    Raises: ValueError for a partition without a grid, or a number outside the parts.

    Example:
        >>> from spheregeo.distributed import Part, Partition
        >>> from spheregeo.grids import Equiangular
        >>> Part(Partition.of(Equiangular(8, 16), 2), 0).shape
        (4, 16)
    """

    def __init__(self, partition: Partition, part: int) -> None:
        if partition.grid is None or not 0 <= part < partition.parts:
            raise ValueError(f"part is {part} of {partition!r}; expected a part of a grid")
        self.partition, self.part, self.whole = partition, part, partition.grid
        self.index = partition.points_of(part)

    @property
    def is_sphere(self) -> bool:  # type: ignore[override]
        """That of the whole."""
        return self.whole.is_sphere

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and (self.partition, self.part) == (other.partition, other.part)

    def __hash__(self) -> int:
        return hash((self.partition, self.part))

    def __repr__(self) -> str:
        return f"Part({self.part} of {self.partition.parts}, {self.num_points} points of {self.whole!s})"

    @cached_property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(rows, nlon) for whole rows of a lat-lon grid, else (n,)."""
        if isinstance(self.whole, LatLon):
            nlon = self.whole.nlon
            rows = self.index[::nlon]
            whole = (rows[:, None] + torch.arange(nlon)).reshape(-1)
            if (
                len(self.index) % nlon == 0
                and bool((rows % nlon == 0).all())
                and torch.equal(whole, self.index)
            ):
                return len(rows), nlon
        return (len(self.index),)

    @property
    def points(self) -> Tensor:
        """Positions, (n, 3)."""
        return self.whole.points[self.index]

    @property
    def areas(self) -> Tensor:
        """Areas, (n,): those of the whole, whose sum all parts share."""
        return self.whole.areas[self.index]

    @property
    def frames(self) -> Tensor:
        """Frames, (n, 2, 3)."""
        return self.whole.frames[self.index]

    @property
    def normals(self) -> Tensor:
        """Normals, (n, 3)."""
        return self.whole.normals[self.index]

    @property
    def spacing(self) -> float:
        """That of the whole."""
        return self.whole.spacing

    def of(self, field: Tensor) -> Tensor:
        """This part of a field on the whole grid. Shape: (..., *whole.shape) -> (..., *shape)."""
        flat = field.flatten(-len(self.whole.shape))
        return flat.index_select(-1, self.index.to(field.device)).unflatten(-1, self.shape)


class Shares:
    """The partitions of all grids of a network and this process's part of each."""

    def __init__(self, given: dict[Grid, Partition], first: Partition, group: Group) -> None:
        self.given, self.first, self.group, self.rank = given, first, group, group_rank(group)
        self.parts: dict[Grid, Part] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Shares:
        return self

    def partition(self, grid: Grid) -> Partition:
        return self.given[grid] if grid in self.given else self.first.on(grid)

    def part(self, grid: Grid) -> Part:
        if grid not in self.parts:
            self.parts[grid] = Part(self.partition(grid), self.rank)
        return self.parts[grid]
