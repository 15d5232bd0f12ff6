"""How far a DISCO layer is from commuting with rotations, measured with random weights on finer and finer grids."""

from __future__ import annotations

import torch

import spheregeo as sg

torch.manual_seed(0)


def error(grid: sg.grids.Grid, kernel: sg.kernels.Kernel, moments: int | None = 2, **cutoff: float) -> float:
    layer = sg.nn.DiscoConv(2, 2, grid, kernel=kernel, moments=moments, **cutoff)
    return sg.audit.equivariance_error(layer, grid)


print("relative equivariance error for signals of degree < 8")
print("isotropic kernel, cutoff of 2.5 grid spacings: plain quadrature, with moment correction")
for nside in (4, 8, 16):
    grid, rings = sg.grids.HEALPix(nside), sg.kernels.Rings(3)
    print(
        f"  {grid!r:32} {error(grid, rings, None, spacings=2.5):.1e}  {error(grid, rings, spacings=2.5):.1e}"
    )
print(
    "directional kernel, cutoff of 0.6 radians: it sits in the grid's own frame, which rotations do not keep"
)
for nside in (4, 8):
    grid = sg.grids.HEALPix(nside)
    print(f"  {grid!r:32} {error(grid, sg.kernels.Morlet(3, 3), radius=0.6):.1e}")
