"""Features of few points brought to many: means of the nearest, weighted by inverse distance."""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.nn.statistics import working_dtype

CLOSE = 1e-8  # added to squared distances, of clouds of radius 1: a point that coincides with a coarse one takes its features


def interpolate_points(x: Tensor, coarse: Tensor, fine: Tensor, edge_index: Tensor) -> Tensor:
    """Features of fine points as means of those of near coarse points, with weights 1/(d² + 1e-8).

    Args:
        x: features of the coarse points.
        coarse: positions of the coarse points.
        fine: positions of the fine points.
        edge_index: pairs (coarse, fine), such as ``knn_between(coarse, fine, 3)`` gives them.

    Shape: x (N, C), coarse (N, 3), fine (P, 3), edge_index (2, E) -> (P, C); 0 for a point without pairs.
    Units: positions in radii of the cloud.
    Equivariance: invariant to motions and reflections of both sets of points; features are mixed as scalars, exact.
    Reference: Qi, Yi, Su & Guibas 2017, arXiv:1706.02413, section 3.4.

    Example:
        >>> coarse, fine = torch.tensor([[0.0, 0, 0], [1, 0, 0]]), torch.tensor([[0.5, 0, 0], [1, 0, 0]])
        >>> edges = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 1]])
        >>> interpolate_points(torch.tensor([[2.0], [4.0]]), coarse, fine, edges).round(decimals=3)
        tensor([[3.],
                [4.]])
    """
    source, target = edge_index
    wide = x.to(working_dtype(x))
    gap = (coarse.index_select(0, source) - fine.index_select(0, target)).to(wide.dtype).square().sum(1)
    weight = 1 / (gap + CLOSE)
    total = weight.new_zeros(len(fine)).index_add(0, target, weight).clamp_min(torch.finfo(weight.dtype).tiny)
    share = (weight / total.index_select(0, target))[:, None]
    found = wide.new_zeros(len(fine), x.shape[1]).index_add(0, target, share * wide.index_select(0, source))
    return found.to(x.dtype)
