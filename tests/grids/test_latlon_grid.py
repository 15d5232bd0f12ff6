"""Lat-lon grids: exact integration, pole rows, and large grids that stay cheap until asked."""

from __future__ import annotations

import math

import pytest
import torch

from spheregeo.grids import Equiangular, GaussLegendre, LatLon, clear_cache
from spheregeo.grids.cache import geometry
from spheregeo.harmonics import real_harmonics


@pytest.mark.parametrize(
    ("grid", "degree"),
    [
        (Equiangular(16, 17), 15), (Equiangular(17, 18, offset=-3.7), 17), (Equiangular(16, 17, poles=True), 15),
        (Equiangular(17, 18, poles=True), 17), (GaussLegendre(12, 24), 23), (GaussLegendre(13, 26, offset=0.5), 25),
    ],
    ids=str,
)  # fmt: skip
def test_harmonics_integrate_exactly_to_the_stated_degree_and_no_further(grid: LatLon, degree: int) -> None:
    integrals = (grid.areas[:, None] * real_harmonics(grid.points, degree + 1)).sum(0)
    integrals[0] -= math.sqrt(4 * math.pi)
    assert integrals[: (degree + 1) ** 2].abs().max() < 1e-12
    assert integrals[(degree + 1) ** 2 :].abs().max() > 1e-4


def test_positions_follow_the_conventions() -> None:
    grid = Equiangular(4, 8)
    assert torch.allclose(
        grid.colatitudes, torch.tensor([1, 3, 5, 7], dtype=torch.float64) * math.pi / 8, atol=1e-15
    )
    assert torch.allclose(grid.longitudes, torch.arange(8, dtype=torch.float64) * math.pi / 4, atol=1e-15)
    p = grid.points.reshape(4, 8, 3)
    assert (p[0, :, 2] > 0.9).all(), "row 0 is north"
    assert p[0, 2, 1] > 0.3 and p[0, 2, 0].abs() < 1e-16, "column 2 of 8 looks along +y"
    assert grid.spacing == math.pi / 4 and Equiangular(5, 8, poles=True).spacing == math.pi / 4
    assert GaussLegendre(4, 8).spacing == math.pi / 4


def test_pole_rows_are_exactly_at_the_poles_with_each_columns_own_frame() -> None:
    grid = Equiangular(5, 8, poles=True)
    p, f = grid.points.reshape(5, 8, 3), grid.frames.reshape(5, 8, 2, 3)
    assert torch.equal(p[0], torch.tensor([0, 0, 1.0], dtype=torch.float64).expand(8, 3))
    assert torch.equal(p[-1], torch.tensor([0, 0, -1.0], dtype=torch.float64).expand(8, 3))
    phi = grid.longitudes
    south = torch.stack([phi.cos(), phi.sin(), torch.zeros_like(phi)], -1)
    assert torch.allclose(f[0, :, 0], south) and torch.allclose(f[-1, :, 0], -south)
    assert torch.equal(f[0, :, 1], f[2, :, 1]), "east does not depend on the row"


def test_north_mirrors_south_to_the_bit() -> None:
    for grid in (Equiangular(9, 6), Equiangular(9, 6, poles=True), GaussLegendre(9, 6)):
        p = grid.points.reshape(9, 6, 3)
        assert torch.equal(p.flip(0) * torch.tensor([1.0, 1.0, -1.0]), p)
        assert torch.equal(grid.row_areas.flip(0), grid.row_areas)


def test_offset_is_in_columns_and_survives_the_hierarchy_exactly() -> None:
    photo = Equiangular(64, 128, offset=(1 - 128) / 2)
    assert abs(photo.longitudes[0].item() - (math.pi + math.pi / 128)) < 1e-15 * 8
    assert photo.coarsen() == Equiangular(32, 64, offset=(1 - 64) / 2), "half a photo is a photo"
    grid = Equiangular(64, 128)
    level = grid
    for _ in range(4):
        level = level.coarsen()
    for _ in range(4):
        level = level.refine()
    assert level == grid
    fine, coarse = GaussLegendre(8, 16), GaussLegendre(8, 16).coarsen()
    middle = fine.longitudes.reshape(-1, 2).mean(1)
    assert (middle - coarse.longitudes).abs().max() < 1e-15 * 4


def test_poles_grid_coarsens_to_every_second_row_and_column() -> None:
    fine = Equiangular(9, 16, poles=True)
    coarse = fine.coarsen()
    assert coarse == Equiangular(5, 8, poles=True) and coarse.refine() == fine
    assert (fine.points.reshape(9, 16, 3)[::2, ::2] - coarse.points.reshape(5, 8, 3)).abs().max() < 1e-15


def test_torch_harmonics_weights() -> None:
    th = pytest.importorskip("torch_harmonics.quadrature")
    for grid, name in (
        (Equiangular(33, 64, poles=True), "equiangular"),
        (GaussLegendre(32, 64), "legendre-gauss"),
    ):
        theta, weights = th.precompute_latitudes(grid.nlat, grid=name)
        assert (grid.colatitudes - theta).abs().max() < 1e-14
        assert (grid.row_areas - weights * 2 * math.pi / 64).abs().max() < 1e-15


def test_huge_grids_cost_little_until_points_are_asked_for() -> None:
    clear_cache()
    for grid in (Equiangular(4096, 8192), Equiangular(2048, 4096, poles=True)):
        rings = grid.rings
        assert rings.length.sum() == grid.num_points
        assert abs(grid.row_areas.sum().item() * grid.nlon / (4 * math.pi) - 1) < 1e-13
        assert grid.spacing < 2e-3
    assert geometry.nbytes < 2**20
