"""The default network for clouds of points: steerable messages down a hierarchy of farthest points, then invariants.

Where points are to be told apart, the messages go up again: from each level to the points of the finer one, on which invariants
of the finer features wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.models.registry import register
from spheregeo.models.space.point_outputs import OUTPUTS, CloudOutputs, Encoded, PointHead, group_max
from spheregeo.models.space.steerable_blocks import (
    MessageBlock,
    PointBlock,
    invariants_of,
    pyramid,
)
from spheregeo.nn import SampleDropout
from spheregeo.nn.irreps import Stacks, ToStacks, working_dtype
from spheregeo.nn.space import (
    EdgeGeometry,
    EdgeList,
    RadialBasis,
    RadialNetwork,
    SteerableConv,
    interpolate_points,
    polynomial_envelope,
)
from spheregeo.sampling import farthest_points, knn_between
from spheregeo.sparse import Pairs


class CloudLevels(NamedTuple):
    """A hierarchy of subsets of a batch of clouds. A pytree of tensors.

    Shape: for each level, rows (N_i,) among the points of the level before, edge_index (2, E_i) from those points to these, and,
        where features go up again, edge_index (2, E'_i) from these points to those.
    """

    rows: tuple[Tensor, ...]
    edges: tuple[Tensor, ...]
    back: tuple[Tensor, ...] = ()


class UpwardBlock(nn.Module):
    """From a level's features to scalars on the finer points: steerable convolution, mean of the nearest, invariants there.

    Shape: stacks of N coarse points, scalars (N, S) or None, invariants (P, F) of the fine points, geometry of the edges from
        coarse to fine points, radial functions (E, K), envelope (E,), both positions -> (P, width).
    Equivariance: invariant to O(3) and translations, exact.
    """

    def __init__(
        self, irreps: Irreps, scalars: int, own: int, width: int, *, lmax: int, basis: int, hidden: int, edge_dim: int,
        num_neighbors: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.radial = RadialNetwork(basis, [hidden], edge_dim)
        self.conv = SteerableConv(
            irreps, Irreps(f"{width}x0e"), lmax=lmax, edge_dim=edge_dim, depthwise=True, num_neighbors=num_neighbors
        )  # fmt: skip
        self.mix = nn.Sequential(
            nn.LayerNorm(width + scalars + own), nn.Linear(width + scalars + own, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(),
        )  # fmt: skip

    def forward(
        self, x: Stacks, scalars: Tensor | None, own: Tensor, geometry: EdgeGeometry, basis: Tensor, envelope: Tensor,
        coarse: Tensor, fine: Tensor,
    ) -> Tensor:  # fmt: skip
        found = self.conv(x, geometry, self.radial(basis, envelope)).parts[0].squeeze(1)
        near = [] if scalars is None else [interpolate_points(scalars, coarse, fine, geometry.edge_index)]
        result: Tensor = self.mix(torch.cat([found, *near, own], 1))
        return result


class SteerablePoints(CloudOutputs):
    """Network of clouds: levels of farthest points, each with a steerable convolution over its nearest points of the finer level.

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,), graph as ``neighbors`` gives it;
        returns (B, out_channels), or (P, out_channels).
    Units: clouds of radius 1 about their mean; the output is not invariant to scale.
    Equivariance: invariant to O(3), translations and, ties of distances apart, permutations: to rounding (1e-13 relative in
        float64, 1e-4 in float32, with random parameters).
    Raises: ValueError for sizes that do not fit, features that do not fit ``feature_irreps``.
    Reference: own arrangement: the hierarchy of Qi et al. 2017, arXiv:1706.02413, with layers of Thomas et al. 2018,
        arXiv:1802.08219, depthwise as in Batzner et al. 2022, arXiv:2101.03164.

    Args:
        in_channels: features of each point, 0 for none.
        out_channels: numbers for each cloud, or each point.
        width: scalars on the first level, times ``growth`` from level to level; vectors half as many, degree 2 a quarter.
        counts: points of each level.
        k: neighbours of a point on the finer level.
        radii: where each level's radial functions end, in units of the cloud's radius.
        lmax: highest degree of features and harmonics.
        growth: see width.
        basis: radial functions.
        hidden: hidden width of the radial networks.
        edge_dim: numbers that a radial network gives each edge.
        dropout: of the head.
        feature_irreps: what the features are, such as "1x1o" for normals; scalars if empty.
        output: "label" for numbers of each cloud, "field" for numbers of each point.
        k_back: coarse points from which features go up to a finer point, where ``output`` is "field".

    Example:
        >>> network = SteerablePoints(0, 5, width=8, counts=(8, 4), radii=(1.0, 2.0), k=4)
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
        k: int = 24,
        radii: Sequence[float] = (0.3, 0.6, 1.2),
        lmax: int = 2,
        growth: float = 2.0,
        basis: int = 6,
        hidden: int = 32,
        edge_dim: int = 16,
        dropout: float = 0.3,
        feature_irreps: str = "",
        output: str = "label",
        k_back: int = 4,
    ) -> None:
        super().__init__(output)
        if len(counts) != len(radii) or not counts or min(counts) < 1 or min(radii) <= 0:
            raise ValueError(f"counts is {counts} and radii {radii}; expected as many of each, positive")
        if k < 1 or k_back < 1:
            raise ValueError(f"k is {k} and k_back {k_back}; expected at least one neighbour")
        given = Irreps(feature_irreps) if feature_irreps else Irreps(f"{in_channels}x0e")
        if given.dim != in_channels:
            raise ValueError(
                f"feature_irreps is {given} with {given.dim} numbers but in_channels is {in_channels}"
            )
        self.counts, self.k, self.k_back = tuple(counts), k, k_back
        scalars = Irreps([term for term in given if str(term.ir) == "0e"])
        self.scalar_columns = torch.cat([torch.arange(s.start, s.stop) for s, term in zip(given.slices(), given, strict=True)
                                         if str(term.ir) == "0e"] or [torch.arange(0)]).tolist()  # fmt: skip
        self.other_columns = [c for c in range(given.dim) if c not in set(self.scalar_columns)]
        rest = Irreps([term for term in given if str(term.ir) != "0e"])
        before = Irreps([(width + scalars.dim, "0e"), (1, "1o"), *rest])
        self.to_stacks = ToStacks(before)
        self.constant = nn.Parameter(torch.randn(width))
        self.basis = nn.ModuleList(RadialBasis(r, basis, envelope=False) for r in radii)
        self.radii = tuple(float(r) for r in radii)
        self.messages, self.points, self.ups = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i in range(len(counts)):
            irreps = pyramid(round(width * growth**i), lmax)
            self.messages.append(
                MessageBlock(
                    before,
                    irreps,
                    lmax=lmax,
                    basis=basis,
                    hidden=hidden,
                    edge_dim=edge_dim,
                    num_neighbors=float(k),
                )
            )
            self.points.append(PointBlock(irreps, 2 * irreps[0].mul))
            if output == "field":
                self.ups.append(
                    UpwardBlock(
                        irreps,
                        0 if i == len(counts) - 1 else irreps[0].mul,
                        before.num_irreps,
                        max(width, before[0].mul),
                        lmax=lmax,
                        basis=basis,
                        hidden=hidden,
                        edge_dim=edge_dim,
                        num_neighbors=float(k_back),
                    )
                )
            before = irreps
        number = 2 * before.num_irreps
        if output == "field":
            own = max(width, width + scalars.dim)
            self.head: nn.Module = PointHead(own, number, out_channels, hidden=[4 * width], dropout=dropout)
        else:
            self.head = nn.Sequential(
                nn.LayerNorm(number), nn.Linear(number, 4 * width), nn.SiLU(), SampleDropout(dropout),
                nn.Linear(4 * width, out_channels),
            )  # fmt: skip

    def neighbors(
        self, positions: Tensor, batch: Tensor | None = None, cell: None = None, pbc: None = None
    ) -> CloudLevels:
        """Farthest points level by level and the nearest finer points of each; for "field" also the way back.

        Raises: ValueError for NaN, an unsorted batch, or a cell: clouds have no periods.
        """
        if cell is not None or pbc is not None:
            raise ValueError("cell or pbc is given, but a cloud of points has no periods; expected None")
        points = positions.detach()
        index = torch.zeros(len(points), dtype=torch.int64, device=points.device) if batch is None else batch
        rows, edges, back = [], [], []
        for count in self.counts:
            chosen = farthest_points(points, count, index)
            edges.append(knn_between(points, points[chosen], self.k, index, index[chosen]))
            if self.output == "field":
                back.append(knn_between(points[chosen], points, self.k_back, index[chosen], index))
            rows.append(chosen)
            points, index = points[chosen], index[chosen]
        return CloudLevels(tuple(rows), tuple(edges), tuple(back))

    def encode(
        self, positions: Tensor, features: Tensor | None, batch: Tensor, graph: CloudLevels, count: int
    ) -> Encoded:
        x = self.to_stacks(self._inputs(positions, features, batch, count))
        levels, near = [(x, positions)], batch
        for i, (message, block) in enumerate(zip(self.messages, self.points, strict=True)):
            rows = graph.rows[i]
            place = positions.index_select(0, rows)
            geometry, radial, envelope = self._edges(i, positions, place, graph.edges[i])
            x = block(message(x, geometry, radial, envelope, rows=rows))
            positions, near = place, near.index_select(0, rows)
            levels.append((x, positions))
        found = invariants_of(x)
        clouds = torch.cat([_mean(found, near, count), group_max(found, near, count)], 1)
        return Encoded(self._up(levels, graph) if self.output == "field" else None, clouds)

    def _edges(
        self, level: int, sources: Tensor, targets: Tensor, edge_index: Tensor
    ) -> tuple[EdgeGeometry, Tensor, Tensor]:
        """Edges between two sets of points with their radial functions and envelope."""
        source, target = edge_index
        pairs = Pairs.of(source, target, sources.shape[0], targets.shape[0])
        geometry = EdgeGeometry.of((sources, targets), EdgeList(pairs, target))
        basis: Any = self.basis[level]
        return geometry, basis(geometry.lengths), polynomial_envelope(geometry.lengths / self.radii[level])

    def _up(self, levels: list[tuple[Stacks, Tensor]], graph: CloudLevels) -> Tensor:
        """Scalars on all points from the features of all levels. Shape: -> (P, S)."""
        scalars: Tensor | None = None
        for i in reversed(range(len(self.ups))):
            (x, coarse), (own, fine) = levels[i + 1], levels[i]
            edges = self._edges(i, coarse, fine, graph.back[i])
            scalars = self.ups[i](x, scalars, invariants_of(own), *edges, coarse, fine)
        assert scalars is not None
        return scalars

    def _inputs(self, positions: Tensor, features: Tensor | None, batch: Tensor, clouds: int) -> Tensor:
        """Constants, scalar features, the way from the cloud's mean, other features."""
        away = positions - _mean(positions, batch, clouds).index_select(0, batch)
        parts = [self.constant.expand(positions.shape[0], -1)]
        columns = 0 if features is None else features.shape[1]
        if columns != len(self.scalar_columns) + len(self.other_columns):
            raise ValueError(
                f"features have {columns} columns; expected {len(self.scalar_columns) + len(self.other_columns)}"
            )
        if features is not None and self.scalar_columns:
            parts.append(features[:, self.scalar_columns])
        parts.append(away)
        if features is not None and self.other_columns:
            parts.append(features[:, self.other_columns])
        return torch.cat(parts, 1)


def _mean(x: Tensor, batch: Tensor, count: int) -> Tensor:
    wide = x.to(working_dtype(x))  # bfloat16 counts to 256
    total = wide.new_zeros(count, x.shape[1]).index_add(0, batch, wide)
    number = wide.new_zeros(count).index_add(0, batch, torch.ones_like(wide[:, 0]))
    return (total / number.clamp_min(1.0)[:, None]).to(x.dtype)


@register("steerable-points", output=OUTPUTS, domain="points", options_of=SteerablePoints)
def small(in_channels: int, out_channels: int, grid: Any, **options: Any) -> SteerablePoints:
    """Steerable messages down three levels of farthest points; invariant to O(3). For one CPU core."""
    return SteerablePoints(in_channels, out_channels, **options)


@register("steerable-points-base", output=OUTPUTS, domain="points", options_of=SteerablePoints)
def base(
    in_channels: int, out_channels: int, grid: Any, *, width: int = 96, counts: Sequence[int] = (512, 128, 32), k: int = 32,
    edge_dim: int = 32, hidden: int = 64, **options: Any,
) -> SteerablePoints:  # fmt: skip
    """The base size: width 96, levels of 512, 128 and 32 points; for a GPU."""
    return SteerablePoints(
        in_channels,
        out_channels,
        width=width,
        counts=counts,
        k=k,
        edge_dim=edge_dim,
        hidden=hidden,
        **options,
    )
