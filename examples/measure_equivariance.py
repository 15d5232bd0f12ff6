"""Measure equivariance errors: one layer, a net with an activation on finer and finer grids, a directional kernel.

``--full`` measures the tables of docs/guides/equivariance.md: all grids, nside 64, both activations (several minutes).
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from torch import nn

import spheregeo as sg
from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, Grid, HEALPix, Icosahedral

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--full", action="store_true", help="everything in the documentation")
parser.add_argument("--rotations", type=int, help="rotations for each figure (default: 1, 3 with --full)")
parser.add_argument("--plot", metavar="FILE", help="also draw the nets' errors against the grids' spacing")
options = parser.parse_args()
rotations = options.rotations or (3 if options.full else 1)
torch.manual_seed(0)


def error(module: nn.Module, grid: Grid, **how: Any) -> float:
    return sg.audit.equivariance_error(module, grid, num_rotations=rotations, **how)


def conv(grid: Grid, inputs: int = 2, outputs: int = 2, **how: Any) -> sg.nn.DiscoConv:
    cutoff = {} if "radius" in how else {"spacings": 2}
    return sg.nn.DiscoConv(inputs, outputs, grid, **{"kernel": sg.kernels.Rings(3), **cutoff, **how})


print("one isotropic layer, cutoff of 2 spacings, no bias")
print(f"{'grid':24}{'coefficients':26}{'l < 8':>9}{'l < 16':>9}{'l < 8, resampled':>18}")
one_layer = [GaussLegendre(64, 128), Equiangular(64, 128), Equiangular(65, 128, poles=True)]
for grid in one_layer if options.full else one_layer[:1]:
    layers = {
        "moments=2": conv(grid, bias=False),
        "moments=0": conv(grid, bias=False, moments=0),
        "moments=None": conv(grid, bias=False, moments=None),
        # the coefficients of torch-harmonics with its default normalisation and its widened cutoff
        'normalization="nodal"': conv(grid, bias=False, normalization="nodal", radius=2.002 * grid.spacing),
    }
    for name, layer in layers.items():
        found = [
            error(layer, grid, lmax=8),
            error(layer, grid, lmax=16),
            error(layer, grid, method="resample"),
        ]
        print(
            f"{type(grid).__name__:14}{grid.shape!s:10}{name:26}{found[0]:9.1e}{found[1]:9.1e}{found[2]:18.1e}"
        )

ladders: dict[str, list[Grid]] = {
    "HEALPix": [HEALPix(n) for n in (16, 32, 64)],
    "Equiangular": [Equiangular(n, 2 * n) for n in (32, 64, 128)],
    "GaussLegendre": [GaussLegendre(n, 2 * n) for n in (32, 64, 128)],
    "Icosahedral": [Icosahedral(level) for level in (4, 5, 6)],
    "Fibonacci": [Fibonacci(n) for n in (3072, 12288, 49152)],
}
print(
    "\ntwo isotropic layers of 8 channels with an activation between, on grids each twice as fine as the last"
)
lines: dict[str, list[tuple[float, float]]] = {}
for name, grids in ladders.items() if options.full else [("HEALPix", ladders["HEALPix"][:2])]:
    for activation in (nn.GELU(), nn.ReLU()) if options.full else (nn.GELU(),):
        for lmax in (8, 16):
            label = f"{name}, {type(activation).__name__}, l < {lmax}"
            lines[label] = []
            for grid in grids:
                net = nn.Sequential(conv(grid, 2, 8), activation, conv(grid, 8, 2))
                lines[label].append((grid.spacing, error(net, grid, lmax=lmax)))
            print(f"{label:30}" + "".join(f"{value:9.1e}" for _, value in lines[label]), flush=True)
if options.plot:
    sg.audit.plot_equivariance(lines, path=options.plot)

print("\none directional layer of 16 channels, Morlet(3, 3) in the grid's frame, no bias: l < 8")
print(f"{'grid':24}{'coefficients':26}{'radius':>8}{'SO(3)':>9}{'about z':>9}{'whole columns':>15}")
for nlat in (64, 128) if options.full else (64,):
    grid = GaussLegendre(nlat, 2 * nlat)
    for name, how in {"moments=2": {}, 'normalization="nodal"': {"normalization": "nodal"}}.items():
        for radius in (math.pi / 32, math.pi / 16):
            layer = conv(grid, 16, 16, kernel=sg.kernels.Morlet(3, 3), radius=radius, bias=False, **how)
            found = [
                error(layer, grid, group=group, max_points=2048) for group in ("so3", "azimuthal", "grid")
            ]
            print(f"{type(grid).__name__:14}{grid.shape!s:10}{name:26}", end="")
            print(f"{radius:8.3f}{found[0]:9.1e}{found[1]:9.1e}{found[2]:15.1e}", flush=True)
