"""VN-PointNet and VN-DGCNN: the point networks of Qi et al. 2017 and Wang et al. 2019 with vectors for neurons.

Reference: Deng, Litany, Duan, Poulenard, Tagliasacchi & Guibas 2021, arXiv:2104.12229.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.models.registry import register
from spheregeo.nn.space.vector_neurons import (
    StatisticsNorm,
    VectorBatchNorm,
    VectorEdgeConv,
    VectorInvariants,
    VectorLinear,
    VectorLinearReLU,
    VectorMeanPool,
    vector_pool,
)
from spheregeo.sampling import knn_graph

MOST = 1 << 22  # distances in feature space worked on at once


class CloudGraph(NamedTuple):
    """Neighbours of the points of a batch: edge_index (2, E), rows (source, target)."""

    edge_index: Tensor


class InputVectors(nn.Module):
    """Positions about their cloud's mean, then one vector for each feature: vectors as they are, scalars times the position.

    Args:
        in_channels: columns of the features.
        feature_irreps: what they are, of 0e and 1o, such as "1x1o" for normals; all scalars if None.

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,) -> (P, 3, num_vectors).
    Raises: ValueError for other irreps, or features that do not fit.
    """

    def __init__(self, in_channels: int, feature_irreps: str | None) -> None:
        super().__init__()
        irreps = Irreps(f"{in_channels}x0e" if feature_irreps is None else feature_irreps)
        kinds = {str(item.ir) for item in irreps}
        if irreps.dim != in_channels or not kinds <= {"0e", "1o"}:
            raise ValueError(
                f"feature_irreps is {feature_irreps!r} but in_channels {in_channels}; expected as many numbers, of 0e and 1o"
            )
        self.in_channels, self.num_vectors = in_channels, 1 + int(irreps.num_irreps)
        ends = zip(irreps, irreps.slices(), strict=True)
        self.blocks = tuple((int(s.start), int(s.stop), int(item.ir.l)) for item, s in ends)
        self.mean = VectorMeanPool()

    def forward(self, positions: Tensor, features: Tensor | None, batch: Tensor, count: int) -> Tensor:
        found = 0 if features is None else features.shape[-1]
        if found != self.in_channels:
            raise ValueError(
                f"features have {found} columns but the network was built for in_channels={self.in_channels}"
            )
        centre = self.mean(positions, batch, count)
        parts = [(positions - centre.index_select(0, batch)).unsqueeze(-1)]
        if features is not None:
            for start, stop, degree in self.blocks:
                block = features[:, start:stop]
                vectors = (
                    block.unflatten(1, (-1, 3)).transpose(1, 2) if degree else parts[0] * block.unsqueeze(1)
                )
                parts.append(vectors)
        return torch.cat(parts, -1)


def invariant_head(
    in_channels: int, hidden: Sequence[int], out_channels: int, dropout: float
) -> nn.Sequential:
    """Linear layers with batch norm, leaky ReLU and dropout between them. Shape: (B, in_channels) -> (B, out_channels)."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [
            nn.Linear(in_channels, width, bias=False), StatisticsNorm(width), nn.LeakyReLU(0.2), nn.Dropout(dropout)
        ]  # fmt: skip
        in_channels = width
    return nn.Sequential(*layers, nn.Linear(in_channels, out_channels))


def group_max(x: Tensor, group: Tensor, count: int) -> Tensor:
    """Largest value of each channel over groups; -inf where a group is empty. Shape: (N, C), (N,) -> (count, C)."""
    start = x.new_full((count, x.shape[1]), -torch.inf)
    return start.scatter_reduce(0, group[:, None].expand_as(x), x, "amax")


def feature_graph(v: Tensor, k: int, batch: Tensor) -> Tensor:
    """Edges from the k points of the same cloud whose vectors are nearest, the point itself among them.

    Squared distances are rounded to 1e-10 (1e-5 in float32) of the cloud's largest, and equal ones are taken in the order of
    the points, so that rounding errors of a turned cloud choose alike.

    Shape: v (P, 3, C), batch (P,) -> (2, E).
    """
    step = 1e-10 if v.dtype == torch.float64 else 1e-5
    sources, own, start = [], [], 0
    for size in torch.bincount(batch).tolist():
        x = v[start : start + size].detach().flatten(1)
        unit = (step * (x - x.mean(0)).square().sum(1).amax()) if size else x.new_ones(())
        for rows in torch.arange(start, start + size, device=v.device).split(max(1, MOST // max(1, size))):
            gap = torch.cdist(x[rows - start], x, compute_mode="donot_use_mm_for_euclid_dist").square()
            steps = (gap / unit.clamp_min(torch.finfo(v.dtype).tiny)).round()
            nearest = steps.sort(dim=1, stable=True).indices[:, :k]
            sources.append(start + nearest.flatten())
            own.append(rows.repeat_interleave(nearest.shape[1]))
        start += size
    return torch.stack([torch.cat(sources or [batch]), torch.cat(own or [batch])])


class _Cloud(nn.Module):
    """What both networks share: the neighbours and the vectors that they begin with."""

    def __init__(self, in_channels: int, k: int, feature_irreps: str | None) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"k is {k}; expected at least 1 neighbour")
        self.k, self.inputs = k, InputVectors(in_channels, feature_irreps)

    def neighbors(
        self, positions: Tensor, batch: Tensor | None, cell: None = None, pbc: None = None
    ) -> CloudGraph:
        """The k nearest points of each point's cloud, itself among them; fewer in a cloud with fewer.

        Raises: ValueError for NaN, an unsorted batch, or a cell: clouds have no periods.
        """
        if cell is not None or pbc is not None:
            raise ValueError("cell or pbc is given, but a cloud of points has no periods; expected None")
        return CloudGraph(knn_graph(positions, self.k, batch, loop=True))

    def begin(
        self, positions: Tensor, features: Tensor | None, batch: Tensor | None, num_graphs: int | None
    ) -> tuple[Tensor, Tensor, int]:
        """Vectors (P, 3, C) of the points, the cloud of each, and the number of clouds."""
        if batch is None:
            batch = torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
        count = num_graphs if num_graphs is not None else int(batch[-1]) + 1 if len(batch) else 0
        return self.inputs(positions, features, batch, count), batch, count


class VNPointNet(_Cloud):
    """PointNet of vector neurons: one edge convolution, then layers on points alone, then the maximum over the cloud.

    Args:
        width: vectors after the edge convolution; 2 and 16 times as many follow (the published 21, 42, 341).
        k: neighbours in the edge convolution, the point itself among them.
        cross: give the edge convolution x_j × x_i too, as published; without it, reflections change nothing.
        feature_transform: append a global vector for each channel, learnt by a small network of the same kind.
        pool: over the neighbours, "mean" or "max".
        hidden: widths of the head; twice the number of vectors and as many if None.
        dropout: of the head.
        feature_irreps: what the features are, such as "1x1o" for normals; scalars if None.

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,), graph -> (B, out_channels).
    Units: clouds of radius 1; the output is not invariant to scale.
    Equivariance: invariant to translations and SO(3), and to O(3) without ``cross``: 1e-14 (float64), random parameters.
    Raises: ValueError for options out of range, features that do not fit.
    Reference: Deng et al. 2021, arXiv:2104.12229; Qi et al. 2017, arXiv:1612.00593.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        k: int,
        cross: bool,
        feature_transform: bool,
        pool: str,
        hidden: Sequence[int] | None,
        dropout: float,
        feature_irreps: str | None,
    ) -> None:
        super().__init__(in_channels, k, feature_irreps)
        if width < 1:
            raise ValueError(f"width is {width}; expected at least 1 vector")
        middle, wide = 2 * width, 16 * width
        self.edges = VectorEdgeConv(self.inputs.num_vectors, width, slope=0.0, cross=cross, pool=pool)
        self.first = VectorLinearReLU(width, width, slope=0.0)
        self.transform = VectorTransform(width, middle) if feature_transform else None
        self.second = VectorLinearReLU(2 * width if feature_transform else width, middle, slope=0.0)
        self.third = nn.Sequential(VectorLinear(middle, wide), VectorBatchNorm(wide))
        self.mean, self.invariants = VectorMeanPool(), VectorInvariants(2 * wide, slope=0.0)
        chosen = [8 * width, 4 * width] if hidden is None else hidden
        self.head = invariant_head(6 * wide, chosen, out_channels, dropout)

    def forward(
        self,
        positions: Tensor,
        features: Tensor | None,
        batch: Tensor | None,
        graph: CloudGraph,
        num_graphs: int | None = None,
    ) -> Tensor:
        x, batch, count = self.begin(positions, features, batch, num_graphs)
        x = self.first(self.edges(x, graph.edge_index))
        if self.transform is not None:
            x = torch.cat([x, self.transform(x, batch, count)], -1)
        x = self.third(self.second(x))
        x = torch.cat([x, self.mean(x, batch, count).index_select(0, batch)], -1)
        result: Tensor = self.head(group_max(self.invariants(x), batch, count))
        return result


class VectorTransform(nn.Module):
    """A global vector for each channel, given to every point. Shape: (P, 3, C), batch, count -> (P, 3, C). Equivariance: O(3)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.points = nn.Sequential(
            VectorLinearReLU(channels, width, slope=0.0), VectorLinearReLU(width, 2 * width, slope=0.0)
        )
        self.pool = vector_pool("max", 2 * width)
        self.cloud = nn.Sequential(
            VectorLinearReLU(2 * width, width, slope=0.0), VectorLinear(width, channels)
        )

    def forward(self, x: Tensor, batch: Tensor, count: int) -> Tensor:
        whole: Tensor = self.cloud(self.pool(self.points(x), batch, count))
        return whole.index_select(0, batch)


class VNDGCNN(_Cloud):
    """DGCNN of vector neurons: edge convolutions, each on the output of the one before, all outputs joined at the end.

    Args:
        widths: vectors after each edge convolution.
        embedding: vectors of the joined layer.
        k: neighbours, the point itself among them.
        dynamic: look for neighbours anew among the features before every convolution but the first, as published; else the
            neighbours in space serve all of them.
        pool: over the neighbours, "mean" or "max".
        hidden: widths of the head.
        dropout: of the head.
        feature_irreps: what the features are, such as "1x1o" for normals; scalars if None.

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,), graph -> (B, out_channels).
    Units: clouds of radius 1; the output is not invariant to scale.
    Equivariance: invariant to translations and O(3): 1e-14 (float64), random parameters.
    Raises: ValueError for options out of range, features that do not fit.
    Reference: Deng et al. 2021, arXiv:2104.12229; Wang et al. 2019, arXiv:1801.07829.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int],
        embedding: int,
        k: int,
        dynamic: bool,
        pool: str,
        hidden: Sequence[int],
        dropout: float,
        feature_irreps: str | None,
    ) -> None:
        super().__init__(in_channels, k, feature_irreps)
        if not widths or min(*widths, embedding) < 1:
            raise ValueError(f"widths are {widths}, embedding {embedding}; expected at least 1 vector each")
        self.dynamic = dynamic
        sizes = [self.inputs.num_vectors, *widths]
        self.edges = nn.ModuleList(VectorEdgeConv(a, b, pool=pool) for a, b in pairwise(sizes))
        self.join = VectorLinearReLU(sum(widths), embedding, share=True)
        self.mean, self.invariants = VectorMeanPool(), VectorInvariants(2 * embedding)
        self.head = invariant_head(12 * embedding, hidden, out_channels, dropout)

    def forward(
        self,
        positions: Tensor,
        features: Tensor | None,
        batch: Tensor | None,
        graph: CloudGraph,
        num_graphs: int | None = None,
    ) -> Tensor:
        x, batch, count = self.begin(positions, features, batch, num_graphs)
        found, edge_index = [], graph.edge_index
        for number, layer in enumerate(self.edges):
            if number and self.dynamic:
                edge_index = feature_graph(x, self.k, batch)
            x = layer(x, edge_index)
            found.append(x)
        x = self.join(torch.cat(found, -1))
        x = torch.cat([x, self.mean(x, batch, count).index_select(0, batch)], -1)
        x = self.invariants(x)
        pooled = torch.cat([group_max(x, batch, count), self.mean(x, batch, count)], 1)
        result: Tensor = self.head(pooled)
        return result


@register("vnn-pointnet", output="label", domain="points")
def vnn_pointnet(
    in_channels: int, out_channels: int, grid: None = None, *, width: int = 8, k: int = 16, cross: bool = False,
    feature_transform: bool = False, pool: str = "mean", hidden: Sequence[int] | None = None, dropout: float = 0.3,
    feature_irreps: str | None = None,
) -> VNPointNet:  # fmt: skip
    """VN-PointNet, small, mirror images alike: a baseline for clouds of points."""
    return VNPointNet(
        in_channels, out_channels, width=width, k=k, cross=cross, feature_transform=feature_transform, pool=pool,
        hidden=hidden, dropout=dropout, feature_irreps=feature_irreps,
    )  # fmt: skip


@register("vnn-pointnet-base", output="label", domain="points")
def vnn_pointnet_base(
    in_channels: int, out_channels: int, grid: None = None, *, width: int = 21, k: int = 20, cross: bool = True,
    feature_transform: bool = True, pool: str = "mean", hidden: Sequence[int] = (512, 256), dropout: float = 0.3,
    feature_irreps: str | None = None,
) -> VNPointNet:  # fmt: skip
    """VN-PointNet at about its published size, with cross products: mirror images differ."""
    return VNPointNet(
        in_channels, out_channels, width=width, k=k, cross=cross, feature_transform=feature_transform, pool=pool,
        hidden=hidden, dropout=dropout, feature_irreps=feature_irreps,
    )  # fmt: skip


@register("vnn-dgcnn", output="label", domain="points")
def vnn_dgcnn(
    in_channels: int, out_channels: int, grid: None = None, *, width: int = 12, depth: int = 3, embedding: int = 48,
    k: int = 12, dynamic: bool = False, pool: str = "mean", hidden: Sequence[int] = (128, 64), dropout: float = 0.3,
    feature_irreps: str | None = None,
) -> VNDGCNN:  # fmt: skip
    """VN-DGCNN, small, on the neighbours in space: a baseline for clouds of points."""
    widths = [width * max(1, 2**level // 2) for level in range(depth)]
    return VNDGCNN(
        in_channels, out_channels, widths=widths, embedding=embedding, k=k, dynamic=dynamic, pool=pool, hidden=hidden,
        dropout=dropout, feature_irreps=feature_irreps,
    )  # fmt: skip


@register("vnn-dgcnn-base", output="label", domain="points")
def vnn_dgcnn_base(
    in_channels: int, out_channels: int, grid: None = None, *, widths: Sequence[int] = (21, 21, 42, 85),
    embedding: int = 341, k: int = 20, dynamic: bool = True, pool: str = "mean", hidden: Sequence[int] = (512, 256),
    dropout: float = 0.5, feature_irreps: str | None = None,
) -> VNDGCNN:  # fmt: skip
    """VN-DGCNN at its published size, neighbours sought anew among the features."""
    return VNDGCNN(
        in_channels, out_channels, widths=widths, embedding=embedding, k=k, dynamic=dynamic, pool=pool, hidden=hidden,
        dropout=dropout, feature_irreps=feature_irreps,
    )  # fmt: skip
