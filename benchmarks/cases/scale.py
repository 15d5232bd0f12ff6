"""Time, memory and geometry of one layer from 256 x 512 to 2048 x 4096 and HEALPix nside 1024."""

from __future__ import annotations

from cases.configuration import Configuration
from cases.layers import ours
from spheregeo.grids import Equiangular, Grid, HEALPix
from spheregeo.kernels import Kernel, Morlet

GRIDS = (Equiangular(256, 512), Equiangular(2048, 4096), HEALPix(128), HEALPix(1024))
SMALL: dict[type[Grid], Grid] = {Equiangular: Equiangular(32, 64), HEALPix: HEALPix(16)}


def configuration(grid: Grid, kernel: Kernel) -> Configuration:
    radius = 2 * grid.spacing
    small = None if grid in SMALL.values() else configuration(SMALL[type(grid)], kernel)
    return Configuration(
        "scale", grid, kernel, radius, 8, {"spheregeo": ours(grid, kernel, radius, 8)}, small
    )


def cases() -> list[Configuration]:
    return [configuration(grid, Morlet(3, 3)) for grid in GRIDS]
