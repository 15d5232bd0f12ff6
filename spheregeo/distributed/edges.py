"""Graphs in space whose points are split over processes: the edges of this process's targets, and the features that they read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.distributed.collectives import Group, group_rank
from spheregeo.distributed.halo import Halo
from spheregeo.distributed.partition import Partition
from spheregeo.nn import EdgeGeometry, EdgeList
from spheregeo.nn.irreps.stacks import Features, Stacks


class PartEdges(nn.Module):
    """The edges of a graph whose targets this process owns, and the exchange of what their sources hold.

    All processes of the group make theirs together. Targets are this process's points, sources these and the halo.

    Args:
        edge_index: all edges source -> target, or those of this process's targets, by the numbers of the points in the whole.
        partition: owners of the points, as :meth:`Partition.of_points` or :meth:`Partition.of_graph` make it.
        group: the processes; None for all.
        shift: added to the sources' positions, in the order of ``edge_index``: lattice vectors of periodic systems.

    Shape: edge_index (2, E) int64, shift (E, 3); ``edges(x)``: features of n own points -> those of n points and the halo.

    Example:
        >>> import torch
        >>> from spheregeo.distributed import PartEdges, Partition
        >>> from spheregeo.nn import SteerableConv
        >>> positions, edge_index = torch.randn(3, 3), torch.tensor([[0, 1, 2], [1, 0, 1]])
        >>> edges = PartEdges(edge_index, Partition.of_points(positions, 1))  # of one process
        >>> conv = SteerableConv("2x0e", "2x0e + 1x1o", lmax=1)
        >>> conv(edges(torch.randn(3, 2)), edges.geometry(positions)).shape
        torch.Size([3, 5])
    """

    kept: Tensor
    edge_index: Tensor
    shift: Tensor | None

    def __init__(
        self, edge_index: Tensor, partition: Partition, group: Group = None, shift: Tensor | None = None
    ) -> None:
        super().__init__()
        rank = group_rank(group)
        source, target = edge_index.cpu()
        kept = (partition.owner[target] == rank).nonzero()[:, 0]
        kept = kept[target[kept].argsort(stable=True)]  # as layers want them, sorted by target
        self.halo = Halo(partition, torch.unique(source[kept]), group)
        place = torch.full((len(partition.owner),), -1)
        place[self.halo.points] = torch.arange(len(self.halo.points))
        own = torch.searchsorted(partition.points_of(rank), target[kept])
        self.register_buffer("kept", kept, persistent=False)
        self.register_buffer("edge_index", torch.stack([place[source[kept]], own]), persistent=False)
        self.register_buffer("shift", None if shift is None else shift[kept], persistent=False)
        self._list: EdgeList | None = None

    def _apply(self, fn: Any, recurse: bool = True) -> PartEdges:
        self._list = None
        return super()._apply(fn, recurse)

    def forward(self, x: Features) -> Features:
        """Features of this process's points and, in one exchange, of the halo. Shape: (n, F), or stacks of n points."""
        if isinstance(x, Tensor):
            return self.halo(x, 0)  # type: ignore[no-any-return]
        sizes = [part[0].numel() for part in x.parts]
        joined = self.halo(torch.cat([part.flatten(1) for part in x.parts], 1), 0)
        parts = [
            rows.reshape(-1, *part.shape[1:])
            for rows, part in zip(joined.split(sizes, 1), x.parts, strict=True)
        ]
        return Stacks.of(parts, x.terms)

    def geometry(self, positions: Tensor) -> EdgeGeometry:
        """Geometry of these edges, for all layers of a network: sources are this process's points and the halo, targets its own.

        Gradients flow to the positions of all processes.

        Args:
            positions: of this process's points.

        Shape: positions (n, 3).
        """
        if self._list is None:
            counts = self.halo.num_own + self.halo.num_halo, self.halo.num_own
            self._list = EdgeList.of(self.edge_index, *counts, self.shift, positions=positions)
        return EdgeGeometry.of((self.halo(positions, 0), positions), self._list)

    def of(self, edge_features: Tensor) -> Tensor:
        """This process's part of what is given for all edges, in the order of its geometry. Shape: (E, ...) -> (e, ...)."""
        return edge_features.index_select(0, self.kept.to(edge_features.device))

    def extra_repr(self) -> str:
        return f"{self.edge_index.shape[1]} edges"
