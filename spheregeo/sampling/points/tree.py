"""The search on CPUs: scipy's KD-tree for large graphs, all pairs for small ones."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from spheregeo.sampling.points.query import Query

PAIRS = 2**19  # pairs of a graph up to which looking at all is faster than a tree
ROWS = 2**17  # targets searched at once for their nearest
UNLIMITED = 2**62


def search(query: Query) -> tuple[Tensor, Tensor]:
    """Numbers of neighbours (T,) and their indices, target after target (E,)."""
    from spheregeo.sampling.points import _kernels  # imports numba

    arrays = _Arrays(query)
    size = np.diff(arrays.source_bounds)
    large = np.flatnonzero(size * np.diff(arrays.target_bounds) > PAIRS)
    axes = np.ascontiguousarray(arrays.sources.T)
    counts, found = [], []
    done = 0
    for graph in (*large.tolist(), len(size)):
        if done < graph:
            part = _kernels.all_pairs(
                *axes,
                arrays.targets,
                arrays.source_bounds,
                arrays.target_bounds,
                done,
                graph,
                arrays.own,
                arrays.tolerance,
                arrays.reach,
                arrays.limit,
                query.keep_own,
                query.all_ties,
                16 * int(arrays.target_bounds[graph] - arrays.target_bounds[done]),
            )
            counts.append(part[0])
            found.append(part[1])
        if graph < len(size):
            part = _by_tree(query, arrays, graph)
            counts.append(part[0])
            found.append(part[1])
        done = graph + 1
    return torch.from_numpy(_joined(counts)), torch.from_numpy(_joined(found))


class _Arrays:
    """A query's tensors as arrays."""

    def __init__(self, query: Query) -> None:
        self.sources = query.sources.contiguous().numpy()
        self.targets = self.sources if query.same else query.targets.contiguous().numpy()
        self.source_bounds = query.source_bounds.numpy()
        self.target_bounds = query.target_bounds.numpy()
        self.own = query.own.numpy()
        self.tolerance = query.tolerance.numpy()
        self.reach = query.reach.numpy()
        self.limit = UNLIMITED if query.limit is None else query.limit


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _by_tree(query: Query, arrays: _Arrays, graph: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts and sources of one graph."""
    begin, end = arrays.source_bounds[graph : graph + 2]
    rows = slice(*arrays.target_bounds[graph : graph + 2])
    sources, targets = arrays.sources[begin:end], arrays.targets[rows]
    own = np.where(arrays.own[rows] >= 0, arrays.own[rows] - begin, -1)
    tolerance, reach = float(arrays.tolerance[graph]), float(arrays.reach[graph])
    if query.limit is None or query.limit >= len(sources):
        counts, found = _within(sources, targets, own, tolerance, reach, query)
    else:
        counts, found = _nearest(sources, targets, own, tolerance, reach, query.limit, query)
    found += begin
    return counts, found


def _within(
    sources: np.ndarray, targets: np.ndarray, own: np.ndarray, tolerance: float, reach: float, query: Query
) -> tuple[np.ndarray, np.ndarray]:
    """All sources within reach."""
    from spheregeo.sampling.points import _kernels

    tree = cKDTree(sources)
    wide = reach * (1 + 1e-9)
    if query.same:
        pairs = tree.query_pairs(wide, output_type="ndarray")
        first, second = pairs[:, 0], pairs[:, 1]
    else:
        near = cKDTree(targets).sparse_distance_matrix(tree, wide, output_type="ndarray")
        first, second = near["i"], near["j"]
    return _kernels.group_pairs(
        first, second, sources, targets, own, tolerance, reach, query.keep_own, query.same
    )


def _nearest(
    sources: np.ndarray,
    targets: np.ndarray,
    own: np.ndarray,
    tolerance: float,
    reach: float,
    limit: int,
    query: Query,
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest sources: a few more are asked for than are wanted, and more again where ties leave the choice open."""
    from spheregeo.sampling.points import _kernels

    tree = cKDTree(sources)
    order = (
        tree.indices if query.same else cKDTree(targets).indices
    )  # near targets in turn: the tree stays in cache
    threads = torch.get_num_threads()
    pieces = []
    waiting = [order[at : at + ROWS] for at in range(0, len(order), ROWS)]
    width = min(limit + 2, len(sources))
    while waiting:
        again = []
        for rows in waiting:
            _, found = tree.query(
                targets[rows],
                k=width,
                distance_upper_bound=reach * (1 + 1e-9),
                workers=threads,
            )
            counts, values = _kernels.select_nearest(
                found,
                rows,
                sources,
                targets,
                own,
                tolerance,
                reach,
                limit,
                query.keep_own,
                query.all_ties,
                width == len(sources),
            )
            pieces.append((rows, counts, values))
            again.append(rows[counts < 0])
        left = np.concatenate(again)
        width = min(2 * width, len(sources))
        step = max(1, ROWS * limit // width)
        waiting = [left[at : at + step] for at in range(0, len(left), step)]
    counts = np.zeros(len(targets), np.int64)
    for rows, count, _ in pieces:
        settled = count >= 0
        counts[rows[settled]] = count[settled]
    bounds = np.concatenate([[0], np.cumsum(counts)])
    out = np.empty(bounds[-1], np.int64)
    for rows, count, values in pieces:
        _kernels.place_rows(bounds, rows, count, values, out)
    return counts, out
