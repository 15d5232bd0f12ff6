"""HEALPix: healpy's numbering, hierarchy and symmetry at any nside."""

from __future__ import annotations

import time

import healpy
import numpy as np
import pytest
import torch

from spheregeo.grids import HEALPix
from spheregeo.groups import octahedral
from spheregeo.harmonics import real_harmonics


@pytest.mark.parametrize(
    ("nside", "order"), [(1, "ring"), (5, "ring"), (16, "ring"), (1, "nested"), (16, "nested")]
)
def test_angles_are_healpys(nside: int, order: str) -> None:
    grid = HEALPix(nside, order)
    theta, phi = healpy.pix2ang(nside, np.arange(grid.num_points), nest=order == "nested")
    np.testing.assert_allclose(grid.colatitude, theta, atol=1e-15)
    np.testing.assert_allclose(grid.longitude, phi, atol=1e-15)
    pixels = healpy.vec2pix(nside, *grid.points.numpy().T, nest=order == "nested")
    np.testing.assert_array_equal(pixels, np.arange(grid.num_points))


def test_orders_hold_the_same_pixels() -> None:
    ring, nested = HEALPix(8), HEALPix(8, order="nested")
    move = torch.from_numpy(healpy.nest2ring(8, np.arange(768)))
    assert (ring.points[move] - nested.points).abs().max() < 1e-15
    assert nested.rings is None


@pytest.mark.parametrize("grid", [HEALPix(2), HEALPix(6), HEALPix(16), HEALPix(8, order="nested")], ids=str)
def test_parents_hold_their_children(grid: HEALPix) -> None:
    """A child's centre lies inside its parent: healpy finds the parent's pixel there."""
    coarse = grid.coarsen()
    pixels = healpy.vec2pix(coarse.nside, *grid.points.numpy().T, nest=grid.nested)
    np.testing.assert_array_equal(grid.parents(), pixels)
    if not grid.nested and grid.nside & (grid.nside - 1) == 0:  # nested order: children of p are 4p, 4p+1, …
        first = healpy.ring2nest(grid.nside, coarse.children().numpy())
        np.testing.assert_array_equal(
            first, 4 * healpy.ring2nest(coarse.nside, np.arange(coarse.num_points))[:, None] + np.arange(4)
        )


def test_the_eight_rotations_and_no_other_octahedral_ones() -> None:
    from scipy.spatial import cKDTree

    grid = HEALPix(4)
    tree = cKDTree(grid.points.numpy())
    symmetric = [r for r in octahedral() if tree.query((grid.points @ r.T).numpy())[0].max() < 1e-12]
    assert len(symmetric) == len(grid.symmetry.rotations) == 8
    for rotation in symmetric:
        assert (grid.symmetry.rotations - rotation).abs().amax((1, 2)).min() < 1e-15


def test_symmetry_at_nside_256_is_quick_and_exact() -> None:
    grid = HEALPix(256)
    points = grid.points
    start = time.perf_counter()
    symmetry = grid.symmetry
    assert time.perf_counter() - start < 10  # 0.3 s alone; a search per rotation takes minutes
    for rotation, permutation in zip(symmetry.rotations, symmetry.permutations, strict=True):
        assert (points @ rotation.T - points[permutation]).abs().max() < 1e-12


def test_rings_of_a_large_grid_are_healpys() -> None:
    grid = HEALPix(1024)
    rings = grid.rings
    info = healpy.ringinfo(1024, np.arange(1, 4096))  # start, length, cos, sin, shifted
    np.testing.assert_array_equal(rings.start, info[0])
    np.testing.assert_array_equal(rings.length, info[1])
    np.testing.assert_allclose(rings.colatitude, np.arctan2(info[3], info[2]), atol=1e-15, rtol=1e-13)
    np.testing.assert_allclose(rings.phase, np.where(info[4], np.pi / info[1], 0), atol=1e-16)
    assert grid.num_points == 12582912 and abs(grid.spacing - 9.99e-4) < 1e-6


def test_integration_error() -> None:
    """Equal areas are no exact quadrature: 1.6e-3 at degree 2 and nside 8 (relative to Y_00), a quarter at twice the nside."""
    at_two, worst = [], []
    for nside in (8, 16, 32):
        grid = HEALPix(nside)
        integrals = (grid.areas[:, None] * real_harmonics(grid.points, 2 * nside)).sum(0) / (4 * np.pi) ** 0.5
        assert abs(integrals[0].item() - 1) < 1e-13
        assert integrals[1:4].abs().max() < 1e-13
        at_two.append(integrals[4:9].abs().max().item())
        worst.append(integrals[4:].abs().max().item())
    assert abs(at_two[0] - 1.62e-3) < 2e-5
    np.testing.assert_allclose(np.divide(at_two[:-1], at_two[1:]), 4, rtol=0.01)
    np.testing.assert_allclose(worst, [5.8e-3, 2.0e-3, 7.6e-4], rtol=0.02)
