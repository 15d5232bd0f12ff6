"""Grids and kernels as text: read back exactly, and nothing else is evaluated."""

from __future__ import annotations

import pytest

from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, HEALPix, Icosahedral
from spheregeo.kernels import PiecewiseLinear, Rings
from spheregeo.tasks import parse_grid, parse_kernel


@pytest.mark.parametrize(
    "grid",
    [
        Equiangular(4, 8),
        Equiangular(5, 8, poles=True),
        GaussLegendre(4, 8),
        HEALPix(2, order="nested"),
        Icosahedral(1),
        Fibonacci(50),
    ],
    ids=repr,
)
def test_grids_come_back(grid: object) -> None:
    assert parse_grid(repr(grid)) == grid


@pytest.mark.parametrize("kernel", [Rings(3), PiecewiseLinear(3, 4)], ids=repr)
def test_kernels_come_back(kernel: object) -> None:
    assert parse_kernel(repr(kernel)) == kernel


@pytest.mark.parametrize(
    "text",
    [
        "",
        "HEALPix",
        "os.system('x')",
        "__import__('os')",
        "Equiangular(open('x'))",
        "Grid()",
        "clear_cache()",
        "Torus(3)",
        "HEALPix(2, sides=3)",
        "HEALPix(0)",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        parse_grid(text)
