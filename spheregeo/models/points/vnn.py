"""VN-PointNet and VN-DGCNN: the point networks of Qi et al. 2017 and Wang et al. 2019 with vectors for neurons.

Reference: Deng, Litany, Duan, Poulenard, Tagliasacchi & Guibas 2021, arXiv:2104.12229.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from spheregeo.models.registry import register
from spheregeo.models.space.cloud import CloudGraph, CloudNetwork, feature_graph
from spheregeo.models.space.point_outputs import OUTPUTS, Encoded, PointHead, group_max
from spheregeo.nn import SampleDropout
from spheregeo.nn.space import (
    StatisticsNorm,
    VectorBatchNorm,
    VectorEdgeConv,
    VectorInvariants,
    VectorLinear,
    VectorLinearReLU,
    VectorMeanPool,
    vector_pool,
)


def invariant_head(
    in_channels: int, hidden: Sequence[int], out_channels: int, dropout: float
) -> nn.Sequential:
    """Linear layers with batch norm, leaky ReLU and dropout between them. Shape: (B, in_channels) -> (B, out_channels)."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [
            nn.Linear(in_channels, width, bias=False), StatisticsNorm(width), nn.LeakyReLU(0.2), SampleDropout(dropout)
        ]  # fmt: skip
        in_channels = width
    return nn.Sequential(*layers, nn.Linear(in_channels, out_channels))


def head_for(
    output: str, local: int, whole: int, hidden: Sequence[int], out_channels: int, dropout: float
) -> nn.Module:
    """The head for clouds, of ``whole`` features, or for points, of ``local`` and ``whole`` features."""
    if output == "field":
        return PointHead(local, whole, out_channels, hidden=hidden, dropout=dropout)
    return invariant_head(whole, hidden, out_channels, dropout)


class VNPointNet(CloudNetwork):
    """PointNet of vector neurons: one edge convolution, then layers on points alone, then the maximum over the cloud.

    Args:
        in_channels: features of each point, 0 for none.
        out_channels: numbers for each cloud, or each point.
        width: vectors after the edge convolution; 2 and 16 times as many follow (the published 21, 42, 341).
        k: neighbours in the edge convolution, the point itself among them.
        cross: give the edge convolution x_j × x_i too, as published; without it, reflections change nothing.
        feature_transform: append a global vector for each channel, learnt by a small network of the same kind.
        pool: over the neighbours, "mean" or "max".
        hidden: widths of the head; twice the number of vectors and as many if None.
        dropout: of the head.
        feature_irreps: what the features are, such as "1x1o" for normals; scalars if None.
        output: "label" for numbers of each cloud, "field" for numbers of each point.

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,), graph -> (B, out_channels), or (P, out_channels).
    Units: clouds of radius 1; the output is not invariant to scale.
    Equivariance: invariant to translations and SO(3), and to O(3) without ``cross``: 1e-14 (float64), random parameters.
    Raises: ValueError for options out of range, features that do not fit.
    Reference: Deng et al. 2021, arXiv:2104.12229; Qi et al. 2017, arXiv:1612.00593.

    Example:
        >>> network = VNPointNet(
        ...     0, 5, width=2, k=4, cross=False, feature_transform=True,
        ...     pool="mean", hidden=None, dropout=0.0, feature_irreps=None,
        ... )
        >>> positions, batch = torch.randn(40, 3), torch.arange(2).repeat_interleave(20)
        >>> network(positions, None, batch, network.neighbors(positions, batch), 2).shape
        torch.Size([2, 5])
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
        output: str = "label",
    ) -> None:
        super().__init__(in_channels, k, feature_irreps, output)
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
        self.head = head_for(output, 6 * wide, 6 * wide, chosen, out_channels, dropout)

    def encode(
        self, positions: Tensor, features: Tensor | None, batch: Tensor, graph: CloudGraph, count: int
    ) -> Encoded:
        x = self.inputs(positions, features, batch, count)
        x = self.first(self.edges(x, graph.edge_index))
        if self.transform is not None:
            x = torch.cat([x, self.transform(x, batch, count)], -1)
        x = self.third(self.second(x))
        x = torch.cat([x, self.mean(x, batch, count).index_select(0, batch)], -1)
        x = self.invariants(x)
        return Encoded(x, group_max(x, batch, count))


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


class VNDGCNN(CloudNetwork):
    """DGCNN of vector neurons: edge convolutions, each on the output of the one before, all outputs joined at the end.

    Args:
        in_channels: features of each point, 0 for none.
        out_channels: numbers for each cloud, or each point.
        widths: vectors after each edge convolution.
        embedding: vectors of the joined layer.
        k: neighbours, the point itself among them.
        dynamic: look for neighbours anew among the features before every convolution but the first, as published; else the
            neighbours in space serve all of them.
        pool: over the neighbours, "mean" or "max".
        hidden: widths of the head.
        dropout: of the head.
        feature_irreps: what the features are, such as "1x1o" for normals; scalars if None.
        output: "label" for numbers of each cloud, "field" for numbers of each point.

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,), graph -> (B, out_channels), or (P, out_channels).
    Units: clouds of radius 1; the output is not invariant to scale.
    Equivariance: invariant to translations and O(3): 1e-14 (float64), random parameters.
    Raises: ValueError for options out of range, features that do not fit.
    Reference: Deng et al. 2021, arXiv:2104.12229; Wang et al. 2019, arXiv:1801.07829.

    Example:
        >>> network = VNDGCNN(
        ...     0, 5, widths=[4], embedding=4, k=4, dynamic=True,
        ...     pool="mean", hidden=[8], dropout=0.0, feature_irreps=None,
        ... )
        >>> positions, batch = torch.randn(40, 3), torch.arange(2).repeat_interleave(20)
        >>> network(positions, None, batch, network.neighbors(positions, batch), 2).shape
        torch.Size([2, 5])
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
        output: str = "label",
    ) -> None:
        super().__init__(in_channels, k, feature_irreps, output)
        if not widths or min(*widths, embedding) < 1:
            raise ValueError(f"widths are {widths}, embedding {embedding}; expected at least 1 vector each")
        self.dynamic = dynamic
        sizes = [self.inputs.num_vectors, *widths]
        self.edges = nn.ModuleList(VectorEdgeConv(a, b, pool=pool) for a, b in pairwise(sizes))
        self.join = VectorLinearReLU(sum(widths), embedding, share=True)
        self.mean, self.invariants = VectorMeanPool(), VectorInvariants(2 * embedding)
        self.head = head_for(output, 6 * embedding, 12 * embedding, hidden, out_channels, dropout)

    def encode(
        self, positions: Tensor, features: Tensor | None, batch: Tensor, graph: CloudGraph, count: int
    ) -> Encoded:
        x = self.inputs(positions, features, batch, count)
        found, edge_index = [], graph.edge_index
        for number, layer in enumerate(self.edges):
            if number and self.dynamic:
                edge_index = feature_graph(x, self.k, batch)
            x = layer(x, edge_index)
            found.append(x)
        x = self.join(torch.cat(found, -1))
        x = torch.cat([x, self.mean(x, batch, count).index_select(0, batch)], -1)
        x = self.invariants(x)
        return Encoded(x, torch.cat([group_max(x, batch, count), self.mean(x, batch, count)], 1))


@register("vnn-pointnet", output=OUTPUTS, domain="points")
def vnn_pointnet(
    in_channels: int, out_channels: int, grid: None = None, *, width: int = 8, k: int = 16, cross: bool = False,
    feature_transform: bool = False, pool: str = "mean", hidden: Sequence[int] | None = None, dropout: float = 0.1,
    feature_irreps: str | None = None, output: str = "label",
) -> VNPointNet:  # fmt: skip
    """VN-PointNet, small, mirror images alike: a baseline for clouds of points."""
    return VNPointNet(
        in_channels, out_channels, width=width, k=k, cross=cross, feature_transform=feature_transform, pool=pool,
        hidden=hidden, dropout=dropout, feature_irreps=feature_irreps, output=output,
    )  # fmt: skip


@register("vnn-pointnet-base", output=OUTPUTS, domain="points")
def vnn_pointnet_base(
    in_channels: int, out_channels: int, grid: None = None, *, width: int = 21, k: int = 20, cross: bool = True,
    feature_transform: bool = True, pool: str = "mean", hidden: Sequence[int] = (512, 256), dropout: float = 0.3,
    feature_irreps: str | None = None, output: str = "label",
) -> VNPointNet:  # fmt: skip
    """VN-PointNet at about its published size, with cross products: mirror images differ."""
    return VNPointNet(
        in_channels, out_channels, width=width, k=k, cross=cross, feature_transform=feature_transform, pool=pool,
        hidden=hidden, dropout=dropout, feature_irreps=feature_irreps, output=output,
    )  # fmt: skip


@register("vnn-dgcnn", output=OUTPUTS, domain="points")
def vnn_dgcnn(
    in_channels: int, out_channels: int, grid: None = None, *, width: int = 12, depth: int = 3, embedding: int = 48,
    k: int = 12, dynamic: bool = False, pool: str = "mean", hidden: Sequence[int] = (128, 64), dropout: float = 0.1,
    feature_irreps: str | None = None, output: str = "label",
) -> VNDGCNN:  # fmt: skip
    """VN-DGCNN, small, on the neighbours in space: a baseline for clouds of points."""
    widths = [width * max(1, 2**level // 2) for level in range(depth)]
    return VNDGCNN(
        in_channels, out_channels, widths=widths, embedding=embedding, k=k, dynamic=dynamic, pool=pool, hidden=hidden,
        dropout=dropout, feature_irreps=feature_irreps, output=output,
    )  # fmt: skip


@register("vnn-dgcnn-base", output=OUTPUTS, domain="points")
def vnn_dgcnn_base(
    in_channels: int, out_channels: int, grid: None = None, *, widths: Sequence[int] = (21, 21, 42, 85),
    embedding: int = 341, k: int = 20, dynamic: bool = True, pool: str = "mean", hidden: Sequence[int] = (512, 256),
    dropout: float = 0.5, feature_irreps: str | None = None, output: str = "label",
) -> VNDGCNN:  # fmt: skip
    """VN-DGCNN at its published size, neighbours sought anew among the features."""
    return VNDGCNN(
        in_channels, out_channels, widths=widths, embedding=embedding, k=k, dynamic=dynamic, pool=pool, hidden=hidden,
        dropout=dropout, feature_irreps=feature_irreps, output=output,
    )  # fmt: skip
