"""What layers on graphs share: sparse maps of the graph, one for each size of image where the graph has none of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spheregeo.checks import check_tensor
from spheregeo.nn.chebyshev import to_rows
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.plane.lie_graph.base import LieGraph
from spheregeo.nn.plane.lie_graph.images import R2Graph, SE2Graph
from spheregeo.sparse import SparseMap

SIZES = 8  # sizes of images whose maps a layer keeps at a time


class OnLieGraph(ExactBuffers):
    """Base of layers whose rule makes a sparse map of the graph.

    Args:
        graph: the graph; without a size of its own it takes that of each input, and its map is made when that size comes first.
    """

    def __init__(self, graph: LieGraph) -> None:
        super().__init__()
        if not isinstance(graph, LieGraph):
            raise ValueError(f"graph is {graph!r}; expected a graph such as SE2Graph(28, 28, 8)")
        self.graph = graph
        if graph.is_sized:
            self.keep("map")

    def _map(self, graph: LieGraph, dtype: torch.dtype) -> SparseMap:
        """The map of a graph."""
        raise NotImplementedError

    def _build(self, name: str, dtype: torch.dtype) -> SparseMap:
        return self._map(self._sized(tuple(int(n) for n in name.split("_")[1:])), dtype)

    def _sized(self, places: tuple[int, ...]) -> LieGraph:
        graph = self.graph
        return graph if graph.is_sized or not isinstance(graph, (SE2Graph, R2Graph)) else graph.at(*places)

    def map_of(self, places: tuple[int, ...], like: Tensor) -> SparseMap:
        """The sparse map for inputs of a shape.

        Args:
            places: shape of the image or grid.
            like: tensor on the device where the map is wanted.
        """
        if self.graph.is_sized:
            found: SparseMap = self.map  # type: ignore[assignment]
            return found
        name = "_".join(["map", *map(str, places)])
        if name not in self._modules:
            kept = [key for key in self._modules if key.startswith("map_")]
            if len(kept) >= SIZES:
                del self._modules[kept[0]], vars(self)["_sources"][kept[0]]
            self.keep(name)
            double = like.dtype == torch.float64
            made: SparseMap = self._take_exact(name, torch.float64 if double else torch.float32)
            self._modules[name] = made.to(like.device)
        found = self._modules[name]  # type: ignore[assignment]
        return found

    def _check(self, x: Tensor, channels: int | None, graph: LieGraph | None = None) -> tuple[int, ...]:
        """The shape of the places of x (B, channels * n, *places); any number of fields for None."""
        check_tensor(x)
        graph = self.graph if graph is None else graph
        axes, n = len(graph.places) if graph.is_sized else 2, graph.orientations
        right = x.ndim == 2 + axes and (
            x.shape[1] % n == 0 if channels is None else x.shape[1] == channels * n
        )
        if not right or (graph.is_sized and tuple(x.shape[2:]) != graph.places):
            shape = graph.places if graph.is_sized else ("H", "W")
            count = f"fields * {n}" if channels is None else channels * n
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, {count}, {', '.join(map(str, shape))}), fields of {n} "
                f"orientations on {graph!r}"
            )
        return tuple(x.shape[2:])


def flat_to_rows(x: Tensor, orientations: int) -> Tensor:
    """Fields (B, C n, *places) as rows (n places, B, C), orientation by orientation.

    Args:
        x: the fields.
        orientations: n.
    """
    fields = x.shape[1] // orientations
    return to_rows(x.reshape(len(x), fields, orientations * math.prod(x.shape[2:])))


def rows_to_flat(rows: Tensor, orientations: int, places: tuple[int, ...]) -> Tensor:
    """Rows (n places, B, C) as fields (B, C n, *places).

    Args:
        rows: the rows.
        orientations: n.
        places: shape of the image or grid.
    """
    count, batch, channels = rows.shape
    flat = rows.permute(1, 2, 0).reshape(batch, channels * orientations, count // orientations)
    return flat.unflatten(2, places)
