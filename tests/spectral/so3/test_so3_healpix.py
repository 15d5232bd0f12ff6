"""Rotations of equal volume, and functions on SO(3) there and anywhere, beside the matrices of Euler angles."""

from __future__ import annotations

import math

import pytest
import torch

from spheregeo.grids import clear_cache
from spheregeo.groups import axis_angle, euler_angles, random_rotations, rotation_angle, rotation_from_6d
from spheregeo.nn.sphere.spectral.kernels import rotation_blocks
from spheregeo.spectral import InverseSO3Transform, SO3Grid, SO3HEALPix, evaluate_so3, synthesise_on
from spheregeo.spectral.so3.evaluation import PIXELS, so3_degree


@pytest.mark.parametrize("nside", [1, 2, 4])
def test_a_grid_of_rotations(nside: int) -> None:
    grid = SO3HEALPix(nside)
    rotations = grid.rotations
    assert rotations.shape == (72 * nside**3, 3, 3) == (grid.num_rotations, 3, 3)
    assert grid.volume * grid.num_rotations == pytest.approx(math.pi**2)
    assert (rotations @ rotations.mT - torch.eye(3)).abs().max() < 1e-14
    assert torch.linalg.det(rotations).min() > 0.999
    given = random_rotations(100, torch.Generator().manual_seed(nside))
    nearest = grid.nearest(given)
    traces = torch.einsum("gij,bij->bg", rotations, given)
    assert torch.equal(nearest, traces.argmax(1))  # brute force
    assert torch.equal(grid.nearest(rotations), torch.arange(len(rotations)))
    moved = grid.nearest(axis_angle((0, 0, 1), math.pi / 2) @ rotations)
    assert torch.equal(moved.sort().values, torch.arange(len(rotations)))  # quarter turns permute it
    assert (axis_angle((0, 0, 1), math.pi / 2) @ rotations - rotations[moved]).abs().max() < 1e-14


def test_cells_of_half_the_size() -> None:
    coarse, fine = SO3HEALPix(4), SO3HEALPix(8)
    children = coarse.children(torch.arange(coarse.num_rotations))
    assert torch.equal(children.flatten().sort().values, torch.arange(fine.num_rotations))  # each once
    away = rotation_angle(coarse.rotations[:, None], fine.rotations[children])
    assert 0.07 < away.min() < away.max() < math.radians(9.2)  # a cell is 15 degrees wide
    with pytest.raises(ValueError, match="power of two"):
        SO3HEALPix(6)


def test_distances_to_the_nearest_rotation() -> None:
    given = random_rotations(400, torch.Generator().manual_seed(0))
    for nside, median, most in ((4, 7.3, 13), (8, 3.7, 6.2)):
        grid = SO3HEALPix(nside)
        angle = torch.rad2deg(rotation_angle(grid.at(grid.nearest(given)), given))
        assert abs(float(angle.median()) - median) < 0.3 and float(angle.max()) < most


def test_values_are_those_of_euler_angles_and_of_the_transform() -> None:
    lmax, generator = 4, torch.Generator().manual_seed(1)
    h = torch.randn(3, 165, dtype=torch.float64, generator=generator)
    rotations = random_rotations(20, generator)
    blocks = rotation_blocks(*euler_angles(rotations), lmax)
    table = torch.cat([block.flatten(-2) for block in blocks], -1)
    assert (evaluate_so3(h, rotations[None]) - h @ table.T).abs().max() < 1e-12
    assert (evaluate_so3(h, rotations.expand(3, -1, 3, 3)) - h @ table.T).abs().max() < 1e-12
    euler = SO3Grid(lmax + 1)
    values = InverseSO3Transform(lmax, euler)(h).flatten(1)
    assert (evaluate_so3(h, euler.rotations.reshape(1, -1, 3, 3)) - values).abs().max() < 1e-12


def test_factors_give_the_values_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    h = torch.randn(2, 84, dtype=torch.float64, requires_grad=True)
    grid = SO3HEALPix(2)
    slow = evaluate_so3(h, grid.rotations[None])
    weight = torch.randn_like(slow)
    expected = torch.autograd.grad((slow * weight).sum(), h)[0]
    for pixels in (PIXELS, 7):
        monkeypatch.setattr("spheregeo.spectral.so3.evaluation.PIXELS", pixels)
        clear_cache()  # of tables for another number of pixels
        fast = synthesise_on(h, grid)
        assert (fast - slow).abs().max() < 1e-12
        assert (torch.autograd.grad((fast * weight).sum(), h)[0] - expected).abs().max() < 1e-11
    clear_cache()


def test_what_does_not_fit_is_refused() -> None:
    assert so3_degree(455) == 6
    with pytest.raises(ValueError, match="coefficients has 12 numbers"):
        evaluate_so3(torch.zeros(1, 12), torch.eye(3)[None, None])
    with pytest.raises(ValueError, match="rotations has shape"):
        evaluate_so3(torch.zeros(2, 10), torch.eye(3)[None])


def test_six_numbers_and_angles() -> None:
    rotations = random_rotations(50, torch.Generator().manual_seed(0))
    six = torch.cat([3 * rotations[..., 0], 2 * rotations[..., 1] - rotations[..., 0]], -1)
    assert (rotation_from_6d(six) - rotations).abs().max() < 1e-14
    for angle in (1e-7, 0.3, math.pi - 1e-6, math.pi):
        turned = rotations @ axis_angle((1, 2, -1), angle)
        assert (rotation_angle(rotations, turned) - angle).abs().max() < 1e-14 + 1e-8 * (angle > 3)
    with pytest.raises(ValueError, match="x has shape"):
        rotation_from_6d(torch.zeros(5))
