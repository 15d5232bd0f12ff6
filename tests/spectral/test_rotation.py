"""Rotation of coefficients: closed-form matrices, healpy, blocks of degrees against kept tables, derivatives."""

from __future__ import annotations

import math

import healpy
import numpy as np
import pytest
import torch
from torch import Tensor

from spheregeo.grids import Equiangular, GaussLegendre, Grid, HEALPix, Icosahedral
from spheregeo.groups import axis_angle, euler_angles, euler_matrix, random_rotations, to_quaternion
from spheregeo.harmonics import real_harmonics, unpack_wigner, wigner_D, wigner_d, z_polar_matrix
from spheregeo.sampling import rotate
from spheregeo.spectral import (
    InverseSHT,
    InverseSO3Transform,
    NeedletFrame,
    SO3Transform,
    harmonic_resample,
    resolved_degree,
    rotate_coefficients,
    rotate_field,
    rotation,
    synthesis_at,
)


def rotations() -> Tensor:
    """Random ones, and turns by nothing, hardly anything and π."""
    axes = [([0, 1, 0], 0.0), ([0, 1, 0], 1e-9), ([0, 1, 0], math.pi), ([1, 0, 0], math.pi), ([0, 0, 1], 1.0)]
    return torch.cat([random_rotations(4), torch.stack([axis_angle(axis, angle) for axis, angle in axes])])


def test_angles_of_a_rotation() -> None:
    r = rotations()
    alpha, beta, gamma = euler_angles(r)
    assert (euler_matrix(alpha, beta, gamma) - r).abs().max() < 1e-14
    assert bool(((beta >= 0) & (beta <= math.pi)).all())


@pytest.mark.parametrize("lmax", [0, 1, 9])
def test_equal_to_matrices(lmax: int) -> None:
    r = rotations()
    c = torch.randn(len(r), 2, (lmax + 1) ** 2, dtype=torch.float64)
    out = rotate_coefficients(c, r[:, None])
    for degree in range(lmax + 1):
        basis = z_polar_matrix(degree)
        part = slice(degree**2, (degree + 1) ** 2)
        wanted = torch.einsum("bmn,bcn->bcm", basis @ wigner_D(degree, r) @ basis.T, c[..., part])
        assert (wanted - out[..., part]).abs().max() < 1e-13
    assert (rotate_coefficients(c, to_quaternion(r)[:, None]) - out).abs().max() < 1e-13
    assert (rotate_coefficients(c.float(), r[:, None]) - out).abs().max() < 1e-5
    complex_out = rotate_coefficients(torch.complex(c, 2 * c), r[:, None])
    assert (complex_out - torch.complex(out, 2 * out)).abs().max() < 1e-13


def test_equal_to_healpy() -> None:
    lmax, r = 70, random_rotations(1)[0]
    degree, order = healpy.Alm.getlm(lmax)
    c = torch.randn((lmax + 1) ** 2, dtype=torch.float64)

    def complex_form(c: Tensor) -> np.ndarray:
        positive, negative = c[degree**2 + degree + order].numpy(), c[degree**2 + degree - order].numpy()
        scale = np.where(order > 0, (-1.0) ** order / math.sqrt(2), 1)
        return scale * (positive - 1j * np.where(order > 0, negative, 0))

    alm = complex_form(c)
    alpha, beta, gamma = (float(angle) for angle in euler_angles(r))
    healpy.rotate_alm(alm, gamma, beta, alpha)
    assert np.abs(alm - complex_form(rotate_coefficients(c, r))).max() < 1e-12


def test_blocks_of_degrees_equal_the_kept_table(monkeypatch: pytest.MonkeyPatch) -> None:
    c, r = torch.randn(3, 41**2, dtype=torch.float64), random_rotations(3)
    whole = rotate_coefficients(c, r)
    monkeypatch.setattr(rotation, "KEPT_DEGREE", 5)
    monkeypatch.setattr(rotation, "BLOCK", 7000)
    assert (rotate_coefficients(c, r) - whole).abs().max() < 1e-13


def test_quarter_turns_and_their_exponents(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = unpack_wigner(wigner_d(torch.tensor(math.pi / 2, dtype=torch.float64), 40))
    for step in (900, 12):  # 12: as at high degrees, where starts underflow
        monkeypatch.setattr(rotation, "STEP", step)
        for degree, delta in enumerate(rotation.quarter_turns(40)):
            d = wanted[degree][degree:, degree:].numpy()
            held = np.abs(d) > 1.001 * 2.0**-step  # below, zeros stand for what is carried with an exponent
            assert np.abs(d - delta)[held].max() < 1e-13
            assert ((np.abs(d - delta) < 1e-13) | (delta == 0))[~held].all()


def test_composition_at_a_high_degree() -> None:
    c = torch.randn(201**2, dtype=torch.float64)
    a, b = random_rotations(2)
    assert (
        rotate_coefficients(rotate_coefficients(c, b), a) - rotate_coefficients(c, a @ b)
    ).abs().max() < 1e-11


def test_complex_fields_under_several_rotations() -> None:
    c, r = torch.randn(9, dtype=torch.complex128), random_rotations(2)
    for coefficients in (c, torch.stack([c, 2 * c])):
        parts = [rotate_coefficients(part, r) for part in (coefficients.real, coefficients.imag)]
        found = rotate_coefficients(coefficients, r)
        assert found.shape == (2, 9)
        assert torch.equal(found, torch.complex(*parts))


def test_autocast_rounds_nothing() -> None:
    c, functions = torch.randn(25), torch.randn(35)
    grid, icosahedral = GaussLegendre(9, 18), Icosahedral(1)
    x, turn, directions = torch.randn(9, 18), random_rotations(1)[0].float(), torch.eye(3)
    signal = torch.randn(6, 6, 6)
    calls = [
        lambda: rotate_coefficients(c, turn),
        lambda: InverseSO3Transform(2)(functions),
        lambda: SO3Transform(2)(signal),
        lambda: torch.cat([band.flatten() for band in NeedletFrame(4)(c)]),
        lambda: harmonic_resample(x, grid, icosahedral),
        lambda: synthesis_at(c, directions),
    ]
    for i, call in enumerate(calls):
        wanted = call()
        with torch.autocast("cpu", torch.bfloat16):
            found = call()
        assert found.dtype == torch.float32
        assert (found - wanted).abs().max() <= 1e-6 * wanted.abs().max(), i
    coarse = harmonic_resample(x.bfloat16(), grid, icosahedral)
    assert (coarse - harmonic_resample(x, grid, icosahedral)).abs().max() < 0.02 * x.abs().max()


def test_derivatives() -> None:
    r = random_rotations(2)
    c = torch.randn(2, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: rotate_coefficients(c, r), c)
    assert torch.autograd.gradgradcheck(lambda c: rotate_coefficients(c, r), c)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"coefficients has shape \(2, 8\)"):
        rotate_coefficients(torch.zeros(2, 8), torch.eye(3))
    with pytest.raises(ValueError, match="do not broadcast"):
        rotate_coefficients(torch.zeros(2, 9), random_rotations(3))
    with pytest.raises(ValueError, match="determinant -1"):
        rotate_coefficients(torch.zeros(2, 9), -torch.eye(3))


@pytest.mark.parametrize(
    "grid",
    [GaussLegendre(9, 18), Equiangular(9, 17), Equiangular(11, 18, poles=True), HEALPix(8), Icosahedral(2)],
)
def test_fields_are_turned_exactly(grid: Grid) -> None:
    r = random_rotations(2)
    tolerance = 1e-5 if isinstance(grid, HEALPix) else 1e-11
    lmax = min(8, resolved_degree(grid))
    assert lmax >= 5
    c = torch.randn(2, 3, (lmax + 1) ** 2, dtype=torch.float64)
    field = real_harmonics(grid.points, lmax)  # (P, c)
    x = (c @ field.T).unflatten(-1, grid.shape)
    wanted = c @ torch.stack([real_harmonics(grid.points @ turn, lmax) for turn in r]).mT
    got = rotate_field(x, grid, r[:, None])
    assert (got - wanted.unflatten(-1, grid.shape)).abs().max() < tolerance
    assert (rotate(x[0], grid, r[0], "harmonic", lmax=lmax) - got[0]).abs().max() < tolerance


@pytest.mark.parametrize("spin", [1, 2])
def test_tangent_fields_are_turned_with_their_frames(spin: int) -> None:
    # turned by a matrix that maps the grid to itself: values move, and components turn by the angle between frames
    grid, quarter = GaussLegendre(9, 20), axis_angle([0, 0, 1], 2 * math.pi / 20 * 3)
    x = InverseSHT(grid, 8, spin)(torch.randn(3, 2, 81, dtype=torch.float64))
    assert (rotate_field(x, grid, quarter, spin=spin) - x.roll(3, -1)).abs().max() < 1e-12
    over = rotate_field(
        x, grid, axis_angle([1, 0, 0], math.pi), spin=spin
    )  # half a turn about x: frames by π
    wanted = x.flip(-2, -1).roll(1, -1) * (-1) ** spin
    assert (over - wanted).abs().max() < 1e-12
    scalars = InverseSHT(grid, 8)(torch.randn(2, 81, dtype=torch.float64))
    mixed = torch.cat([x.flatten(0, 1), scalars])
    turned = rotate(mixed, grid, quarter, "harmonic", fields=f"3x{spin} + 2x0")
    assert (turned - mixed.roll(3, -1)).abs().max() < 1e-12
    # a field of order 1 that is the tangent part of a constant vector
    if spin == 1:
        v, r = torch.randn(3, dtype=torch.float64), random_rotations(1)[0]
        south_east = torch.einsum("pcx,x->cp", grid.frames, v).unflatten(-1, grid.shape)
        wanted = torch.einsum("pcx,x->cp", grid.frames, r @ v).unflatten(-1, grid.shape)
        assert (rotate_field(south_east, grid, r, spin=1) - wanted).abs().max() < 1e-12
