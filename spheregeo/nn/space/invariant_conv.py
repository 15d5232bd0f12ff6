r"""Sparse invariant convolution: weights of a neighbour from eight numbers that no rotation about the origin changes.

    A_i = 1/k Σ_j h(g_ij) f_jᵀ,   y_i = LayerNorm(W vec A_i)

with g_ij the invariants of target x_i, neighbour x_j and the neighbours' mean m_i, and h a perceptron of few outputs. The sum of
outer products is one contraction of the sparse backend, so that no weight matrix of an edge is ever formed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spheregeo.checks import check_least, check_tensor
from spheregeo.nn.space.geometry import EdgeList
from spheregeo.nn.statistics import working_dtype
from spheregeo.sparse import segment_outer

COUNT = 8
EPS = 1e-7  # of the original, in the denominators of cosines


def _length(v: Tensor) -> Tensor:
    """Lengths of vectors, with gradient 0 where they vanish. Shape: (..., 3) -> (...)."""
    square = v.square().sum(-1)
    apart = square > 0
    return torch.where(apart, torch.where(apart, square, 1).sqrt(), 0)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """The angle between vectors in units of π, exact near 0 and π; 0 where one of them vanishes. Shape: (..., 3) -> (...)."""
    across, along = _length(torch.linalg.cross(a, b, dim=-1)), (a * b).sum(-1)
    nothing = (across == 0) & (along == 0)
    return torch.atan2(across, torch.where(nothing, 1.0, along)) / math.pi


def _cosine(a: Tensor, b: Tensor, lengths: tuple[Tensor, Tensor]) -> Tensor:
    """Cosines of angles; 0 with gradient 0 where a vector vanishes, as those of a point that is its own neighbour."""
    product = lengths[0] * lengths[1]
    return torch.where(product > 0, (a * b).sum(-1) / (torch.where(product > 0, product, 1) + EPS), 0)


def edge_invariants(sources: Tensor, targets: Tensor, edge_index: Tensor) -> Tensor:
    """Eight invariants of each edge: the angle between x_i and x_j over π, |x_j|, the three sides of the triangle of x_i, x_j and
    the mean m of the target's neighbours, and the cosines between its sides.

    Args:
        sources: positions of the neighbours about the cloud's centre.
        targets: positions of the targets about the centre.
        edge_index: pairs (source, target).

    Shape: (S, 3), (T, 3), (2, E) -> (E, 8).
    Units: of the positions; clouds of radius 1.
    Equivariance: invariant to O(3) about the origin, 1e-15; not to translations: centre the cloud. Mirror images are alike.
    Reference: You et al. 2021, arXiv:2102.12093, section 3.2.

    Example:
        >>> places = torch.randn(5, 3)
        >>> edge_invariants(places, places[:2], torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])).shape
        torch.Size([4, 8])
    """
    source, target = edge_index
    near = sources.index_select(0, source)
    total = torch.zeros_like(targets).index_add(0, target, near)
    size = targets.new_zeros(len(targets)).index_add(0, target, targets.new_ones(len(target))).clamp_min(1)
    middle = (total / size[:, None]).index_select(0, target)
    own = targets.index_select(0, target)
    sides = (middle - near, near - own, own - middle)
    lengths = [_length(side) for side in sides]
    cosines = [_cosine(sides[a], sides[b], (lengths[a], lengths[b])) for a, b in ((0, 1), (1, 2), (2, 0))]
    return torch.stack([_angle(own, near), _length(near), *lengths, *cosines], 1)


class SparseInvariantConv(nn.Module):
    """Convolution over neighbours whose weights depend on invariants of each edge.

    Args:
        in_channels: features of the neighbours.
        out_channels: features of the targets.
        rank: numbers that the perceptron of an edge's invariants gives.
        hidden: width of that perceptron.
        engine: name of an engine, see :func:`spheregeo.sparse.engines`; None for the first that runs.

    Shape: x (N_s, in_channels), positions (N, 3) or a pair of sources' and targets', edge_index (2, E) or a list of edges,
        invariants (E, 8) in the order of that list, or None -> (N_t, out_channels).
    Equivariance: invariant to motions and reflections, 1e-15 (float64): positions are taken about the mean of the sources. Of
        several clouds at once give ``invariants``, as :func:`edge_invariants` makes them of clouds that are centred each.
        Mirror images are alike.
    Raises: ValueError for sizes below 1, other shapes, invariants beside an edge_index whose order may change.
    Reference: You, Lou, Shi, Liu, Tai, Ma, Wang & Lu 2021, arXiv:2102.12093, section 3.

    Example:
        >>> conv, places = SparseInvariantConv(3, 4), torch.randn(6, 3)
        >>> conv(torch.randn(6, 3), places, torch.tensor([[0, 1, 2], [1, 0, 1]])).shape
        torch.Size([6, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        rank: int = 8,
        hidden: int = 16,
        engine: str | None = None,
    ) -> None:
        super().__init__()
        check_least(
            in_channels=(in_channels, 1), out_channels=(out_channels, 1), rank=(rank, 1), hidden=(hidden, 1)
        )
        self.in_channels, self.rank, self.engine = in_channels, rank, engine
        self.weights = nn.Sequential(nn.Linear(COUNT, hidden), nn.SiLU(), nn.Linear(hidden, rank))
        self.mix = nn.Linear(rank * in_channels, out_channels)
        self.norm = nn.LayerNorm(out_channels)

    def forward(
        self,
        x: Tensor,
        positions: Tensor | tuple[Tensor, Tensor],
        edge_index: Tensor | EdgeList,
        invariants: Tensor | None = None,
    ) -> Tensor:
        check_tensor(x)
        sources, targets = positions if isinstance(positions, tuple) else (positions, positions)
        if x.ndim != 2 or x.shape != (len(sources), self.in_channels):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected ({len(sources)}, {self.in_channels}), a row for each source"
            )
        if isinstance(edge_index, Tensor):
            if invariants is not None:
                raise ValueError(
                    "invariants are given beside an edge_index, whose edges may be put in order; expected an EdgeList"
                )
            edge_index = EdgeList.of(edge_index, len(sources), len(targets))
        pairs = edge_index.pairs
        if invariants is None:
            centre = sources.mean(0) if len(sources) else sources.new_zeros(3)
            invariants = edge_invariants(sources - centre, targets - centre, edge_index.edge_index)
        if invariants.shape != (len(pairs.sources), COUNT):
            raise ValueError(
                f"invariants have shape {tuple(invariants.shape)}; expected ({len(pairs.sources)}, {COUNT})"
            )
        first, second = self.weights[0], self.weights[2]
        h = linear(functional.silu(linear(invariants.to(x.dtype), first)), second)
        wide = working_dtype(x)  # sums over neighbours
        near = x.to(wide).index_select(0, pairs.sources)
        size = pairs.indptr.diff().clamp_min(1).to(wide)
        products = (
            segment_outer(h.to(wide), near, pairs.indptr, engine=self.engine).flatten(1) / size[:, None]
        )
        y = linear(products.to(x.dtype), self.mix)
        normed = functional.layer_norm(
            y.to(wide),
            self.norm.normalized_shape,
            self.norm.weight.to(wide),
            self.norm.bias.to(wide),
            self.norm.eps,
        )
        return normed.to(x.dtype)


def linear(x: Tensor, layer: Any) -> Tensor:
    """A linear layer in the type of its input."""
    return functional.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
