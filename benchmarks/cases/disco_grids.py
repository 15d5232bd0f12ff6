"""Time for each nonzero on grids without longitude symmetry, to set beside a lat-lon grid's."""

from __future__ import annotations

from cases.configuration import Configuration
from cases.layers import ours
from spheregeo.grids import Equiangular, Grid, HEALPix, Icosahedral
from spheregeo.kernels import Kernel, Morlet, Rings

GRIDS = (Equiangular(128, 256), HEALPix(64), HEALPix(128), Icosahedral(6))
SMALL: dict[type[Grid], Grid] = {
    Equiangular: Equiangular(32, 64),
    HEALPix: HEALPix(16),
    Icosahedral: Icosahedral(3),
}


def configuration(grid: Grid, kernel: Kernel) -> Configuration:
    radius = 2 * grid.spacing
    small = None if grid in SMALL.values() else configuration(SMALL[type(grid)], kernel)
    return Configuration(
        "disco_grids", grid, kernel, radius, 16, {"spheregeo": ours(grid, kernel, radius, 16)}, small
    )


def cases() -> list[Configuration]:
    return [configuration(grid, kernel) for kernel in (Morlet(3, 3), Rings(3)) for grid in GRIDS]
