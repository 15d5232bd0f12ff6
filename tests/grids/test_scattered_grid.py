"""Scattered points: Voronoi areas, value semantics, and clear refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spheregeo.grids import Fibonacci, HEALPix, Scattered
from spheregeo.harmonics import real_harmonics


def random_points(n: int, seed: int = 0) -> torch.Tensor:
    p = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return p / p.norm(dim=1, keepdim=True)


def test_voronoi_areas_integrate_random_points_far_better_than_equal_ones() -> None:
    grid = Scattered(random_points(2000))
    values = real_harmonics(grid.points, 2)[:, 4:]
    voronoi = (grid.areas[:, None] * values).sum(0).abs().max()
    equal = (4 * math.pi / 2000 * values.sum(0)).abs().max()
    assert voronoi < 2e-3 < 5e-2 < equal  # over five draws 7e-4 to 2e-3, and 0.09 to 0.25


def test_octahedron_has_equal_areas() -> None:
    grid = Scattered([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    assert (grid.areas - 4 * math.pi / 6).abs().max() < 1e-14
    assert torch.equal(grid.frames[4], torch.tensor([[1.0, 0, 0], [0, 1.0, 0]], dtype=torch.float64))
    assert torch.equal(grid.frames[5], torch.tensor([[-1.0, 0, 0], [0, 1.0, 0]], dtype=torch.float64))


def test_value_is_that_of_points_and_given_areas() -> None:
    p = random_points(30)
    grid = Scattered(p)
    assert Scattered(p.numpy()) == Scattered(p.tolist()) == grid and hash(Scattered(p.clone())) == hash(grid)
    assert Scattered(p.flip(0)) != grid and Scattered(p, areas=grid.areas) != grid
    areas = torch.linspace(0.1, 0.5, 30, dtype=torch.float64)
    assert Scattered(p, areas) == Scattered(p, areas.tolist()) != Scattered(p, areas * 2)
    assert torch.equal(Scattered(p, areas).areas, areas)
    p[0] = 7.0
    assert (grid.points[0].norm() - 1).abs() < 1e-15, "the grid shares memory with its argument"
    assert str(grid).startswith("Scattered(30 points, sha256 ") and len(str(grid)) < 50


def test_float32_points_are_normalised_once_and_for_all() -> None:
    p = random_points(500).float()
    grid = Scattered(p)
    assert (grid.points.norm(dim=1) - 1).abs().max() < 1e-15
    assert (grid.points - p).abs().max() < 1e-7
    assert Scattered(grid.points) == grid


def test_other_grids_may_be_given_as_points() -> None:
    grid = Scattered(HEALPix(4).points)
    assert grid.num_points == 192 and abs(grid.areas.sum().item() - 4 * math.pi) < 1e-12
    # HEALPix pixels have equal area, their Voronoi cells do not quite
    assert (grid.areas / HEALPix(4).areas - 1).abs().max() < 0.25


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda p: p.__setitem__(3, 2 * p[3]), r"points\[3\] has length 2, expected unit vectors"),
        (lambda p: p.__setitem__((2, 1), float("nan")), "1 points are NaN or infinite, the first at index 2"),
        (lambda p: p.__setitem__(7, p[4]), r"points\[4\] and points\[7\] coincide"),
        (lambda p: p.__setitem__(slice(None), 0.0), "has length 0"),
    ],
)
def test_bad_points_are_refused(change, what: str) -> None:
    p = random_points(10).numpy()
    change(p)
    with pytest.raises(ValueError, match=what):
        Scattered(p)


def test_bad_shapes_and_areas_are_refused() -> None:
    p = random_points(10)
    for points, what in (
        (p[:, :2], r"shape \(10, 2\)"),
        (p[0], r"shape \(3,\)"),
        (p[:0], r"shape \(0, 3\)"),
        ([["a"] * 3], "numbers"),
    ):
        with pytest.raises(ValueError, match=what):
            Scattered(points)
    for areas, what in (
        (torch.ones(9), r"shape \(9,\), expected \(10,\)"),
        (-torch.ones(10), "not negative"),
        ([np.inf] * 10, "finite"),
    ):
        with pytest.raises(ValueError, match=what):
            Scattered(p, areas)
    with pytest.raises(ValueError, match="3 points have no Voronoi cells, 4 are needed; pass areas="):
        Scattered(p[:3])
    assert Scattered(p[:1], areas=[4 * math.pi]).num_points == 1
    circle = torch.arange(6, dtype=torch.float64)
    flat = Scattered(torch.stack([circle.cos(), circle.sin(), torch.zeros_like(circle)], -1))
    with pytest.raises(ValueError, match="in one plane"):
        _ = flat.areas


def test_voronoi_of_an_even_grid_is_even() -> None:
    ratio = Scattered(Fibonacci(8000).points).areas
    assert 1.05 < (ratio.max() / ratio.min()).item() < 1.2  # 1.12 measured
