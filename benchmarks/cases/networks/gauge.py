"""Steps of whole networks of tangent fields: the gauge U-Net on lat-lon grids, and GEM-CNN beside DiffusionNet on a mesh.

The U-Net as it is built by default (width 12, four levels, gated) and as recipes of fields set it (filters of three spacings,
regular nonlinearity). GEM-CNN with 16 fields of orders 0 to 2 in three blocks, DiffusionNet with four of 64 and 128 channels.
Loss and optimiser are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cases.configuration import PointConfiguration
from cases.gauge import torus
from cases.layers import work
from measure import Work
from spheregeo.grids import Equiangular


def step(make: Callable[[], Any], shape: tuple[int, ...]) -> Callable[[], Work]:
    def build() -> Work:
        network = make()
        return work(network, list(network.parameters()), shape)

    return build


def unet(rows: int, options: dict[str, Any], small: PointConfiguration | None) -> PointConfiguration:
    from spheregeo.models import GaugeUNet

    grid = Equiangular(rows, 2 * rows)
    builders = {"spheregeo": step(lambda: GaugeUNet(3, 3, grid, **options), (1, 3, *grid.shape))}
    text = ", ".join(f"{key}={value}" for key, value in options.items())
    return PointConfiguration(
        "networks/gauge", repr(grid), f"GaugeUNet({text})", grid.num_points, 24, builders, small
    )


def surface(rows: int, columns: int, small: PointConfiguration | None) -> PointConfiguration:
    from spheregeo.models import DiffusionNet, GemCNN

    mesh = torus(rows, columns)
    shape = (1, 3, mesh.num_points)
    builders = {
        "spheregeo": step(lambda: GemCNN(3, 8, mesh), shape),
        "DiffusionNet 4x64": step(lambda: DiffusionNet(3, 8, mesh, width=64), shape),
        "DiffusionNet 4x128": step(lambda: DiffusionNet(3, 8, mesh, width=128), shape),
    }
    return PointConfiguration(
        "networks/gauge", f"torus({rows}, {columns})", "GemCNN()", mesh.num_points, 80, builders, small
    )


def cases() -> list[PointConfiguration]:
    found = []
    for options in ({}, {"spacings": 3.0, "nonlinearity": "regular"}):
        found.append(unet(256, options, unet(16, {**options, "depth": 2}, None)))
    return [*found, surface(100, 50, surface(20, 20, None))]
