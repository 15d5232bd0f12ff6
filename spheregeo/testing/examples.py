"""Small instances of every public grid and kernel, for tests of layers that must work with all of them."""

from __future__ import annotations

import torch

from spheregeo.grids import (
    Equiangular,
    Fibonacci,
    GaussLegendre,
    Grid,
    HEALPix,
    Icosahedral,
    Plane,
    Scattered,
)
from spheregeo.kernels import (
    CircularHarmonics,
    FourierBessel,
    GaussianRings,
    Kernel,
    Morlet,
    PiecewiseLinear,
    PolarKernel,
    Rings,
    Zernike,
)


def small_grids(*, spheres_only: bool = True) -> list[Grid]:
    """At least one grid of each public class, 40 to 130 points each, every option among them.

    Args:
        spheres_only: leave out grids on the plane.

    Example:
        >>> all(grid.num_points < 150 for grid in small_grids())
        True
    """
    directions = torch.randn(70, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spheres: list[Grid] = [
        Equiangular(8, 16),
        Equiangular(7, 12, offset=0.3),
        Equiangular(7, 12, poles=True),
        GaussLegendre(6, 16),
        HEALPix(2),
        HEALPix(2, order="nested"),
        Icosahedral(1),
        Fibonacci(60),
        Scattered(directions / directions.norm(dim=1, keepdim=True)),
    ]
    return spheres if spheres_only else [*spheres, Plane(6, 8), Plane(5, 8, pixel=0.5)]


def small_kernels() -> list[Kernel]:
    """At least one kernel of each public class, 2 to 14 functions each, every option among them.

    Example:
        >>> max(kernel.num_functions for kernel in small_kernels())
        14
    """
    return [
        Rings(3),
        Rings(4),
        PiecewiseLinear(3, 3),
        PiecewiseLinear(4, 3),
        GaussianRings(3),
        CircularHarmonics(2, 3),
        Zernike(3),
        Morlet(3, 3),
        Morlet(2, 2, normalized=False),
        FourierBessel(2, 2),
        PolarKernel(Rings(3), 2),
        PolarKernel(GaussianRings(2), 1, smooth=False),
    ]
