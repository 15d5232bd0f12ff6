"""PRIN: clouds as functions on spherical voxels, rotation-equivariant convolutions, and features of points read off again.

Reference: You, Lou, Liu, Tai, Ma, Lu & Wang 2020, arXiv:1811.09361.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least, check_positions
from spheregeo.models.registry import register
from spheregeo.models.space.cloud import InputVectors
from spheregeo.models.space.point_outputs import (
    OUTPUTS,
    CloudOutputs,
    Encoded,
    PointHead,
    clouds_of,
    group_max,
)
from spheregeo.nn import AreaBatchNorm, SampleDropout
from spheregeo.nn.space import VectorMeanPool
from spheregeo.nn.space.spherical_voxels import PointMaps, SphericalVoxelConv, SphericalVoxels


class VoxelBlock(nn.Module):
    """Convolution of spherical voxels, area-weighted batch norm, SiLU; residual where the channels agree.

    Shape: (B, in_channels, H, *grid.shape) -> (B, width, H, *grid.shape).
    """

    def __init__(self, in_channels: int, width: int, voxels: SphericalVoxels, **options: Any) -> None:
        super().__init__()
        self.conv = SphericalVoxelConv(in_channels, width, voxels.grid, bias=False, **options)
        self.norm, self.residual = AreaBatchNorm(width, voxels.grid), in_channels == width

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        shells = y.transpose(1, 2)
        y = self.norm(shells.flatten(0, 1)).view_as(shells).transpose(1, 2)
        y = nn.functional.silu(y)
        return x + y if self.residual else y


class PRIN(CloudOutputs):
    """Network of clouds by convolutions on spherical voxels about the cloud's mean.

    Points go into voxels by density-aware means, blocks of convolutions follow, and each point reads its features off by
    trilinear interpolation. Signals to begin with: one, inner products of the vectors (positions, positions times scalar
    features, vector features) with the position, and scalar features.

    Args:
        in_channels: features of each point, 0 for none.
        out_channels: numbers for each cloud, or each point.
        width: channels.
        depth: blocks.
        bandwidth: b; shells are sampled at 2b × 2b points. More of them lower the error under rotations.
        shells: number of radii.
        lmax: largest degree of the filters; below b.
        anchors: degrees at which a filter's response is learned, linear between them; None for all.
        taps: shells that a filter spans.
        window: angle at which a point's weight in voxels ends, in radians.
        softness: number of points whose weight counts half, see :class:`~spheregeo.nn.space.spherical_voxels.SphericalVoxels`.
        lift: whether convolutions go by SO(3), with filters that are not zonal; for small lmax.
        dropout: of the head.
        feature_irreps: what the features are, such as "1x1o" for normals; scalars if empty.
        output: "label" for numbers of each cloud, "field" for numbers of each point.

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,), graph as ``neighbors`` gives it;
        returns (B, out_channels), or (P, out_channels).
    Units: clouds of radius 1; the output is not invariant to scale.
    Equivariance: invariant to translations and permutations; nearly so to rotations and reflections. Relative change of the
        points' features under random rotations, clouds of 1,024 points, random parameters and statistics: 5.6 % with bandwidth
        16, 1.4 % with 32, 0.36 % with 64; with ``lift`` (lmax 4) 1.3 and 0.27 % with 16 and 32. Turns about z by whole
        columns change nothing.
    Raises: ValueError for options out of range, features that do not fit.
    Reference: You et al. 2020, arXiv:1811.09361; zonal filters on a window of shells, batch norm, residual blocks.

    Example:
        >>> network = PRIN(0, 5, width=4, depth=1, bandwidth=4, shells=3, lmax=2)
        >>> positions, batch = torch.randn(40, 3), torch.arange(2).repeat_interleave(20)
        >>> network(positions, None, batch, network.neighbors(positions, batch), 2).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 24,
        depth: int = 3,
        bandwidth: int = 16,
        shells: int = 8,
        lmax: int = 8,
        anchors: int | None = None,
        taps: int = 3,
        window: float = 0.3,
        softness: float = 1.0,
        lift: bool = False,
        dropout: float = 0.3,
        feature_irreps: str = "",
        output: str = "label",
    ) -> None:
        super().__init__(output)
        check_least(out_channels=(out_channels, 1), width=(width, 1), depth=(depth, 1), lmax=(lmax, 0))
        self.inputs = InputVectors(in_channels, feature_irreps or None)
        self.scalars = [
            c for start, stop, degree in self.inputs.blocks if degree == 0 for c in range(start, stop)
        ]
        self.voxels, self.mean = SphericalVoxels(bandwidth, shells, window, softness), VectorMeanPool()
        first = 1 + self.inputs.num_vectors + len(self.scalars)
        options: dict[str, Any] = {"lmax": lmax, "taps": taps, "lift": lift}
        options |= {} if lift else {"anchors": anchors}
        self.blocks = nn.ModuleList(
            VoxelBlock(first if i == 0 else width, width, self.voxels, **options) for i in range(depth)
        )
        local = width * depth + first
        if output == "field":
            self.head: nn.Module = PointHead(
                local, 2 * local, out_channels, hidden=[4 * width], dropout=dropout
            )
        else:
            self.head = nn.Sequential(
                nn.LayerNorm(2 * local), nn.Linear(2 * local, 4 * width), nn.SiLU(), SampleDropout(dropout),
                nn.Linear(4 * width, out_channels),
            )  # fmt: skip

    def neighbors(
        self, positions: Tensor, batch: Tensor | None = None, cell: None = None, pbc: None = None
    ) -> PointMaps:
        """The maps between points and voxels, in place of edges.

        Raises: ValueError for NaN, or a cell: clouds have no periods.
        """
        if cell is not None or pbc is not None:
            raise ValueError("cell or pbc is given, but a cloud of points has no periods; expected None")
        check_positions(positions)
        index, count = clouds_of(positions, batch, None)
        points = positions.detach()
        centre: Tensor = self.mean(points, index, count)
        return self.voxels.maps(points - centre.index_select(0, index), index)

    def encode(
        self, positions: Tensor, features: Tensor | None, batch: Tensor, graph: PointMaps, count: int
    ) -> Encoded:
        vectors = self.inputs(positions, features, batch, count)  # the first is the position about the mean
        parts = [torch.ones_like(vectors[:, 0, :1]), (vectors * vectors[..., :1]).sum(1)]
        if features is not None and self.scalars:
            parts.append(features[:, self.scalars])
        own = torch.cat(parts, 1)
        x, found = self.voxels(own, graph, count), [own]
        for block in self.blocks:
            x = block(x)
            found.append(self.voxels.to_points(x, graph))
        points = torch.cat(found, 1)
        return Encoded(
            points, torch.cat([self.mean(points, batch, count), group_max(points, batch, count)], 1)
        )


@register("prin", output=OUTPUTS, domain="points", options_of=PRIN)
def small(in_channels: int, out_channels: int, grid: Any, **options: Any) -> PRIN:
    """PRIN (You et al. 2020): convolutions on spherical voxels, features read off at the points; nearly invariant."""
    return PRIN(in_channels, out_channels, **options)


@register("prin-base", output=OUTPUTS, domain="points", options_of=PRIN)
def base(
    in_channels: int, out_channels: int, grid: Any, *, width: int = 40, bandwidth: int = 32, shells: int = 32, lmax: int = 15,
    window: float = 0.15, **options: Any,
) -> PRIN:  # fmt: skip
    """The base size: bandwidth 32 and 40 channels, as published, 32 shells; for a GPU."""
    return PRIN(
        in_channels,
        out_channels,
        width=width,
        bandwidth=bandwidth,
        shells=shells,
        lmax=lmax,
        window=window,
        **options,
    )
