"""The searches as operators, which TorchScript can call."""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.sampling.points import farthest_points, knn_between, knn_graph, radius_between, radius_graph

_library = torch.library.Library("spheregeo_points", "DEF")


def _points(x: Tensor) -> Tensor:
    return x.view(-1, 1) if x.ndim == 1 else x


def _turned(edges: Tensor) -> Tensor:
    """Rows (target, source)."""
    return edges.flip(0)


# Functions that TorchScript calls are given each argument anew: one tensor as x and y is told by its memory.
def _same(x: Tensor, y: Tensor) -> bool:
    return x is y or (x.shape == y.shape and x.stride() == y.stride() and x.data_ptr() == y.data_ptr())


def _radius(
    x: Tensor, y: Tensor, r: float, batch_x: Tensor | None, batch_y: Tensor | None, most: int, ignore: bool
) -> Tensor:
    if ignore and not _same(x, y):
        edges = _turned(
            radius_between(_points(x), _points(y), r, batch_x, batch_y, max_neighbors=most + 1, ties="exact")
        )
        edges = edges[:, edges[0] != edges[1]]
        place = torch.arange(edges.shape[1], device=edges.device)
        first = torch.searchsorted(edges[0].contiguous(), edges[0].contiguous())
        return edges[:, place - first < most]
    if ignore:
        return _turned(radius_graph(_points(x), r, batch_x, max_neighbors=most, ties="exact"))
    return _turned(
        radius_between(_points(x), _points(y), r, batch_x, batch_y, max_neighbors=most, ties="exact")
    )


def _knn(
    x: Tensor, y: Tensor, k: int, batch_x: Tensor | None, batch_y: Tensor | None, cosine: bool, ignore: bool
) -> Tensor:
    metric = "cosine" if cosine else "euclidean"
    if ignore:
        return _turned(knn_graph(_points(x), k, batch_x, metric=metric, ties="exact"))  # type: ignore[arg-type]
    return _turned(knn_between(_points(x), _points(y), k, batch_x, batch_y, metric=metric, ties="exact"))  # type: ignore[arg-type]


def _nearest(x: Tensor, y: Tensor, batch_x: Tensor | None, batch_y: Tensor | None) -> Tensor:
    source = knn_between(_points(y), _points(x), 1, batch_y, batch_x, ties="exact")[0]
    if len(source) < len(x):
        raise ValueError("batch_x names graphs that batch_y does not; expected a point of y in each graph")
    return source


def _fps(x: Tensor, batch: Tensor | None, ratio: Tensor, random_start: bool) -> Tensor:
    if random_start:
        return farthest_points(_points(x), ratio, batch, random_start=True)
    index = torch.zeros(len(x), dtype=torch.int64, device=x.device) if batch is None else batch.long()
    count = int(index[-1]) + 1 if len(index) else 0
    start = torch.searchsorted(index, torch.arange(count, device=x.device))
    return farthest_points(_points(x), ratio, batch, start=start)


for _schema, _function in {
    "radius(Tensor x, Tensor y, float r, Tensor? batch_x, Tensor? batch_y, int most, bool ignore) -> Tensor": _radius,
    "knn(Tensor x, Tensor y, int k, Tensor? batch_x, Tensor? batch_y, bool cosine, bool ignore) -> Tensor": _knn,
    "nearest(Tensor x, Tensor y, Tensor? batch_x, Tensor? batch_y) -> Tensor": _nearest,
    "fps(Tensor x, Tensor? batch, Tensor ratio, bool random_start) -> Tensor": _fps,
}.items():
    _library.define(_schema)
    _library.impl(_schema.partition("(")[0], _function, "CompositeExplicitAutograd")
