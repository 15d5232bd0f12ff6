"""Edges of a triangle mesh: each undirected edge once, how many faces share it, and what is connected to what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True, eq=False)
class Edges:
    """Undirected edges of faces (F, 3), sorted by their lower, then their higher vertex.

    Side s of face f runs from its corner s to its corner s + 1; half-edge h = 3 f + s.

    Shape: vertices (E, 2) int64, lower vertex first; faces (E,) how many faces share each edge; forward (E,) how many of them
    run along it from the lower to the higher vertex; of_side (F, 3) the edge of each side.
    """

    vertices: np.ndarray
    faces: np.ndarray
    forward: np.ndarray
    of_side: np.ndarray

    @property
    def border(self) -> np.ndarray:
        """Edges of one face alone. Shape: (E,) bool."""
        return self.faces == 1

    @property
    def nonmanifold(self) -> np.ndarray:
        """Edges that three or more faces share. Shape: (E,) bool."""
        return self.faces > 2

    @property
    def misoriented(self) -> np.ndarray:
        """Edges of two faces that run along it in the same direction. Shape: (E,) bool."""
        return (self.faces == 2) & (self.forward != 1)


def edges_of(faces: np.ndarray, num_vertices: int) -> Edges:
    """The undirected edges of faces (F, 3) int64."""
    start, stop = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)  # (3F,)
    key = np.minimum(start, stop) * num_vertices + np.maximum(start, stop)
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    first = np.ones(len(key), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    begin = np.flatnonzero(first)  # (E,)
    count = np.diff(np.append(begin, len(key)))
    forward = np.add.reduceat((start < stop)[order].astype(np.int64), begin) if len(key) else count
    of_side = np.empty(len(key), dtype=np.int64)
    of_side[order] = np.cumsum(first) - 1
    unique = ordered[begin]
    vertices = np.stack([unique // num_vertices, unique % num_vertices], axis=1)
    return Edges(vertices, count, forward, of_side.reshape(-1, 3))


def adjacency(edges: np.ndarray, num_vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """(indptr, indices) of each vertex's neighbours in the order of their index, from undirected edges (E, 2)."""
    both = np.concatenate([edges, edges[:, ::-1]])
    graph = coo_array((np.ones(len(both), dtype=bool), both.T), shape=(num_vertices, num_vertices)).tocsr()
    graph.sort_indices()
    return graph.indptr.astype(np.int64), graph.indices.astype(np.int64)


def components(edges: np.ndarray, num_vertices: int) -> tuple[int, np.ndarray]:
    """Number of connected parts and the part of each vertex, numbered by their first vertex."""
    ones = np.ones(len(edges), dtype=bool)
    graph = coo_array((ones, edges.T), shape=(num_vertices, num_vertices))
    count, label = connected_components(graph, directed=False)
    return int(count), label.astype(np.int64)
