"""Rotated signals: exact under the grids' symmetries, (R f)(p) = f(R⁻¹p), composition, and refusal of non-rotations."""

from __future__ import annotations

import math

import pytest
import torch

from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, Grid, HEALPix, Icosahedral, LatLon, Plane
from spheregeo.sampling import random_rotations, rotate, rotation_about, rotation_map, rotation_matrix

TILTED = rotation_about([1.0, 2.0, -0.5], math.radians(50))


@pytest.mark.parametrize("method", ["linear", "nearest"])
@pytest.mark.parametrize(
    "grid", [HEALPix(8), HEALPix(8, order="nested"), HEALPix(3), Icosahedral(2)], ids=str
)
def test_a_symmetry_of_the_grid_is_a_permutation(grid: Grid, method: str) -> None:
    symmetry = grid.symmetry
    assert symmetry is not None and len(symmetry.rotations) in (8, 60)
    x = torch.randn(2, grid.num_points, dtype=torch.float64)
    for rotation, permutation in zip(symmetry.rotations, symmetry.permutations):
        wanted = torch.empty_like(x)
        wanted[:, permutation] = x  # point i is carried to point permutation[i]
        assert (rotate(x, grid, rotation, method) - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("method", ["linear", "nearest"])
@pytest.mark.parametrize(
    "grid",
    [
        Equiangular(8, 16),
        Equiangular(9, 15, offset=-7.0),
        GaussLegendre(7, 20),
        Equiangular(9, 16, poles=True),
    ],
    ids=str,
)
def test_whole_columns_about_z_are_a_roll(grid: LatLon, method: str) -> None:
    x = torch.randn(grid.shape, dtype=torch.float64)
    if grid.colatitudes[0] == 0:  # a pole is one point
        x[[0, -1]] = x[[0, -1], :1]
    for k in (1, 3, -5):
        turned = rotate(x, grid, rotation_about([0.0, 0.0, 1.0], 2 * math.pi * k / grid.nlon), method)
        assert (turned - x.roll(k, dims=1)).abs().max() < 1e-12


@pytest.mark.parametrize("method", ["linear", "nearest"])
def test_a_half_turn_about_x_flips_a_lat_lon_grid(method: str) -> None:
    x = torch.randn(8, 16, dtype=torch.float64)
    turned = rotate(x, Equiangular(8, 16), rotation_about([1.0, 0.0, 0.0], math.pi), method)
    assert (turned - x.flip(0)[:, (-torch.arange(16)) % 16]).abs().max() < 1e-12


@pytest.mark.parametrize(
    "grid", [Equiangular(64, 128), HEALPix(32), Icosahedral(5), Fibonacci(12000)], ids=str
)
def test_the_value_at_p_comes_from_the_inverse_rotation(grid: Grid) -> None:
    def f(p: torch.Tensor) -> torch.Tensor:
        return 2 * p[:, 0] - p[:, 1] * p[:, 2] + p[:, 2] ** 3

    wanted = f(grid.points @ TILTED)  # R^-1 p, as rows
    turned = rotate(f(grid.points).reshape(grid.shape), grid, TILTED).flatten()
    assert (
        turned - wanted
    ).abs().max() < 2 * grid.spacing**2  # second derivatives below 6, / 8, two directions
    nearest = rotate(f(grid.points).reshape(grid.shape), grid, TILTED, "nearest").flatten()
    assert (nearest - wanted).abs().max() < 4 * grid.spacing  # slope below 5, times the cell's radius


def test_rotations_compose_to_second_order() -> None:
    first, second = rotation_about([0.3, -1.0, 0.2], 0.7), TILTED
    errors = []
    for k in (0, 1):
        grid = Equiangular(48 * 2**k, 96 * 2**k)
        p = grid.points
        x = (p[:, 0] * p[:, 1] + p[:, 2]).reshape(grid.shape)
        twice = rotate(rotate(x, grid, first), grid, second)
        error = (twice - rotate(x, grid, second @ first)).flatten()
        errors.append(float((error**2 @ grid.areas).sqrt()))
    assert errors[0] / errors[1] > 3.5


def test_the_map_is_the_function_and_its_adjoint_is_exact() -> None:
    for grid in (Equiangular(8, 16), HEALPix(4), Icosahedral(2)):
        a = rotation_map(grid, TILTED)
        x, y = torch.randn(2, grid.num_points, dtype=torch.float64)
        torch.testing.assert_close(
            rotate(x.reshape(grid.shape), grid, TILTED).flatten(), a(x), atol=1e-14, rtol=0
        )
        assert abs(a(x) @ y - x @ a.transpose()(y)) < 1e-12 * x.norm() * y.norm()


def test_gradients_and_dtypes() -> None:
    x = torch.randn(2, 4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: rotate(v, Equiangular(4, 8), TILTED), (x,))
    grid = HEALPix(4)
    x = torch.randn(192)
    exact = rotate(x.double(), grid, TILTED)
    for dtype, atol in ((torch.float32, 1e-6), (torch.bfloat16, 3e-2)):
        y = rotate(x.to(dtype), grid, TILTED)
        assert y.dtype == dtype
        torch.testing.assert_close(y.double(), exact, atol=atol, rtol=0)
    labels = torch.randint(0, 9, (192,), dtype=torch.uint8)
    assert rotate(labels, grid, TILTED, "nearest").dtype == torch.uint8
    with pytest.raises(TypeError, match="labels need 'nearest'"):
        rotate(labels, grid, TILTED)


def test_quaternions_are_w_x_y_z() -> None:
    half = 0.35
    quaternion = torch.tensor([math.cos(half), 0.0, 0.0, math.sin(half)])
    torch.testing.assert_close(
        rotation_matrix(quaternion), rotation_about([0, 0, 1], 2 * half), atol=1e-7, rtol=0
    )
    x = torch.randn(8, 16)
    torch.testing.assert_close(
        rotate(x, Equiangular(8, 16), quaternion.double()),
        rotate(x, Equiangular(8, 16), rotation_about([0, 0, 1], 0.7)),
    )


def test_float32_rotations_are_made_orthonormal_again() -> None:
    rotations = random_rotations(20, torch.Generator().manual_seed(3))
    cleaned = rotation_matrix(rotations.float())
    assert (cleaned @ cleaned.mT - torch.eye(3, dtype=torch.float64)).abs().max() < 1e-14
    assert (cleaned - rotations).abs().max() < 1e-6
    assert (
        torch.equal(rotation_matrix(rotations), rotations)
        or (rotation_matrix(rotations) - rotations).abs().max() < 1e-15
    )


@pytest.mark.parametrize(
    "rotation,message",
    [
        (2 * torch.eye(3), "not orthonormal.*off the identity by 3"),
        (torch.diag(torch.tensor([1.0, 1.0, -1.0])), "determinant -1, a reflection"),
        (torch.full((3, 3), torch.nan), "not orthonormal"),
        (torch.tensor([1.0, 1.0, 0.0, 0.0]), r"quaternion of length 1.41421.*\(w, x, y, z\)"),
        (torch.eye(2), r"rotation has shape \(2, 2\), expected \(3, 3\)"),
        (torch.eye(3).expand(5, 3, 3), "rotation holds 5 rotations, expected one"),
    ],
)
def test_what_is_no_rotation_is_refused(rotation: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rotate(torch.zeros(4, 8), Equiangular(4, 8), rotation)


def test_other_errors() -> None:
    with pytest.raises(ValueError, match=r"grid is Plane.*on the sphere"):
        rotate(torch.zeros(4, 4), Plane(4, 4), torch.eye(3))
    with pytest.raises(ValueError, match="method is 'average', expected one of 'linear', 'nearest'"):
        rotate(torch.zeros(12), HEALPix(1), torch.eye(3), "average")
    with pytest.raises(
        ValueError, match="x has 48 on its last axis, grid has 12 points; did you build the grid with nside=2"
    ):
        rotate(torch.zeros(48), HEALPix(1), torch.eye(3))
