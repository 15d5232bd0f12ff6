"""Fibonacci grid: formula and measured integration error."""

from __future__ import annotations

import math

import pytest
import torch

from spheregeo.grids import Fibonacci, Scattered
from spheregeo.harmonics import real_harmonics


def test_formula() -> None:
    grid = Fibonacci(50)
    i = torch.arange(50, dtype=torch.float64)
    assert (grid.points[:, 2] - (1 - (2 * i + 1) / 50)).abs().max() < 1e-15
    phi = (i * math.pi * (3 - math.sqrt(5))).remainder(2 * math.pi)
    assert (grid.longitude - phi).abs().max() < 1e-13
    assert torch.equal(grid.areas, torch.full((50,), 4 * math.pi / 50, dtype=torch.float64))


@pytest.fixture(scope="module")
def errors() -> dict[str, list[float]]:
    grid = Fibonacci(8000)
    values = real_harmonics(grid.points, 16)

    def worst(areas: torch.Tensor) -> list[float]:
        integrals = (areas[:, None] * values).sum(0).abs()
        return [integrals[d * d : (d + 1) ** 2].max().item() / math.sqrt(4 * math.pi) for d in (2, 8, 16)]

    return {"equal": worst(grid.areas), "voronoi": worst(Scattered(grid.points).areas)}


def test_equal_weights_integrate_better_than_voronoi_areas(errors: dict[str, list[float]]) -> None:
    # relative to the integral of Y_00; measured 1.6e-6, 1.0e-5, 2.8e-5 against 8e-6, 7e-5, 1.9e-4
    for got, most in zip(errors["equal"], (1.7e-6, 1.1e-5, 3e-5), strict=True):
        assert most / 2 < got < most
    for equal, voronoi in zip(errors["equal"], errors["voronoi"], strict=True):
        assert voronoi > 4 * equal


def test_levels_have_a_quarter_of_the_points() -> None:
    assert Fibonacci(64).coarsen() == Fibonacci(16) and Fibonacci(16).refine() == Fibonacci(64)
