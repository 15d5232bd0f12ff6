"""SPRIN: sparse invariant convolutions down a hierarchy of farthest points, point features rotation-invariant by construction.

Reference: You, Lou, Shi, Liu, Tai, Ma, Wang & Lu 2021, arXiv:2102.12093.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from spheregeo.checks import check_least, check_positions
from spheregeo.models.registry import register
from spheregeo.models.space.cloud import InputVectors
from spheregeo.models.space.point_outputs import OUTPUTS, CloudOutputs, Encoded, PointHead, group_max
from spheregeo.nn import SampleDropout
from spheregeo.nn.space import (
    EdgeList,
    SparseInvariantConv,
    StatisticsNorm,
    VectorMeanPool,
    edge_invariants,
    interpolate_points,
)
from spheregeo.sampling import farthest_points, knn_between
from spheregeo.sparse import Pairs


class SparseLevels(NamedTuple):
    """Levels of farthest points of a batch of clouds, the first of all points. A pytree of tensors.

    Shape: for each level, rows (N_i,) among all points, edge_index (2, E_i) from the points of the level before to its own (of
        the first level among themselves), and where features go up edge_index (2, E'_i) from its points to those of the level
        before.
    """

    rows: tuple[Tensor, ...]
    edges: tuple[Tensor, ...]
    back: tuple[Tensor, ...]


def dilated(edge_index: Tensor, k: int, stride: int) -> Tensor:
    """Every ``stride``-th of each target's neighbours, the nearest first; all of a target that has no more than k.

    Shape: (2, E), sorted by (target, distance) -> (2, E').
    """
    target = edge_index[1]
    size = torch.bincount(target)
    place = torch.arange(len(target), device=target.device) - (size.cumsum(0) - size).index_select(0, target)
    kept = (place % stride == 0) | (size.index_select(0, target) <= k)
    return edge_index[:, kept]


class InvariantStage(nn.Module):
    """Sparse invariant convolution, batch norm and SiLU, then what the largest values over the cloud tell each point, mixed in.

    Shape: x (N_s, in_channels), invariants (E, 8), edges, positions of both ends, cloud of each target -> (N_t, width).
    Equivariance: invariant where the invariants are.
    """

    def __init__(self, in_channels: int, width: int, rank: int, hidden: int) -> None:
        super().__init__()
        self.conv = SparseInvariantConv(in_channels, width, rank=rank, hidden=hidden)
        self.norm = StatisticsNorm(width)
        self.whole = nn.Linear(width, width)
        self.mix = nn.Sequential(nn.Linear(2 * width, width), nn.LayerNorm(width), nn.SiLU())

    def forward(
        self,
        x: Tensor,
        ends: tuple[Tensor, Tensor],
        edges: EdgeList,
        invariants: Tensor,
        near: Tensor,
        count: int,
    ) -> Tensor:
        y = functional.silu(self.norm(self.conv(x, ends, edges, invariants)))
        whole = group_max(self.whole(y), near, count)
        result: Tensor = y + self.mix(torch.cat([y, whole.index_select(0, near)], 1))
        return result


class SPRIN(CloudOutputs):
    """Network of clouds by sparse invariant convolutions, on all points and on levels of farthest points.

    The cloud is centred on its mean. Farthest points begin with the one farthest from the mean, and of the sorted neighbours
    every ``stride``-th is taken, so that nothing is drawn at random. Numbers to begin with: for each of the vectors (positions,
    positions times scalar features, vector features) its inner products with the position and with the way to the mean of the
    neighbours, and the scalar features.

    Args:
        in_channels: features of each point, 0 for none.
        out_channels: numbers for each cloud, or each point.
        width: features on the first level, times ``growth`` from level to level.
        counts: points of each further level.
        k: neighbours of a point.
        stride: every so many-th of the sorted neighbours is taken.
        rank: numbers that an edge's invariants give, each of which weighs all features.
        hidden: width of the perceptrons of invariants.
        growth: see width.
        dropout: of the head.
        feature_irreps: what the features are, such as "1x1o" for normals; scalars if empty.
        output: "label" for numbers of each cloud, "field" for numbers of each point.
        k_back: coarse points from which features go up to a finer point, where ``output`` is "field".

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,), graph as ``neighbors`` gives it;
        returns (B, out_channels), or (P, out_channels).
    Units: clouds of radius 1; the output is not invariant to scale.
    Equivariance: invariant to motions, reflections (mirror images are alike) and, ties of distances apart, permutations: 1e-12
        relative in float64, random parameters and biases. Two evaluations are identical.
    Raises: ValueError for options out of range, features that do not fit.
    Reference: You et al. 2021, arXiv:2102.12093; SiLU throughout, and batch norm after each convolution.

    Example:
        >>> network = SPRIN(0, 5, width=8, counts=(8, 4), k=4)
        >>> positions, batch = torch.randn(40, 3), torch.arange(2).repeat_interleave(20)
        >>> network(positions, None, batch, network.neighbors(positions, batch), 2).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 32,
        counts: Sequence[int] = (256, 64, 16),
        k: int = 16,
        stride: int = 2,
        rank: int = 12,
        hidden: int = 32,
        growth: float = 1.5,
        dropout: float = 0.3,
        feature_irreps: str = "",
        output: str = "label",
        k_back: int = 3,
    ) -> None:
        super().__init__(output)
        check_least(
            out_channels=(out_channels, 1), width=(width, 1), k=(k, 1), stride=(stride, 1), k_back=(k_back, 1)
        )
        if not counts or min(counts) < 1:
            raise ValueError(f"counts is {counts}; expected the number of points of one level at least")
        self.inputs = InputVectors(in_channels, feature_irreps or None)
        self.scalars = [
            c for start, stop, degree in self.inputs.blocks if degree == 0 for c in range(start, stop)
        ]
        self.counts, self.k, self.stride, self.k_back = tuple(counts), k, stride, k_back
        self.mean = VectorMeanPool()
        first = 1 + 2 * self.inputs.num_vectors + len(self.scalars)
        widths = [width, *(round(width * growth**level) for level in range(len(counts)))]
        self.stages, self.ups = nn.ModuleList(), nn.ModuleList()
        for before, after in zip([first, *widths], widths, strict=False):
            self.stages.append(InvariantStage(before, after, rank, hidden))
        whole = 2 * widths[-1]
        if output == "field":
            for fine, coarse in pairwise(widths):
                self.ups.append(
                    nn.Sequential(
                        nn.Linear(fine + coarse, fine),
                        nn.LayerNorm(fine),
                        nn.SiLU(),
                        nn.Linear(fine, fine),
                        nn.SiLU(),
                    )
                )
            self.head: nn.Module = PointHead(width, whole, out_channels, hidden=[2 * width], dropout=dropout)
        else:
            self.head = nn.Sequential(
                nn.LayerNorm(whole), nn.Linear(whole, 4 * width), nn.SiLU(), SampleDropout(dropout),
                nn.Linear(4 * width, out_channels),
            )  # fmt: skip

    def neighbors(
        self, positions: Tensor, batch: Tensor | None = None, cell: None = None, pbc: None = None
    ) -> SparseLevels:
        """Levels of farthest points and the neighbours on the level before, every ``stride``-th of them.

        Raises: ValueError for NaN, an unsorted batch, or a cell: clouds have no periods.
        """
        if cell is not None or pbc is not None:
            raise ValueError("cell or pbc is given, but a cloud of points has no periods; expected None")
        check_positions(positions)
        points = positions.detach()
        index = torch.zeros(len(points), dtype=torch.int64, device=points.device) if batch is None else batch
        rows = torch.arange(len(points), device=points.device)
        found: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for count in (None, *self.counts):
            chosen = torch.arange(len(points), device=points.device)
            if count is not None:
                chosen = farthest_points(points, count, index)
            near, of = points[chosen], index[chosen]
            edges = knn_between(points, near, self.k * self.stride, index, of)
            found[0].append(rows[chosen])
            found[1].append(dilated(edges, self.k, self.stride))
            if self.output == "field" and count is not None:
                found[2].append(knn_between(near, points, self.k_back, of, index))
            points, index, rows = near, of, rows[chosen]
        return SparseLevels(*map(tuple, found))

    def encode(
        self, positions: Tensor, features: Tensor | None, batch: Tensor, graph: SparseLevels, count: int
    ) -> Encoded:
        vectors = self.inputs(positions, features, batch, count)  # the first is the position about the mean
        centred = vectors[..., 0]
        x, place, near = self._first(vectors, features, graph.edges[0]), centred, batch
        levels = []
        for stage, rows, edge_index in zip(self.stages, graph.rows, graph.edges, strict=True):
            target = centred.index_select(0, rows)
            near = batch.index_select(0, rows)
            edges = EdgeList(Pairs.of(edge_index[0], edge_index[1], len(place), len(target)), edge_index[1])
            x = stage(x, (place, target), edges, edge_invariants(place, target, edge_index), near, count)
            place = target
            levels.append((x, place))
        clouds = torch.cat([self.mean(x, near, count), group_max(x, near, count)], 1)
        return Encoded(self._up(levels, graph) if self.output == "field" else None, clouds)

    def _first(self, vectors: Tensor, features: Tensor | None, edge_index: Tensor) -> Tensor:
        """One, inner products of the vectors, scalar features. Shape: -> (P, number)."""
        source, target = edge_index
        place = vectors[..., :1]
        total = torch.zeros_like(place).index_add(0, target, place.index_select(0, source))
        size = place.new_zeros(len(place)).index_add(0, target, place.new_ones(len(target))).clamp_min(1)
        middle = total / size[:, None, None]
        parts = [torch.ones_like(place[:, 0]), (vectors * place).sum(1), (vectors * (middle - place)).sum(1)]
        if features is not None and self.scalars:
            parts.append(features[:, self.scalars])
        return torch.cat(parts, 1)

    def _up(self, levels: list[tuple[Tensor, Tensor]], graph: SparseLevels) -> Tensor:
        """Features on all points from those of all levels. Shape: -> (P, width)."""
        x, coarse = levels[-1]
        for i in reversed(range(len(self.ups))):
            own, fine = levels[i]
            x = self.ups[i](torch.cat([own, interpolate_points(x, coarse, fine, graph.back[i])], 1))
            coarse = fine
        return x


@register("sprin", output=OUTPUTS, domain="points", options_of=SPRIN)
def small(in_channels: int, out_channels: int, grid: Any, **options: Any) -> SPRIN:
    """SPRIN (You et al. 2021): sparse invariant convolutions on levels of farthest points; mirror images alike."""
    return SPRIN(in_channels, out_channels, **options)


@register("sprin-base", output=OUTPUTS, domain="points", options_of=SPRIN)
def base(
    in_channels: int, out_channels: int, grid: Any, *, width: int = 128, counts: Sequence[int] = (512, 128, 32), k: int = 32,
    rank: int = 32, hidden: int = 64, **options: Any,
) -> SPRIN:  # fmt: skip
    """The base size: 32 of the 64 nearest neighbours, as published, width 128; for a GPU."""
    return SPRIN(
        in_channels, out_channels, width=width, counts=counts, k=k, rank=rank, hidden=hidden, **options
    )
