"""torch_cluster's neighbour searches under its names and arguments, with no compiled extension, in TorchScript as well.

``import spheregeo.compat.torch_cluster as torch_cluster`` serves code written for PyG. Differences: of more than
``max_num_neighbors`` the nearest are kept, edges are sorted by (target, distance), the radius is inclusive, and ``num_workers``
is not read (torch's number of threads counts). ``grid_cluster``, ``graclus_cluster`` and ``random_walk`` are not here.
"""

from typing import List  # noqa: UP035  # TorchScript reads these annotations

import torch
from torch import Tensor

import spheregeo.compat._operators  # noqa: F401  # defines what is called below

__all__ = ["fps", "knn", "knn_graph", "nearest", "radius", "radius_graph"]


def radius(
    x: Tensor,
    y: Tensor,
    r: float,
    batch_x: Tensor | None = None,
    batch_y: Tensor | None = None,
    max_num_neighbors: int = 32,
    num_workers: int = 1,
    batch_size: int | None = None,
    ignore_same_index: bool = False,
) -> Tensor:
    """For each element of y the points of x within r, (2, E): rows (index of y, index of x)."""
    return torch.ops.spheregeo_points.radius(x, y, r, batch_x, batch_y, max_num_neighbors, ignore_same_index)


def radius_graph(
    x: Tensor,
    r: float,
    batch: Tensor | None = None,
    loop: bool = False,
    max_num_neighbors: int = 32,
    flow: str = "source_to_target",
    num_workers: int = 1,
    batch_size: int | None = None,
) -> Tensor:
    """Edges between points of x within r."""
    assert flow in ["source_to_target", "target_to_source"]
    edges = torch.ops.spheregeo_points.radius(x, x, r, batch, batch, max_num_neighbors, not loop)
    return edges.flip(0) if flow == "source_to_target" else edges


def knn(
    x: Tensor,
    y: Tensor,
    k: int,
    batch_x: Tensor | None = None,
    batch_y: Tensor | None = None,
    cosine: bool = False,
    num_workers: int = 1,
    batch_size: int | None = None,
) -> Tensor:
    """For each element of y the k nearest points of x, (2, E): rows (index of y, index of x)."""
    return torch.ops.spheregeo_points.knn(x, y, k, batch_x, batch_y, cosine, False)


def knn_graph(
    x: Tensor,
    k: int,
    batch: Tensor | None = None,
    loop: bool = False,
    flow: str = "source_to_target",
    cosine: bool = False,
    num_workers: int = 1,
    batch_size: int | None = None,
) -> Tensor:
    """Edges between points of x and their k nearest."""
    assert flow in ["source_to_target", "target_to_source"]
    edges = torch.ops.spheregeo_points.knn(x, x, k, batch, batch, cosine, not loop)
    return edges.flip(0) if flow == "source_to_target" else edges


def nearest(x: Tensor, y: Tensor, batch_x: Tensor | None = None, batch_y: Tensor | None = None) -> Tensor:
    """The index of the nearest point of y for each of x."""
    return torch.ops.spheregeo_points.nearest(x, y, batch_x, batch_y)


def fps(
    src: Tensor,
    batch: Tensor | None = None,
    ratio: Tensor | float | None = None,
    random_start: bool = True,
    batch_size: int | None = None,
    ptr: Tensor | List[int] | None = None,  # noqa: UP006
) -> Tensor:
    """A well-spread share of the points, half of them if no ratio is given, from a random point or the first on."""
    if ratio is None:
        share = torch.tensor(0.5, dtype=torch.float64)
    elif isinstance(ratio, Tensor):
        share = ratio
    else:
        share = torch.tensor(float(ratio), dtype=torch.float64)
    if ptr is not None:
        bounds = ptr if isinstance(ptr, Tensor) else torch.tensor(ptr, dtype=torch.int64)
        bounds = bounds.to(src.device)
        batch = torch.repeat_interleave(bounds[1:] - bounds[:-1])
    return torch.ops.spheregeo_points.fps(src, batch, share, random_start)
