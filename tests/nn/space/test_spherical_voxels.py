"""Spherical voxels: maps against loops over points and voxels, what is interpolated exactly, seams, turns, convolutions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spheregeo.nn.space.spherical_voxels import PointMaps, SphericalVoxelConv, SphericalVoxels
from spheregeo.sampling import random_rotations
from spheregeo.spectral import SHT, InverseSHT, rotate_coefficients

TURN = 2 * math.pi / 16  # a column of bandwidth 8


def ball(count: int) -> Tensor:
    torch.manual_seed(0)
    points = torch.randn(count, 3, dtype=torch.float64)
    return points / points.norm(dim=1).max()


def turn_about_z(angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


def test_means_are_those_of_a_loop_over_points_and_voxels() -> None:
    voxels, points = SphericalVoxels(3, 2, window=0.9, softness=0.7), ball(7)
    f, cloud = torch.randn(7, 2, dtype=torch.float64), torch.tensor([0, 0, 0, 0, 1, 1, 1])
    found = voxels(f, voxels.maps(points, cloud), 2).flatten(3)
    nodes = voxels.grid.points
    for b in range(2):
        for h in range(2):
            for n in range(len(nodes)):
                total, mass = torch.zeros(2, dtype=torch.float64), 0.7
                for p in (cloud == b).nonzero()[:, 0].tolist():
                    r = float(points[p].norm())
                    gap = math.acos(max(-1.0, min(1.0, float(points[p] @ nodes[n]) / r)))
                    w = max(0.0, 1 - gap / 0.9) * max(0.0, 1 - abs(2 * r - (h + 1)))
                    total, mass = total + w * f[p], mass + w
                assert torch.allclose(found[b, :, h, n], total / mass, atol=1e-9)


def test_constants_and_linear_functions_are_read_off_exactly_and_longitude_has_no_seam() -> None:
    voxels = SphericalVoxels(8, 4)
    shells = torch.arange(1.0, 5, dtype=torch.float64).view(4, 1, 1) / 4
    theta = voxels.grid.colatitudes.view(1, 16, 1)
    ones = torch.ones(4, 16, 16, dtype=torch.float64)
    angle = torch.rand(50, 2, dtype=torch.float64) * torch.tensor([2.5, 2 * math.pi]) + torch.tensor(
        [0.3, 0.0]
    )
    radius = 0.25 + 0.75 * torch.rand(50, dtype=torch.float64)
    a, b = angle.unbind(1)
    points = radius[:, None] * torch.stack([a.sin() * b.cos(), a.sin() * b.sin(), a.cos()], 1)
    field = torch.stack([ones, ones * shells, ones * theta, ones * torch.arange(16.0)])[None]
    y = voxels.to_points(field, voxels.maps(points))
    assert torch.allclose(y[:, :3], torch.stack([torch.ones_like(a), radius, a], 1), atol=1e-12)
    edge = torch.tensor(
        [[1.0, -1e-9, 0.0], [1.0, -math.tan(TURN / 2), 0.0], [1.0, 1e-9, 0.0]], dtype=torch.float64
    )
    seam = voxels.to_points(field, voxels.maps(edge / edge.norm(dim=1, keepdim=True)))[:, 3]
    assert torch.allclose(
        seam, torch.tensor([0.0, 7.5, 0.0], dtype=torch.float64), atol=1e-6
    )  # columns 15 and 0
    over = torch.zeros(1, 1, 4, 16, 16, dtype=torch.float64)
    over[0, 0, :, 0, 0], over[0, 0, :, 0, 8] = 1.0, 3.0  # the first row at longitudes 0 and π
    pole = voxels.to_points(over, voxels.maps(torch.tensor([[1e-9, 0.0, 1.0]], dtype=torch.float64)))
    assert float(pole) == pytest.approx(2.0, abs=1e-6)


def test_turns_by_whole_columns_are_exact_and_others_come_nearer_with_more_points() -> None:
    points, f = ball(60), torch.ones(60, 1, dtype=torch.float64)
    voxels = SphericalVoxels(8, 3, window=0.7)
    x = voxels(f, voxels.maps(points), 1)
    turned = voxels(f, voxels.maps(points @ turn_about_z(3 * TURN).T), 1)
    assert torch.allclose(turned, x.roll(3, -1), atol=1e-12)
    errors = []
    for b in (8, 16):
        some, rotation = (
            SphericalVoxels(b, 3, window=0.7),
            random_rotations(1, torch.Generator().manual_seed(0))[0],
        )
        sht = SHT(some.grid, 4)
        home, away = (sht(some(f, some.maps(p), 1)) for p in (points, points @ rotation.T))
        expected = rotate_coefficients(home, rotation)
        errors.append(float((away - expected).norm() / expected.norm()))
    assert errors[0] < 0.05 and errors[1] < 0.5 * errors[0]


def test_batches_are_loops_over_clouds_and_the_centre_is_harmless() -> None:
    voxels, points = SphericalVoxels(4, 3), ball(9)
    points[2] = 0.0
    both: PointMaps = voxels.maps(torch.cat([points, points.flip(0)]), torch.arange(2).repeat_interleave(9))
    f = torch.randn(18, 2, dtype=torch.float64)
    x = voxels(f, both, 2)
    assert torch.allclose(x[1:], voxels(f[9:], voxels.maps(points.flip(0)), 1))
    back = voxels.to_points(x, both)
    assert torch.allclose(back[:9], voxels.to_points(x[:1], voxels.maps(points)))
    assert bool((back[2] == 0).all()) and len(voxels.maps(points[:0]).voxel) == 0
    for bad, message in ((0.0, "window is 0.0"), (4.0, "window is 4.0")):
        with pytest.raises(ValueError, match=message):
            SphericalVoxels(4, 3, window=bad)
    with pytest.raises(ValueError, match="x has shape"):
        voxels.to_points(x[..., 1:], both)


@pytest.mark.parametrize("lift", [False, True])
def test_convolutions_commute_with_rotations_and_see_near_shells_alone(lift: bool) -> None:
    torch.manual_seed(0)
    voxels, rotation = SphericalVoxels(6, 4), random_rotations(1)[0]
    conv = SphericalVoxelConv(2, 3, voxels.grid, lmax=3, lift=lift).double()
    for parameter in conv.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    back = InverseSHT(voxels.grid, 3)
    c = torch.randn(1, 2, 4, 16, dtype=torch.float64)
    with torch.no_grad():
        y, turned = (SHT(voxels.grid, 3)(conv(back(part))) for part in (c, rotate_coefficients(c, rotation)))
    bound = 1e-2 if lift else 1e-12
    assert float((turned - rotate_coefficients(y, rotation)).norm() / y.norm()) < bound
    x = back(c).requires_grad_()
    conv(x)[0, :, 1].sum().backward()
    assert x.grad is not None and [float(g) > 0 for g in x.grad[0].abs().amax((0, 2, 3))] == [
        True,
        True,
        True,
        False,
    ]
    with pytest.raises(ValueError, match="taps is 2; expected an odd number"):
        SphericalVoxelConv(2, 3, voxels.grid, taps=2)
