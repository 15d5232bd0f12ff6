"""Neighbours of points in space beside scipy's KD-tree: its bare query, and its results packed as edges the usual way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from cases.configuration import PointConfiguration
from measure import Work
from spheregeo.sampling import knn_graph, radius_graph

NEIGHBORS = 16
Search = Callable[[Tensor, Tensor, float], Tensor]


class Task(Work):
    """A search has no gradient: forward and backward is one search."""

    def both(self) -> None:
        self.forward()


def work(search: Search, size: int, batch: int) -> Callable[[], Work]:
    """A builder of a search among ``batch`` clouds of ``size`` points in the unit cube, about 16 neighbours each."""

    def build() -> Work:
        torch.manual_seed(0)
        x = torch.rand(size * batch, 3)
        cutoff = (NEIGHBORS / (size * 4 / 3 * torch.pi)) ** (1 / 3)
        return Task(lambda: search(x, torch.arange(batch).repeat_interleave(size), cutoff), (x,))

    return build


def each(x: Tensor, batch: Tensor, call: Callable[[np.ndarray], np.ndarray]) -> list[tuple[int, np.ndarray]]:
    """Call once a cloud; returns the number of points before it and the answer."""
    parts = x.double().split(torch.bincount(batch).tolist())
    starts = np.cumsum([0, *map(len, parts)])
    return [(int(start), call(part.numpy())) for start, part in zip(starts, parts)]


def nearest(x: Tensor, batch: Tensor, cutoff: float) -> Tensor:
    return knn_graph(x, NEIGHBORS, batch)


def scipy_query(x: Tensor, batch: Tensor, cutoff: float) -> Tensor:
    threads = torch.get_num_threads()
    found = each(x, batch, lambda p: cKDTree(p).query(p, k=NEIGHBORS + 1, workers=threads)[1])
    return torch.from_numpy(found[-1][1])


def scipy_nearest(x: Tensor, batch: Tensor, cutoff: float) -> Tensor:
    threads = torch.get_num_threads()
    edges = []
    for start, found in each(
        x, batch, lambda p: cKDTree(p).query(p, k=NEIGHBORS + 1, workers=threads)[1][:, 1:]
    ):
        target = np.repeat(np.arange(len(found)), NEIGHBORS)
        edges.append(np.stack([found.ravel(), target]) + start)
    return torch.from_numpy(np.concatenate(edges, 1))


def within(x: Tensor, batch: Tensor, cutoff: float) -> Tensor:
    return radius_graph(x, cutoff, batch)


def scipy_pairs(x: Tensor, batch: Tensor, cutoff: float) -> Tensor:
    return torch.from_numpy(
        each(x, batch, lambda p: cKDTree(p).query_pairs(cutoff, output_type="ndarray"))[-1][1]
    )


def scipy_within(x: Tensor, batch: Tensor, cutoff: float) -> Tensor:
    """Both directions of each pair, sorted by target, as the edges of a graph usually are; not by distance."""
    edges = []
    for start, pairs in each(x, batch, lambda p: cKDTree(p).query_pairs(cutoff, output_type="ndarray")):
        both = np.concatenate([pairs, pairs[:, ::-1]])
        edges.append(both[np.argsort(both[:, 1], kind="stable")].T + start)
    return torch.from_numpy(np.concatenate(edges, 1))


def agree(works: dict[str, Work]) -> None:
    """Raise unless ours are the edges of the packed peer, but for distances equal to rounding."""
    ours, theirs = (works[name].forward() for name in ("spheregeo", "scipy, packed"))
    ours, theirs = (edges[0] + 2**31 * edges[1] for edges in (ours, theirs))
    assert abs(len(ours) - len(theirs)) <= 1e-3 * len(theirs)
    assert torch.isin(theirs, ours).float().mean() > 0.999


def configuration(what: str, size: int, batch: int, small: PointConfiguration | None) -> PointConfiguration:
    ours, bare, packed = {
        "16 nearest": (nearest, scipy_query, scipy_nearest),
        "radius, 16 on average": (within, scipy_pairs, scipy_within),
    }[what]
    builders = {
        "spheregeo": work(ours, size, batch),
        "scipy, packed": work(packed, size, batch),
        "scipy, bare": work(bare, size, batch),
    }
    points = f"{size} points" if batch == 1 else f"{batch} clouds of {size} points"
    check = agree if size < 100_000 else None
    return PointConfiguration("point_neighbors", points, what, size * batch, 1, builders, small, check)


def cases() -> list[PointConfiguration]:
    return [
        configuration(what, size, batch, configuration(what, 200, 2, None))
        for what in ("16 nearest", "radius, 16 on average")
        for size, batch in ((20, 128), (1024, 32), (10_000, 1), (1_000_000, 1))
    ]
