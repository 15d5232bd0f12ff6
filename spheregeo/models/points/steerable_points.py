"""The default network for clouds of points: steerable messages down a hierarchy of farthest points, then invariants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.models.points.vnn import group_max
from spheregeo.models.registry import register
from spheregeo.models.space.steerable_blocks import (
    MessageBlock,
    PointBlock,
    invariants_of,
    pyramid,
)
from spheregeo.nn import SampleDropout
from spheregeo.nn.irreps import ToStacks, working_dtype
from spheregeo.nn.space import EdgeGeometry, EdgeList, RadialBasis, polynomial_envelope
from spheregeo.sampling import farthest_points, knn_between
from spheregeo.sparse import Pairs


class CloudLevels(NamedTuple):
    """A hierarchy of subsets of a batch of clouds. A pytree of tensors.

    Shape: for each level, rows (N_i,) among the points of the level before, and edge_index (2, E_i) from those points to these.
    """

    rows: tuple[Tensor, ...]
    edges: tuple[Tensor, ...]


class SteerablePoints(nn.Module):
    """Network of clouds: levels of farthest points, each with a steerable convolution over its nearest points of the finer level.

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,), graph as ``neighbors`` gives it -> (B, out_channels).
    Units: clouds of radius 1 about their mean; the output is not invariant to scale.
    Equivariance: invariant to O(3), translations and, ties of distances apart, permutations: to rounding (1e-13 relative in
        float64, 1e-4 in float32, with random parameters).
    Raises: ValueError for sizes that do not fit, features that do not fit ``feature_irreps``.
    Reference: own arrangement: the hierarchy of Qi et al. 2017, arXiv:1706.02413, with layers of Thomas et al. 2018,
        arXiv:1802.08219, depthwise as in Batzner et al. 2022, arXiv:2101.03164.

    Args:
        in_channels: features of each point, 0 for none.
        out_channels: numbers for each cloud.
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
    ) -> None:
        super().__init__()
        if len(counts) != len(radii) or not counts or min(counts) < 1 or min(radii) <= 0:
            raise ValueError(f"counts is {counts} and radii {radii}; expected as many of each, positive")
        if k < 1:
            raise ValueError(f"k is {k}; expected at least one neighbour")
        given = Irreps(feature_irreps) if feature_irreps else Irreps(f"{in_channels}x0e")
        if given.dim != in_channels:
            raise ValueError(
                f"feature_irreps is {given} with {given.dim} numbers but in_channels is {in_channels}"
            )
        self.counts, self.k = tuple(counts), k
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
        self.messages, self.points = nn.ModuleList(), nn.ModuleList()
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
            before = irreps
        number = 2 * before.num_irreps
        self.head = nn.Sequential(
            nn.LayerNorm(number), nn.Linear(number, 4 * width), nn.SiLU(), SampleDropout(dropout),
            nn.Linear(4 * width, out_channels),
        )  # fmt: skip

    def neighbors(
        self, positions: Tensor, batch: Tensor | None = None, cell: None = None, pbc: None = None
    ) -> CloudLevels:
        """Farthest points level by level, and the nearest finer points of each.

        Raises: ValueError for NaN, an unsorted batch, or a cell: clouds have no periods.
        """
        if cell is not None or pbc is not None:
            raise ValueError("cell or pbc is given, but a cloud of points has no periods; expected None")
        points = positions.detach()
        index = torch.zeros(len(points), dtype=torch.int64, device=points.device) if batch is None else batch
        rows, edges = [], []
        for count in self.counts:
            chosen = farthest_points(points, count, index)
            edges.append(knn_between(points, points[chosen], self.k, index, index[chosen]))
            rows.append(chosen)
            points, index = points[chosen], index[chosen]
        return CloudLevels(tuple(rows), tuple(edges))

    def forward(
        self,
        positions: Tensor,
        features: Tensor | None,
        batch: Tensor | None,
        graph: CloudLevels,
        num_graphs: int | None = None,
    ) -> Tensor:
        if batch is None:
            batch = torch.zeros(positions.shape[0], dtype=torch.int64, device=positions.device)
        clouds = num_graphs if num_graphs is not None else (int(batch[-1]) + 1 if len(batch) else 0)
        x = self.to_stacks(self._inputs(positions, features, batch, clouds))
        for i, (message, block) in enumerate(zip(self.messages, self.points, strict=True)):
            rows, (source, target) = graph.rows[i], graph.edges[i]
            near = positions.index_select(0, rows)
            pairs = Pairs.of(source, target, positions.shape[0], rows.shape[0])
            geometry = EdgeGeometry.of((positions, near), EdgeList(pairs, target))
            radial: Any = self.basis[i]
            envelope = polynomial_envelope(geometry.lengths / self.radii[i])
            x = block(message(x, geometry, radial(geometry.lengths), envelope, rows=rows))
            positions, batch = near, batch.index_select(0, rows)
        found = invariants_of(x)
        result: Tensor = self.head(
            torch.cat([_mean(found, batch, clouds), group_max(found, batch, clouds)], 1)
        )
        return result

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


@register("steerable-points", output="label", domain="points", options_of=SteerablePoints)
def small(in_channels: int, out_channels: int, grid: Any, **options: Any) -> SteerablePoints:
    """Steerable messages down three levels of farthest points; invariant to O(3). For one CPU core."""
    return SteerablePoints(in_channels, out_channels, **options)


@register("steerable-points-base", output="label", domain="points", options_of=SteerablePoints)
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
