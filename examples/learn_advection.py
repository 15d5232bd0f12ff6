"""Learning how a flow carries a tracer: directional filters on the icosahedron can, isotropic ones cannot.

A stream function psi and a tracer q are given; wanted is n · (grad psi x grad q), the rate at which the flow takes the tracer
away. It changes sign in a mirror. Isotropic filters do not know a mirror image from its original, so they end at the mean.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

import spheregeo as sg

GRID = sg.grids.Icosahedral(3)
POINTS = GRID.points.float()


def bumps(count: int) -> tuple[Tensor, Tensor]:
    """Sums of bumps at random places, and their gradients in space. Shapes: (count, N), (count, N, 3)."""
    centres = torch.nn.functional.normalize(torch.randn(count, 12, 3), dim=2)
    heights = torch.randn(count, 12)
    each = heights[:, :, None] * torch.exp(6 * (centres @ POINTS.T - 1))  # (count, 12, N)
    return each.sum(1), 6 * torch.einsum("bkp,bkx->bpx", each, centres)


def draw(count: int) -> tuple[Tensor, Tensor]:
    """Inputs (count, 2, N), and the advection (count, N), of unit variance."""
    psi, flow = bumps(count)
    q, slope = bumps(count)
    advection = (torch.linalg.cross(flow, slope) * POINTS).sum(2)
    return torch.stack([psi, q], 1), advection / 2


def train(name: str, steps: int) -> float:
    """Share of the variance that the network explains on 64 fields that were not trained on."""
    torch.manual_seed(0)
    model = sg.models.create(name, 2, 1, GRID, width=4, depth=2)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        x, target = draw(8)
        loss = (model(x)[:, 0] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        x, target = draw(64)
        return 1 - float((model(x)[:, 0] - target).square().mean() / target.var())


print("explained variance of the advection of a tracer")
for name, filters in (("sphere-unet-small", "isotropic"), ("icosahedral-unet", "directional")):
    start = time.perf_counter()
    explained = train(name, steps=100)
    print(f"  {name:18} {filters:12} {explained:6.3f}   ({time.perf_counter() - start:.0f} s)")
