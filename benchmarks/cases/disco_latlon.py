"""Layers on lat-lon grids beside torch-harmonics: DISCO with 9 directional functions and 2 isotropic ones at a cutoff of 2 grid
spacings, and attention in neighbourhoods at torch-harmonics' default cutoff of one.
"""

from __future__ import annotations

import math

from cases.configuration import Configuration
from cases.layers import attention, ours, torch_harmonics, torch_harmonics_attention
from spheregeo.grids import Equiangular
from spheregeo.kernels import Kernel, Morlet, Rings

SIZES = ((128, 256), (256, 512), (512, 1024))
BASES: tuple[tuple[Kernel, str, int | tuple[int, int]], ...] = (
    (Morlet(3, 3), "harmonic", (3, 3)),
    (Rings(3), "piecewise linear", 3),
)


def configuration(
    shape: tuple[int, int], kernel: Kernel, basis: str, size: int | tuple[int, int]
) -> Configuration:
    grid = Equiangular(*shape, poles=True)
    cutoff = 2 * math.pi / (shape[0] - 1)
    small = None if shape == (32, 64) else configuration((32, 64), kernel, basis, size)
    builders = {
        "spheregeo": ours(grid, kernel, cutoff, 16),
        "torch-harmonics": torch_harmonics(shape, basis, size, cutoff, 16),
    }
    return Configuration("disco_latlon", grid, kernel, cutoff, 16, builders, small)


def neighborhoods(shape: tuple[int, int]) -> Configuration:
    grid, position = Equiangular(*shape, poles=True), Rings(5)
    cutoff = math.pi / (shape[0] - 1)
    small = None if shape == (32, 64) else neighborhoods((32, 64))
    builders = {
        "spheregeo": attention(grid, position, cutoff, 16),
        "torch-harmonics": torch_harmonics_attention(shape, cutoff, 16),
    }
    return Configuration("attention", grid, position, cutoff, 16, builders, small)


def cases() -> list[Configuration]:
    disco = [configuration(shape, *basis) for basis in BASES for shape in SIZES]
    return [*disco, *(neighborhoods(shape) for shape in SIZES[:2])]
