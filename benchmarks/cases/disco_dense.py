"""DISCO beside one dense matrix product in plain torch, on a grid small enough to hold the matrix."""

from __future__ import annotations

import torch

from cases.configuration import Configuration
from cases.layers import dense, ours
from measure import Work
from spheregeo.grids import Equiangular
from spheregeo.kernels import Rings


def same_sums(works: dict[str, Work]) -> None:
    """Check that both compute the same quadrature: with equal input and weights they give equal output."""
    mine, peer = works["spheregeo"], works["dense torch"]
    with torch.no_grad():
        for a, b in zip(mine.leaves, peer.leaves, strict=True):
            b.copy_(a)
        a, b = mine.forward(), peer.forward()
    error = float((a - b).norm() / b.norm())
    if not error < 1e-5:  # float32, sums of some hundred terms
        raise RuntimeError(
            f"spheregeo and the dense product differ by {error:.1e}; they should compute the same"
        )


def configuration(nlat: int) -> Configuration:
    grid, kernel = Equiangular(nlat, 2 * nlat), Rings(3)
    radius = 2 * grid.spacing
    small = None if nlat == 16 else configuration(16)
    builders = {
        "spheregeo": ours(grid, kernel, radius, 16, moments=None),
        "dense torch": dense(grid, kernel, radius, 16),
    }
    return Configuration("disco_dense", grid, kernel, radius, 16, builders, small, same_sums)


def cases() -> list[Configuration]:
    return [configuration(64)]
