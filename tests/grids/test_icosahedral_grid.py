"""Icosahedral grid: golden tables, charts, faces and invariance."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from spheregeo.grids import Icosahedral
from spheregeo.harmonics import real_harmonics

GOLDEN = Path(__file__).parents[2] / "meshes" / "icospheres"


@pytest.mark.parametrize("level", range(4))
def test_points_areas_and_faces_equal_the_golden_icosphere(level: int) -> None:
    grid, golden = Icosahedral(level), np.load(GOLDEN / f"icosphere_{level}.npz")
    distance, place = cKDTree(golden["vertices"]).query(grid.points.numpy())
    assert distance.max() < 1e-15 * 4 and sorted(place) == list(range(grid.num_points))
    np.testing.assert_allclose(grid.areas, golden["areas"][place], rtol=1e-12)

    def canonical(faces: np.ndarray) -> set[tuple[int, ...]]:  # the smallest corner first, orientation kept
        return {tuple(np.roll(face, -int(np.argmin(face))).tolist()) for face in faces}

    assert canonical(place[grid.faces.numpy()]) == canonical(golden["faces"].astype(int))


def test_areas_and_edges_of_every_level_equal_the_table() -> None:
    with open(GOLDEN / "levels.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["level"]) for row in rows] == list(range(6))
    for row in rows:
        grid = Icosahedral(int(row["level"]))
        assert (grid.num_points, len(grid.faces)) == (int(row["points"]), int(row["faces"]))
        ratio = (grid.areas.max() / grid.areas.min()).item()
        assert abs(ratio - float(row["area_ratio"])) < 2e-9
        corners = grid.points[grid.faces]
        arcs = 2 * torch.asin((corners - corners.roll(1, 1)).norm(dim=-1) / 2)
        assert abs(arcs.min().item() - float(row["shortest_edge"])) < 1e-9
        assert abs(arcs.max().item() - float(row["longest_edge"])) < 1e-9


@pytest.mark.parametrize("level", [0, 1, 2, 4])
def test_charts_cover_the_grid_and_neighbours_in_a_chart_are_neighbours_on_the_sphere(level: int) -> None:
    grid, n = Icosahedral(level), 2**level
    assert grid.side == n and grid.chart_index.shape == (5, n, 2 * n)
    assert torch.equal(grid.chart_index.reshape(-1), torch.arange(grid.num_points - 2))
    closed = grid.closed_chart_index
    assert torch.equal(closed[:, 1:, :-1], grid.chart_index)
    assert (closed >= 0).all() and len(closed.unique()) == grid.num_points
    p = grid.points[closed]
    longest = 1.3 * math.sqrt(4 * math.pi / grid.num_points)
    for a, b in ((p[:, 1:], p[:, :-1]), (p[:, :, 1:], p[:, :, :-1]), (p[:, 1:, :-1], p[:, :-1, 1:])):
        assert (a - b).norm(dim=-1).max() < longest


def test_chart_corners_are_where_the_docstring_says() -> None:
    grid, n = Icosahedral(3), 8
    closed, latitude = grid.closed_chart_index, math.atan(0.5)
    for k in range(5):
        for (i, j), lat, lon in (
            ((0, 0), math.pi / 2, 0), ((n, 0), latitude, 72 * k), ((0, n), latitude, 72 * (k + 1)),
            ((n, n), -latitude, 72 * k + 36), ((0, 2 * n), -latitude, 72 * k + 108), ((n, 2 * n), -math.pi / 2, 0),
        ):  # fmt: skip
            lon = math.radians(lon)
            expected = [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)]
            np.testing.assert_allclose(grid.points[closed[k, i, j]], expected, atol=1e-15)


@pytest.mark.parametrize("level", [0, 3])
def test_faces_are_a_closed_surface_turned_outwards(level: int) -> None:
    grid = Icosahedral(level)
    a, b, c = grid.points[grid.faces].unbind(1)
    assert (torch.linalg.det(torch.stack([a, b, c], 1)) > 0).all()
    directed = torch.cat([grid.faces[:, [0, 1]], grid.faces[:, [1, 2]], grid.faces[:, [2, 0]]])
    keys = set(map(tuple, directed.tolist()))
    assert len(keys) == len(directed) == 60 * 4**level, "an edge is used twice in one direction"
    assert all((q, p) in keys for p, q in keys)
    assert grid.num_points - len(directed) // 2 + len(grid.faces) == 2  # Euler


def test_areas_are_scipys_voronoi_areas() -> None:
    from scipy.spatial import SphericalVoronoi

    grid = Icosahedral(4)
    areas = SphericalVoronoi(grid.points.numpy(), threshold=1e-9).calculate_areas()
    np.testing.assert_allclose(grid.areas, areas, rtol=1e-11)


def test_degrees_without_an_icosahedral_invariant_integrate_exactly() -> None:
    grid = Icosahedral(2)
    integrals = (grid.areas[:, None] * real_harmonics(grid.points, 15)).sum(0).abs()
    worst = [integrals[d * d : (d + 1) ** 2].max().item() for d in range(16)]
    for degree in (1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 14):
        assert worst[degree] < 1e-13
    assert worst[6] > 1e-5, "degree 6 has an invariant: equal cells cannot make it vanish"


def test_a_fine_level_is_symmetric() -> None:
    grid = Icosahedral(6)
    symmetry = grid.symmetry
    assert symmetry.permutations.shape == (60, 40962)
    for g in range(0, 60, 7):
        assert (
            grid.points @ symmetry.rotations[g].T - grid.points[symmetry.permutations[g]]
        ).abs().max() < 1e-12


def test_coarse_points_are_among_the_fine_and_are_their_own_parents() -> None:
    coarse, fine = Icosahedral(2), Icosahedral(3)
    first = coarse.children()[:, 0]
    assert (fine.points[first] - coarse.points).abs().max() < 1e-15
    assert torch.equal(fine.parents()[first], torch.arange(coarse.num_points))
    assert (coarse.children()[-2:, 1:] == -1).all() and (coarse.children()[:-2] >= 0).all()
    # a midpoint is as near to its parent as to the other end of its edge
    distance = (fine.points - coarse.points[fine.parents()]).norm(dim=1)
    nearest = torch.cdist(fine.points, coarse.points).min(1).values
    assert (distance - nearest).max() < 1e-7  # cdist's own rounding
