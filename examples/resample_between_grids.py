"""One smooth field on five kinds of grid: its integral on each, and the error of moving it from grid to grid."""

from __future__ import annotations

import math

from torch import Tensor

import spheregeo as sg


def field(grid: sg.grids.Grid) -> Tensor:
    x, y, z = grid.points.unbind(-1)
    return (1 + x * y + z**3 + (2 * x).sin()).reshape(grid.shape)


grids = [
    sg.grids.Equiangular(48, 96),
    sg.grids.GaussLegendre(48, 96),
    sg.grids.HEALPix(16),
    sg.grids.Icosahedral(4),
    sg.grids.Fibonacci(4608),
]

print("integral over the sphere; 4 pi =", round(4 * math.pi, 6))
for grid in grids:
    integral = float((field(grid).flatten() * grid.areas).sum())
    print(f"  {grid!r:56} {grid.num_points:6} points  {integral:.6f}")

print("relative error of linear resampling")
for source in grids:
    errors = []
    for target in grids:
        wanted = field(target)
        got = sg.sampling.resample(field(source), source, target)
        errors.append(float((got - wanted).norm() / wanted.norm()))
    print(f"  {source!r:56}", *(f"{error:.0e}" for error in errors))
