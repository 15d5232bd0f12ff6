"""Graphs of near points: within a cutoff, or the k nearest."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.sampling.points.checks import (
    Metric,
    Ties,
    boundaries,
    check_batch,
    check_cutoff,
    check_metric,
    check_positions,
    check_spacing,
    check_ties,
)
from spheregeo.sampling.points.query import Query, extent, reach_of, tolerance_of


def radius_graph(
    positions: Tensor,
    cutoff: float,
    batch: Tensor | None = None,
    *,
    loop: bool = False,
    max_neighbors: int | None = None,
    ties: Ties = "index",
) -> Tensor:
    """Edges between points of the same graph at most ``cutoff`` apart, the cutoff included.

    ``max_neighbors`` keeps the nearest, by default those of lowest index among equally distant ones; with ``ties="all"``
    all that are as near as the last one kept, so that the choice does not depend on the order of the points; with
    ``ties="exact"`` distances are equal only if all digits are, and a rotation may change the choice. ``loop``
    adds an edge from each point to itself, which comes first and counts as a neighbour.

    Shape: positions (P, D), any D >= 1, float16 to float64; batch (P,) non-decreasing; returns edge_index (2, E) int64, rows
    (source, target), sorted by (target, distance, source), where distances that differ by rounding are equal (see
    :mod:`spheregeo.sampling.points.query`). Distances are computed in float64.
    Units: those of the positions. Not differentiable; E = 0 is allowed, as are empty graphs and coincident points.
    Raises: ValueError for a cutoff or max_neighbors that is not positive, NaN or infinite positions, an unsorted batch, a cutoff
    below the spacing of the positions' dtype at the largest coordinate (RuntimeWarning below eight spacings).
    """
    cutoff = check_cutoff(cutoff)
    limit = None if max_neighbors is None else check_count("max_neighbors", max_neighbors)
    return _within(positions, batch, cutoff, limit, loop, ties)


def knn_graph(
    positions: Tensor,
    k: int,
    batch: Tensor | None = None,
    *,
    loop: bool = False,
    ties: Ties = "index",
    strict: bool = False,
    metric: Metric = "euclidean",
) -> Tensor:
    """Edges from the k nearest points of the same graph to each point.

    A point of a graph with k points or fewer has all the others as neighbours, unless ``strict`` forbids it. Of equally
    distant points those of lowest index are taken; ``ties="all"`` takes every point as near as the k-th, then more than k;
    ``ties="exact"`` calls distances equal only if all digits are.
    With ``loop`` a point is its own first neighbour. ``metric="cosine"`` compares directions, by
    1 - cos of the angle between vectors.

    Shape: positions (P, D), any D >= 1, float16 to float64; batch (P,) non-decreasing; returns edge_index (2, E) int64, rows
    (source, target), sorted by (target, distance, source), where distances that differ by rounding are equal (see
    :mod:`spheregeo.sampling.points.query`). Distances are computed in float64.
    Raises: ValueError for k < 1, NaN or infinite positions, an unsorted batch, a zero vector with cosine distances; if strict,
    for a graph with too few points.
    """
    k = check_count("k", k)
    check_ties(ties)
    if strict:
        index = check_batch(batch, check_positions(positions, dimension=None))
        size = torch.bincount(index)
        few = size[index] < k + (not loop)
        if few.any():
            graph = int(index[few][0])
            raise ValueError(f"k is {k}; graph {graph} has {int(size[graph])} points, too few")
    return _within(positions, batch, math.inf, k, loop, ties, metric)


def radius_between(
    sources: Tensor,
    targets: Tensor,
    cutoff: float,
    source_batch: Tensor | None = None,
    target_batch: Tensor | None = None,
    *,
    max_neighbors: int | None = None,
    ties: Ties = "index",
) -> Tensor:
    """Edges from points of one set to points of another at most ``cutoff`` apart: :func:`radius_graph` for two sets.

    Shape: sources (S, D); targets (T, D); batches (S,) and (T,); returns (2, E) int64, rows (index of source, index of target).
    Raises: ValueError as :func:`radius_graph`.
    """
    cutoff = check_cutoff(cutoff)
    limit = None if max_neighbors is None else check_count("max_neighbors", max_neighbors)
    return _between(sources, targets, source_batch, target_batch, cutoff, limit, ties)


def knn_between(
    sources: Tensor,
    targets: Tensor,
    k: int,
    source_batch: Tensor | None = None,
    target_batch: Tensor | None = None,
    *,
    ties: Ties = "index",
    metric: Metric = "euclidean",
) -> Tensor:
    """Edges to each target from its k nearest sources of the same graph: :func:`knn_graph` for two sets.

    A graph of fewer sources gives all of them.

    Shape: sources (S, D); targets (T, D); batches (S,) and (T,); returns (2, E) int64, rows (index of source, index of target).
    Raises: ValueError as :func:`knn_graph`.
    """
    limit = check_count("k", k)
    return _between(sources, targets, source_batch, target_batch, math.inf, limit, ties, metric)


def _within(
    positions: Tensor,
    batch: Tensor | None,
    cutoff: float,
    limit: int | None,
    loop: bool,
    ties: str,
    metric: str = "euclidean",
) -> Tensor:
    all_ties = check_ties(ties)
    points = check_positions(positions, dimension=None)
    if cutoff < math.inf:
        check_spacing(points, positions.dtype, cutoff, "the cutoff")
    points = check_metric(metric, points)
    index = check_batch(batch, positions)
    count = int(index[-1]) + 1 if len(index) else 0
    bounds = boundaries(index, count)
    tolerance = tolerance_of(extent(points, index, count), positions.dtype)
    own = torch.arange(len(points), device=points.device)
    if ties == "exact":
        tolerance = torch.zeros_like(tolerance)
    reach = reach_of(cutoff, tolerance)
    return edges_of(Query(points, points, bounds, bounds, own, tolerance, reach, limit, loop, all_ties))


def _between(
    sources: Tensor,
    targets: Tensor,
    source_batch: Tensor | None,
    target_batch: Tensor | None,
    cutoff: float,
    limit: int | None,
    ties: str,
    metric: str = "euclidean",
) -> Tensor:
    all_ties = check_ties(ties)
    points = check_positions(sources, "sources", None)
    ends = check_positions(targets, "targets", points.shape[1])
    if cutoff < math.inf:
        check_spacing(points, sources.dtype, cutoff, "the cutoff", "sources")
        check_spacing(ends, targets.dtype, cutoff, "the cutoff", "targets")
    points, ends = check_metric(metric, points, "sources"), check_metric(metric, ends, "targets")
    if points.device != ends.device:
        raise ValueError(f"targets is on {ends.device}; expected {points.device}, where the sources are")
    indices = (
        check_batch(source_batch, sources, "source_batch"),
        check_batch(target_batch, targets, "target_batch"),
    )
    both = torch.cat(indices)
    count = int(both.max()) + 1 if len(both) else 0
    coarse = torch.float64 if sources.dtype == targets.dtype == torch.float64 else torch.float32
    tolerance = tolerance_of(extent(torch.cat([points, ends]), both, count), coarse)
    bounds = [boundaries(index, count) for index in indices]
    own = torch.full_like(indices[1], -1)
    if ties == "exact":
        tolerance = torch.zeros_like(tolerance)
    reach = reach_of(cutoff, tolerance)
    return edges_of(Query(points, ends, bounds[0], bounds[1], own, tolerance, reach, limit, False, all_ties))


def edges_of(query: Query) -> Tensor:
    """Run the search where the points are: edge_index (2, E)."""
    engine: Any
    missing = 3 - query.sources.shape[1]
    if missing > 0:  # points of a line or a plane are points of space
        sources = torch.nn.functional.pad(query.sources, (0, missing))
        targets = sources if query.same else torch.nn.functional.pad(query.targets, (0, missing))
        query = dataclasses.replace(query, sources=sources, targets=targets)
    if missing < 0:
        from spheregeo.sampling.points import blocks as engine
    elif query.sources.device.type == "cpu":
        from spheregeo.sampling.points import tree as engine
    else:
        from spheregeo.sampling.points import cells as engine
    counts, sources = engine.search(query)
    edges = sources.new_empty(2, len(sources))
    edges[0] = sources
    edges[1] = torch.repeat_interleave(counts, output_size=len(sources))
    return edges
