"""One depthwise `SteerableConv` on ten thousand points and on a million, 16 neighbours each, 16 channels of l <= 1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cases.configuration import PointConfiguration
from measure import Work
from spheregeo.nn import RadialBasis, SteerableConv
from spheregeo.nn.space import EdgeGeometry, EdgeList
from spheregeo.sampling import knn_graph

CHANNELS, NEIGHBOURS, HEADS = 16, 16, 8


class OnCloud(PointConfiguration):
    """A configuration that counts edges."""

    def count(self) -> int:
        return NEIGHBOURS * self.points


def ours(points: int, chunk: int | None) -> Callable[[], Work]:
    def build() -> Work:
        torch.manual_seed(0)
        positions = torch.rand(points, 3)
        edges = EdgeList.of(knn_graph(positions, NEIGHBOURS), points, positions=positions)
        irreps = f"{CHANNELS}x0e + {CHANNELS}x1o"
        conv = SteerableConv(
            irreps, irreps, lmax=1, edge_dim=HEADS, depthwise=True, num_neighbors=NEIGHBOURS, chunk=chunk
        )
        basis = RadialBasis(4 * points ** (-1 / 3), HEADS)
        x = torch.randn(points, conv.irreps_in.dim).requires_grad_()

        def forward() -> Tensor:
            geometry = EdgeGeometry.of(positions, edges)
            y: Tensor = conv(x, geometry, basis(geometry.lengths))
            return y

        return Work(forward, (x, *conv.parameters()))

    return build


def configuration(points: int, chunk: int | None, small: PointConfiguration | None) -> PointConfiguration:
    what = "all edges at once" if chunk is None else f"{chunk} edges at a time"
    builders = {"spheregeo": ours(points, chunk)}
    return OnCloud(
        "steerable_scale",
        f"{points} points, {NEIGHBOURS} neighbours",
        what,
        points,
        CHANNELS,
        builders,
        small,
    )


def cases() -> list[PointConfiguration]:
    return [
        configuration(points, chunk, configuration(500, chunk, None))
        for chunk in (None, 100_000)
        for points in (10_000, 1_000_000)
    ]
