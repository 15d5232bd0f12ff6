r"""Graphs on Lie groups and their quotients: nearest neighbors by a left-invariant distance, and the normalised Laplacian.

An edge joins two vertices if either is among the other's nearest ones; with m the mean of d² over all edges its weight is
exp(-d² / 0.8 m), and with D the sums of weights at each vertex the matrix of filters is

    L~ = -D^{-1/2} A D^{-1/2},   2 (1 - D^{-1/2} A D^{-1/2}) / lambda_max - 1 with lambda_max = 2, spectrum in [-1, 1].

The distance is d² = m² + (anisotropy o)² + (turn θ)² of the logarithm of g⁻¹h: m along the main axis, in which steps are cheap,
o along the other one, θ the angle. It depends on g⁻¹h alone, so that whatever moves the vertices to vertices permutes the graph.
Reference: Aguettaz, Bekkers & Defferrard 2021 (ChebLieNet), arXiv:2111.12139.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from spheregeo.grids.cache import geometry
from spheregeo.nn.chebyshev import nearest
from spheregeo.sparse import SparseMap

WIDTH = 0.8  # of the Gaussian weights, in mean squared lengths of edges
MAIN = ("along", "across")


@dataclass(frozen=True, eq=False)
class LieGraphEdges:
    """Weighted edges of a graph, both directions of each, as compressed rows.

    Args:
        indptr: (V + 1,) boundaries of the vertices' rows.
        indices: (E,) the other end of each edge.
        lengths: (E,) its distance.
        weights: (E,) its weight.

    Example:
        >>> from spheregeo.nn.plane import R2Graph
        >>> edges = R2Graph(5, 5, neighbors=4).edges()
        >>> len(edges.indptr) - 1, len(edges.indices) == len(edges.weights)
        (25, True)
    """

    indptr: np.ndarray
    indices: np.ndarray
    lengths: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, kw_only=True)
class LieGraph(ABC):
    """Base of graphs: a frozen value, compared by its arguments, whose edges are computed once.

    Args:
        neighbors: how many nearest vertices each vertex is joined to; ties are all taken.

    Example:
        >>> from spheregeo.nn.plane import SE2Graph
        >>> isinstance(SE2Graph(), LieGraph)
        True
    """

    neighbors: int = 16

    def __post_init__(self) -> None:
        if not isinstance(self.neighbors, int) or self.neighbors < 1:
            raise ValueError(f"neighbors is {self.neighbors!r}; expected a positive integer")

    @property
    @abstractmethod
    def orientations(self) -> int:
        """Vertices over each place: 1 where there are no orientations."""

    @property
    @abstractmethod
    def places(self) -> tuple[int, ...]:
        """Shape of the image, or of the grid."""

    @property
    def is_sized(self) -> bool:
        """Whether the graph knows the size of its image."""
        return True

    @property
    def num_vertices(self) -> int:
        """Orientations times places."""
        return self.orientations * math.prod(self.places)

    @abstractmethod
    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Left-invariant distances between vertices.

        Args:
            a: numbers of vertices; orientation times the number of places, plus the place.
            b: numbers of the other ones, which broadcast against them.
        """

    @abstractmethod
    def embedding(self) -> np.ndarray:
        """Points (V, d) no two of which are farther apart than the vertices."""

    @abstractmethod
    def coarsen(self) -> Self:
        """The graph with half as many places each way; orientations stay."""

    @abstractmethod
    def pooling(self) -> csr_array:
        """Means over the cells of the coarser graph, (V coarse, V): rows sum to 1."""

    @abstractmethod
    def unpooling(self) -> csr_array:
        """Interpolation from the coarser graph, (V, V coarse): rows sum to 1."""

    def edges(self) -> LieGraphEdges:
        """The edges, in the order of vertices."""
        return geometry.get(("lie graph", self), self._edges)

    def _edges(self) -> LieGraphEdges:
        n = self.num_vertices
        few = min(self.neighbors, n - 1)
        if not few:
            return LieGraphEdges(
                np.zeros(n + 1, np.int64), *(np.zeros(0, t) for t in (np.int64, float, float))
            )
        row, column, length, _ = nearest(self.embedding(), few, self.distance)
        # lengths plus 1, for a sparse matrix drops zeros; those of the two directions differ by rounding
        one_way = coo_array((1 + length, (row, column)), shape=(n, n)).tocsr()
        both = one_way.maximum(one_way.T).tocsr()
        both.sort_indices()
        length = both.data - 1
        square = length**2
        mean = square.mean()
        weight = np.exp(-square / (WIDTH * mean)) if mean > 0 else np.ones_like(square)
        return LieGraphEdges(both.indptr.astype(np.int64), both.indices.astype(np.int64), length, weight)

    def degrees(self) -> np.ndarray:
        """Sums (V,) of the weights of each vertex's edges; 1 for a lone vertex."""
        edges = self.edges()
        total = np.add.reduceat(np.append(edges.weights, 0.0), edges.indptr[:-1])
        return np.where(np.diff(edges.indptr) > 0, total, 1.0)

    def laplacian(self, dtype: torch.dtype = torch.float64) -> SparseMap:
        """L~ as a sparse map (V, V), symmetric, with spectrum in [-1, 1]; its buffer ``degree_root`` is D^{1/2}.

        Args:
            dtype: of the coefficients.
        """

        def build() -> SparseMap:
            edges, scale = self.edges(), 1 / np.sqrt(self.degrees())
            row = np.repeat(np.arange(self.num_vertices), np.diff(edges.indptr))
            values = -edges.weights * (scale[row] * scale[edges.indices])
            indptr, indices = torch.from_numpy(edges.indptr), torch.from_numpy(edges.indices)
            made = SparseMap(indptr, indices, torch.from_numpy(values), self.num_vertices)
            made.register_buffer("degree_root", torch.from_numpy(1 / scale), persistent=False)
            return made.to(dtype)

        return geometry.get(("lie graph laplacian", self, dtype), build).shared()

    def pooling_map(self, dtype: torch.dtype = torch.float64) -> SparseMap:
        """:meth:`pooling` as a sparse map.

        Args:
            dtype: of the coefficients.
        """
        key = ("lie graph pooling", self, dtype)
        return geometry.get(key, lambda: sparse_map(self.pooling()).to(dtype)).shared()

    def unpooling_map(self, dtype: torch.dtype = torch.float64) -> SparseMap:
        """:meth:`unpooling` as a sparse map.

        Args:
            dtype: of the coefficients.
        """
        key = ("lie graph unpooling", self, dtype)
        return geometry.get(key, lambda: sparse_map(self.unpooling()).to(dtype)).shared()


def sparse_map(matrix: csr_array) -> SparseMap:
    """A scipy matrix as a sparse map of one component.

    Args:
        matrix: the matrix.
    """
    matrix = csr_array(matrix)
    matrix.sum_duplicates()
    indptr, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    return SparseMap(
        torch.from_numpy(indptr), torch.from_numpy(indices), torch.from_numpy(matrix.data), matrix.shape[1]
    )


def check_metric(main: str, anisotropy: float, turn: float, orientations: int) -> None:
    """Check what directions cost.

    Args:
        main: name of the cheap direction.
        anisotropy: cost of a step in the other direction.
        turn: cost of a radian.
        orientations: how many there are.

    Raises: ValueError for what is no metric with that main axis.
    """
    if main not in MAIN:
        raise ValueError(f"main is {main!r}; expected 'along' or 'across', the direction of cheap steps")
    if not (math.isfinite(anisotropy) and anisotropy >= 1):
        raise ValueError(
            f"anisotropy is {anisotropy!r}; expected 1 or more, the cost of steps off the main axis"
        )
    if not (math.isfinite(turn) and turn > 0):
        raise ValueError(f"turn is {turn!r}; expected a positive length, the cost of a radian")
    if not isinstance(orientations, int) or orientations < 1:
        raise ValueError(f"orientations is {orientations!r}; expected a positive integer")


def weighted_norm(log: Tensor, main: int, other: int, anisotropy: float, turn: float) -> Tensor:
    """Lengths of logarithms (..., 3) whose last component is the angle.

    Args:
        log: the logarithms.
        main: component along the main axis.
        other: component along the other one.
        anisotropy: cost of the other one.
        turn: cost of a radian.
    """
    square = log[..., main] ** 2 + (anisotropy * log[..., other]) ** 2 + (turn * log[..., 2]) ** 2
    return square.sqrt()
