"""Real harmonics against scipy, e3nn, closed forms and measured tables."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.grids import Equiangular, GaussLegendre
from spheregeo.groups import random_rotations
from spheregeo.harmonics import real_harmonics
from spheregeo.harmonics.spherical_harmonics import stable_harmonics


@pytest.fixture
def points() -> torch.Tensor:
    p = torch.randn(200, 3, dtype=torch.float64)
    p = p / p.norm(dim=1, keepdim=True)
    poles = torch.tensor([[0, 0, 1.0], [0, 0, -1.0], [1, 0, 0], [0, -1, 0]], dtype=torch.float64)
    return torch.cat([p, poles])


def test_low_degrees_in_closed_form(points: torch.Tensor) -> None:
    x, y, z = points.T
    c = math.sqrt(1 / (4 * math.pi))
    expected = torch.stack(
        [
            torch.full_like(x, c), math.sqrt(3) * c * y, math.sqrt(3) * c * z, math.sqrt(3) * c * x,
            math.sqrt(15) * c * x * y, math.sqrt(15) * c * y * z, math.sqrt(5) / 2 * c * (3 * z * z - 1),
            math.sqrt(15) * c * x * z, math.sqrt(15) / 2 * c * (x * x - y * y),
        ], -1,
    )  # fmt: skip
    assert (real_harmonics(points, 2) - expected).abs().max() < 1e-15 * 4


def test_scipy_agrees_up_to_degree_100(points: torch.Tensor) -> None:
    from scipy.special import sph_harm_y

    lmax = 100
    x, y, z = points.numpy().T
    theta, phi = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    got = real_harmonics(points, lmax)
    worst = 0.0
    for degree in (1, 2, 17, 63, 100):
        for m in range(degree + 1):
            value = sph_harm_y(degree, m, theta, phi) * (1 if m == 0 else math.sqrt(2) * (-1) ** m)
            centre = degree * degree + degree
            worst = max(worst, np.abs(got[:, centre + m].numpy() - value.real).max())
            if m:
                worst = max(worst, np.abs(got[:, centre - m].numpy() - value.imag).max())
    assert worst < 1e-12  # rounding of the recurrence over 100 degrees


def test_e3nn_agrees_with_axes_cycled(points: torch.Tensor) -> None:
    from e3nn import o3

    x, y, z = points.T
    cycled = torch.stack([y, z, x], -1)
    expected = o3.spherical_harmonics(list(range(9)), cycled, normalize=False, normalization="integral")
    assert (real_harmonics(points, 8) - expected).abs().max() < 1e-13


@pytest.mark.parametrize(
    "grid", [GaussLegendre(33, 66), Equiangular(65, 66), Equiangular(65, 66, poles=True, offset=0.3)]
)
def test_gram_matrix_is_the_identity_on_exact_grids(grid) -> None:
    values = real_harmonics(grid.points, 32)
    gram = values.T @ (grid.areas[:, None] * values)
    assert (gram - torch.eye(33**2, dtype=torch.float64)).abs().max() < 1e-12


def test_high_degrees_stay_normalised() -> None:
    # Addition theorem: the squares of degree l sum to (2l + 1)/4pi, at every point
    theta = torch.tensor([0.0, 1e-9, 1e-3, 0.1, 1.0, math.pi / 2, 3.1, math.pi], dtype=torch.float64)
    p = torch.stack([theta.sin() * math.cos(2), theta.sin() * math.sin(2), theta.cos()], -1)
    lmax = 400
    squares = real_harmonics(p, lmax) ** 2
    for degree in (1, 50, 300, 400):
        total = squares[:, degree**2 : (degree + 1) ** 2].sum(1) * 4 * math.pi / (2 * degree + 1)
        assert (total - 1).abs().max() < 1e-10


def test_each_degree_rotates_within_itself(points: torch.Tensor) -> None:
    rotation = random_rotations(1)[0]
    here, there = real_harmonics(points, 6), real_harmonics(points @ rotation.T, 6)
    for degree in range(7):
        block = slice(degree**2, (degree + 1) ** 2)
        matrix = torch.linalg.lstsq(here[:, block], there[:, block]).solution
        assert (here[:, block] @ matrix - there[:, block]).abs().max() < 1e-12
        assert (matrix @ matrix.T - torch.eye(2 * degree + 1)).abs().max() < 1e-12


def test_shapes_and_errors() -> None:
    p = torch.tensor([0.0, 0.6, 0.8])
    assert real_harmonics(p, 3).shape == (16,)
    assert real_harmonics(p.expand(2, 5, 3), 0).shape == (2, 5, 1)
    assert real_harmonics(p, 1).dtype == torch.float64
    with pytest.raises(ValueError, match="unit vectors"):
        real_harmonics(2 * p, 1)
    with pytest.raises(ValueError, match="unit vectors"):
        real_harmonics(p * float("nan"), 1)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        real_harmonics(p[:2], 1)
    with pytest.raises(ValueError, match="lmax is -1"):
        real_harmonics(p, -1)
    with pytest.raises(ValueError, match="lmax is 1901"):
        real_harmonics(p, 1901)


@pytest.mark.realdata
def test_reference_values(real_data: Path) -> None:
    table = json.loads((real_data / "reference" / "spherical_harmonics_test.json").read_text())
    p = torch.tensor(table["unit_vectors"], dtype=torch.float64)
    # (point, l, l + m), with Condon–Shortley phase
    expected = torch.tensor(table["harmonics"], dtype=torch.float64)
    lmax = expected.shape[1] - 1
    got = real_harmonics(p, lmax)
    for degree in range(lmax + 1):
        phase = (-1.0) ** torch.arange(-degree, degree + 1).abs()
        block = got[:, degree**2 : (degree + 1) ** 2] * phase
        assert (block - expected[:, degree, : 2 * degree + 1]).abs().max() < 1e-14


@pytest.mark.realdata
@pytest.mark.parametrize(("rule", "degree"), [("015", 15), ("053", 53)])
def test_orthonormal_under_lebedev_rules(real_data: Path, rule: str, degree: int) -> None:
    phi, theta, weight = np.loadtxt(real_data / "reference" / "lebedev" / f"lebedev_{rule}.txt").T
    phi, theta = np.radians(phi), np.radians(theta)
    p = torch.from_numpy(
        np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)
    )
    values = real_harmonics(p, degree // 2)
    gram = values.T @ (torch.from_numpy(4 * np.pi * weight)[:, None] * values)
    # the tables give angles in degrees to 15 digits
    assert (gram - torch.eye(len(gram), dtype=torch.float64)).abs().max() < 1e-11


def test_the_two_evaluations_agree() -> None:
    """Kernels of features at permuted coordinates, and the recurrence that no degree overflows."""
    theta = torch.tensor([0.0, 1e-9, 1e-3, 0.1, 1.0, math.pi / 2, 3.1, math.pi], dtype=torch.float64)
    phi = torch.linspace(0.0, 6.0, 8, dtype=torch.float64)
    x, y, z = theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()
    points = torch.stack([x, y, z], -1)
    for lmax in (0, 1, 5, 60):
        slow = stable_harmonics(x, y, z, torch.hypot(x, y), lmax)
        assert (real_harmonics(points, lmax) - slow).abs().max() < 1e-12
    above = real_harmonics(points, 301)
    assert (above[..., : 301**2] - real_harmonics(points, 300)).abs().max() < 2e-11
