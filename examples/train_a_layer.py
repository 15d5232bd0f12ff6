"""Learn the sphere's heat kernel from examples in plain PyTorch, then use the weights on another kind of grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import spheregeo as sg

RADIUS = math.radians(40)
TIME = 0.02  # of diffusion: degree l decays by exp(-l (l + 1) TIME)
LMAX = 8


def pairs(grid: sg.grids.Grid, n: int) -> tuple[Tensor, Tensor]:
    """Return n random smooth fields and the same after diffusion, exact in harmonics."""
    harmonics = sg.harmonics.real_harmonics(grid.points, LMAX)  # (N, (LMAX + 1)^2)
    degree = torch.cat([torch.full((2 * l + 1,), float(l)) for l in range(LMAX + 1)]).double()
    coefficients = torch.randn(n, len(degree), dtype=torch.float64)
    warm = coefficients @ harmonics.T
    cooled = (coefficients * torch.exp(-degree * (degree + 1) * TIME)) @ harmonics.T
    shape = (n, 1, *grid.shape)
    return warm.float().reshape(shape), cooled.float().reshape(shape)


def layer_on(grid: sg.grids.Grid) -> sg.nn.DiscoConv:
    return sg.nn.DiscoConv(1, 1, grid, kernel=sg.kernels.Rings(9), radius=RADIUS, bias=False)


def error(layer: torch.nn.Module, grid: sg.grids.Grid) -> float:
    x, wanted = pairs(grid, 16)
    with torch.no_grad():
        return float((layer(x) - wanted).norm() / wanted.norm())


torch.manual_seed(0)
coarse = sg.grids.Equiangular(32, 64)
layer = layer_on(coarse)
x, wanted = pairs(coarse, 16)
optimizer = torch.optim.LBFGS(layer.parameters(), line_search_fn="strong_wolfe")


def closure() -> float:
    optimizer.zero_grad()
    loss = (layer(x) - wanted).square().mean()
    loss.backward()
    return loss.item()


for step in range(4):
    print(f"step {step}  loss {optimizer.step(closure):.2e}")
print(f"relative error on new fields, same grid: {error(layer, coarse):.2%}")

fine = sg.grids.HEALPix(16)
other = layer_on(fine)
other.load_state_dict(layer.state_dict())  # a checkpoint holds weights alone
print(f"the same weights on {fine!r}: {error(other, fine):.2%}")
