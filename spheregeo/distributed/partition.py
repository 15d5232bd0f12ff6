"""Which process owns each point of a grid, a mesh or a graph."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.grids.latlon import LatLon
from spheregeo.lazy import cached_property


class Partition:
    """An owner for each point: a number of parts, one for each process of a group.

    Two partitions are equal when their parts, owners and grids are. Most are made by :meth:`of`, and those of other grids of one
    network follow by :meth:`on`.

    Args:
        owner: part that owns each point.
        parts: number of parts; each owns a point at least.
        grid: the points' grid or mesh; None for a bare graph.

    Shape: owner (N,) int64, from 0 to parts - 1.
    Raises: ValueError for owners outside the parts, a part without points, or another number of points than the grid's.

    Example:
        >>> from spheregeo.distributed import Partition
        >>> from spheregeo.grids import Equiangular
        >>> Partition.of(Equiangular(8, 16), 2).counts.tolist()
        [64, 64]
    """

    def __init__(self, owner: Tensor, parts: int, grid: Grid | None = None) -> None:
        owner = torch.as_tensor(owner).detach().cpu().long().reshape(-1)
        if parts < 1 or (len(owner) and not (int(owner.min()) >= 0 and int(owner.max()) < parts)):
            raise ValueError(f"owner holds numbers outside 0 to {parts - 1}; expected those of {parts} parts")
        counts = torch.bincount(owner, minlength=parts)
        if bool((counts == 0).any()):
            raise ValueError(
                f"{int((counts == 0).sum())} of {parts} parts own none of the {len(owner)} points; take fewer parts"
            )
        if grid is not None and grid.num_points != len(owner):
            raise ValueError(f"owner has {len(owner)} points and {grid!s} {grid.num_points}")
        self.owner, self.parts, self.grid, self.counts = owner, parts, grid, counts
        self._on: dict[Grid, Partition] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Partition) and (self.parts, self.grid, self.digest) == (
            other.parts,
            other.grid,
            other.digest,
        )

    def __hash__(self) -> int:
        return hash((self.parts, self.digest))

    def __repr__(self) -> str:
        return f"Partition({self.counts.tolist()} points of {self.grid!s})"

    @cached_property
    def digest(self) -> str:
        """Hash of the owners."""
        return hashlib.sha256(self.owner.numpy().tobytes()).hexdigest()

    def points_of(self, part: int) -> Tensor:
        """Points of a part, ascending. Shape: (n,) int64."""
        return (self.owner == part).nonzero()[:, 0]

    # ---- how points are dealt out

    @classmethod
    def of(cls, grid: Grid, parts: int, work: Any = None) -> Partition:
        """Stretches of a sphere's points with equal work; boxes of meshes and scattered points.

        Stretches are latitude bands on lat-lon grids and ring-ordered HEALPix, faces and parts of faces on nested HEALPix, and
        charts on icosahedral grids.

        Args:
            grid: sphere grid or mesh.
            parts: number of parts.
            work: of each point, (N,), such as :func:`work_of` counts it; None for one and the same.

        Raises: ValueError for more parts than points.
        """
        load = np.ones(grid.num_points) if work is None else _numbers(work, grid.num_points)
        rings = grid.rings
        if rings is not None and len(rings.start) >= parts:
            starts = rings.start.numpy()
            of_ring = _stretches(np.add.reduceat(load, starts), parts)
            return cls(torch.from_numpy(np.repeat(of_ring, rings.length.numpy())), parts, grid)
        if isinstance(grid, LatLon) and grid.nlat >= parts:
            of_ring = _stretches(load.reshape(grid.shape).sum(1), parts)
            return cls(torch.from_numpy(np.repeat(of_ring, grid.nlon)), parts, grid)
        if isinstance(grid, LatLon) or rings is not None or (grid.is_sphere and _is_ordered(grid)):
            return cls(torch.from_numpy(_stretches(load, parts)), parts, grid)
        return cls(torch.from_numpy(_boxes(grid.points.numpy(), load, parts)), parts, grid)

    @classmethod
    def of_points(cls, positions: Tensor, parts: int, work: Any = None) -> Partition:
        """Boxes with equal work of points in space: the points are halved again and again along their longest extent.

        Args:
            positions: of the points.
            parts: number of parts.
            work: of each point, (N,); None for one and the same.

        Shape: positions (N, 3).
        """
        places = positions.detach().cpu().double().numpy()
        load = np.ones(len(places)) if work is None else _numbers(work, len(places))
        return cls(torch.from_numpy(_boxes(places, load, parts)), parts)

    @classmethod
    def of_graph(cls, edge_index: Tensor, num_points: int, parts: int) -> Partition:
        """Parts of a graph without positions, of equal work (edges and points): stretches of its reverse Cuthill-McKee order.

        Args:
            edge_index: edges source -> target.
            num_points: number of points.
            parts: number of parts.

        Shape: edge_index (2, E) int64.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import reverse_cuthill_mckee

        source, target = edge_index.detach().cpu().numpy()
        ones = np.ones(len(source), dtype=np.int8)
        graph = coo_array((ones, (target, source)), shape=(num_points, num_points)).tocsr()
        order = reverse_cuthill_mckee((graph + graph.T).tocsr(), symmetric_mode=True)
        load = 1.0 + np.bincount(target, minlength=num_points)
        owner = np.empty(num_points, dtype=np.int64)
        owner[order] = _stretches(load[order], parts)
        return cls(torch.from_numpy(owner), parts)

    def on(self, grid: Grid) -> Partition:
        """The partition of another grid of one sphere or surface: each point goes to the owner of the nearest point here, so that
        little moves between the two; on grids stored ring by ring, whole rings do.

        Where that leaves a part without points, as on the coarsest levels of a network, points are dealt out by :meth:`of`.

        Args:
            grid: another grid.
        """
        if self.grid is None:
            raise ValueError("grid is None for this partition; expected that of a grid")
        if grid == self.grid:
            return self
        found = self._on.get(grid)
        if found is None:
            found = self._on[grid] = self._nearest(grid)
        return found

    def _nearest(self, grid: Grid) -> Partition:
        from scipy.spatial import cKDTree

        assert self.grid is not None
        rings, points = grid.rings, grid.points.numpy()
        length = None
        if isinstance(grid, LatLon):
            points, length = points[:: grid.nlon], np.full(grid.nlat, grid.nlon)
        elif rings is not None:
            points, length = points[rings.start.numpy()], rings.length.numpy()
        _, nearest = cKDTree(self.grid.points.numpy()).query(points)
        owner = self.owner.numpy()[nearest]
        owner = owner if length is None else np.repeat(owner, length)
        if len(np.unique(owner)) < self.parts:
            return Partition.of(grid, self.parts)
        return Partition(torch.from_numpy(owner), self.parts, grid)


def _numbers(work: Any, count: int) -> np.ndarray:
    load = np.asarray(torch.as_tensor(work).detach().cpu().double())
    if load.shape != (count,) or not (load >= 0).all():
        raise ValueError(f"work has shape {load.shape}; expected ({count},), zero or more for each point")
    return load


def _stretches(load: np.ndarray, parts: int) -> np.ndarray:
    """Owner of each of some things in a row: stretches of about equal load, none of them empty."""
    count = len(load)
    if parts > count:
        raise ValueError(f"parts is {parts}; expected at most {count}, the points (or rings) to deal out")
    reached = np.concatenate([[0.0], np.cumsum(load)])
    goals = reached[-1] * np.arange(1, parts) / parts
    right = np.searchsorted(reached, goals).clip(1, count)
    nearer = goals - reached[right - 1] < reached[right] - goals
    cuts = right - nearer
    for k in range(len(cuts)):  # one thing at least for each, before and after
        cuts[k] = max(cuts[k], (cuts[k - 1] if k else 0) + 1)
        cuts[k] = min(cuts[k], count - (len(cuts) - k))
    return np.repeat(np.arange(parts), np.diff(np.concatenate([[0], cuts, [count]])))


def _boxes(points: np.ndarray, load: np.ndarray, parts: int) -> np.ndarray:
    """Owner of each point by recursive bisection across the longest extent."""
    if parts > len(points):
        raise ValueError(f"parts is {parts}; expected at most {len(points)}, the number of points")
    owner = np.zeros(len(points), dtype=np.int64)
    waiting = [(np.arange(len(points)), 0, parts)]
    while waiting:
        members, first, count = waiting.pop()
        if count == 1:
            owner[members] = first
            continue
        axis = np.ptp(points[members], axis=0).argmax()
        order = members[np.argsort(points[members, axis], kind="stable")]
        low = count // 2
        reached = np.cumsum(load[order])
        cut = int(np.searchsorted(reached, reached[-1] * low / count)) + 1
        cut = min(max(cut, low), len(order) - (count - low))
        waiting += [(order[:cut], first, low), (order[cut:], first + low, count - low)]
    return owner


def _is_ordered(grid: Grid) -> bool:
    """Whether points that follow one another are neighbours, as a rule: then stretches are compact."""
    points = grid.points
    near = (points[1:] - points[:-1]).norm(dim=1) < 2.5 * grid.spacing
    return float(near.double().mean()) > 0.5
