"""Directional filters and rotations: tangent fields beside filters that are tied to south and east.

Scalar -> directional -> scalar, random weights, random signals of degree < 8, float64. Gauge layers pass on vectors (order 1) and
are measured exactly: the second layer is evaluated at the turned points. torch-harmonics' layers (where installed) pass on 4
channels; its output is expanded in harmonics of degree < 16. ``--full`` takes all grids and both rotations of the documentation.
"""

from __future__ import annotations

import argparse

import torch

from spheregeo.grids import Equiangular, Grid, HEALPix, Icosahedral, Scattered
from spheregeo.groups import random_rotations
from spheregeo.harmonics import real_harmonics
from spheregeo.nn import GaugeConv

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--full", action="store_true", help="everything in the documentation")
options = parser.parse_args()
DEGREE = 8
draw = torch.Generator().manual_seed(0)
signals = torch.randn(DEGREE**2, 1, generator=draw, dtype=torch.float64)
turns = random_rotations(2 if options.full else 1, generator=draw)


def signal(points: torch.Tensor) -> torch.Tensor:
    return (real_harmonics(points, DEGREE - 1) @ signals).T


def relative(difference: torch.Tensor, to: torch.Tensor, grid: Grid) -> float:
    norm = [(grid.areas * v.square()).sum().sqrt() for v in (difference, to)]
    return float(norm[0] / norm[1])


@torch.no_grad()
def gauge_error(grid: Grid, spacings: float, moments: int | None) -> float:
    torch.manual_seed(0)
    how = {"spacings": spacings, "moments": moments}
    up = GaugeConv("1x0", "4x1", grid, **how).double()
    down = GaugeConv("4x1", "1x0", grid, **how).double()
    assert down.geometry is not None
    worst = 0.0
    for turn in turns:
        elsewhere = Scattered(grid.points @ turn, grid.areas)  # the points R^-1 p
        radius = spacings * grid.spacing
        there = GaugeConv("4x1", "1x0", grid, elsewhere, radius=radius, moments=moments).double()
        there.load_state_dict(down.state_dict())
        before = there(up(signal(grid.points).reshape(1, 1, *grid.shape))).flatten()
        after = down(up(signal(grid.points @ turn).reshape(1, 1, *grid.shape))).flatten()
        worst = max(worst, relative(after - before, after, grid))
    return worst


@torch.no_grad()
def fixed_error(size: tuple[int, int], cutoff: float) -> float:
    import torch_harmonics as th

    torch.manual_seed(0)
    grid = Equiangular(*size, poles=True)
    how = {"kernel_shape": (3, 3), "basis_type": "harmonic", "theta_cutoff": cutoff, "bias": False}
    up = th.DiscreteContinuousConvS2(1, 4, size, size, **how).double()
    down = th.DiscreteContinuousConvS2(4, 1, size, size, **how).double()
    weight = grid.areas.sqrt()[:, None]
    worst = 0.0
    for turn in turns:
        before, after = (
            down(up(signal(p).reshape(1, 1, *size))).reshape(-1, 1) for p in (grid.points, grid.points @ turn)
        )
        spectrum = torch.linalg.lstsq(
            weight * real_harmonics(grid.points, 2 * DEGREE - 1), weight * before
        ).solution
        expected = real_harmonics(grid.points @ turn, 2 * DEGREE - 1) @ spectrum
        worst = max(worst, relative((after - expected)[:, 0], after[:, 0], grid))
    return worst


full = [HEALPix(32), HEALPix(64), Equiangular(64, 128), Equiangular(128, 256), Icosahedral(5)]
columns = ((3.0, None), (8.0, None), (3.0, 3), (4.0, 3))
print("gauge layers" + 37 * " " + "".join(f"{s:g} h, D = {m}".rjust(16) for s, m in columns))
for grid in full if options.full else [HEALPix(16)]:
    print(f"{grid!s:49}" + "".join(f"{gauge_error(grid, s, m):16.1e}" for s, m in columns))
try:
    print("\nfilters tied to the frame (torch-harmonics)")
    for size in ((64, 128), (128, 256)) if options.full else ((64, 128),):
        row = [f"{fixed_error(size, k * torch.pi / (size[0] - 1)):9.2f} at {k} spacings" for k in (2, 4)]
        print(f"Equiangular{size}, poles" + "".join(row))
except ImportError:
    print("torch-harmonics is not installed")
