"""Needlet frames: reconstruction, energies, rotations, grids of several kinds, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spheregeo.grids import Equiangular, GaussLegendre, HEALPix
from spheregeo.groups import axis_angle
from spheregeo.harmonics import needlet_profile, needlet_windows, real_harmonics
from spheregeo.spectral import SHT, InverseSHT, InverseSO3Transform, NeedletFrame, SO3Grid, SO3NeedletFrame

LMAX = 12


def coefficients(lmax: int = LMAX, *batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(*batch, (lmax + 1) ** 2, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(
    "windows, B", [("needlet", 2.0), ("needlet", 1.4), ("needlet", 3.0), ("framelet", 2.0)]
)
@pytest.mark.parametrize("lowest", [0, 2])
def test_frames_are_tight_on_gauss_legendre_grids(windows: str, B: float, lowest: int) -> None:
    frame = NeedletFrame(LMAX, B, windows=windows, lowest=lowest)
    c = coefficients(LMAX, 2, 3)
    bands = frame.decompose(c)
    assert [tuple(b.shape) for b in bands] == [(2, 3, *g.shape) for g in frame.grids]
    torch.testing.assert_close(frame.reconstruct(bands), c, rtol=0, atol=1e-12)
    torch.testing.assert_close(frame.energies(bands).sum(-1), c.square().sum(-1), rtol=1e-12, atol=0)


def test_frames_on_other_grids_with_enough_exactness() -> None:
    c = coefficients()
    for grids in (Equiangular(26, 52), GaussLegendre(14, 28)):  # one grid for all scales
        frame = NeedletFrame(LMAX, grids=grids)
        torch.testing.assert_close(frame.reconstruct(frame(c)), c, rtol=0, atol=1e-12)
        torch.testing.assert_close(frame.energies(frame(c)).sum(), c.square().sum(), rtol=1e-12, atol=0)


def test_healpix_with_three_iterations() -> None:
    frame = NeedletFrame(LMAX, grids="healpix")
    assert frame.grids[-1] == HEALPix(LMAX + 1)
    c = coefficients()
    bands = frame(c)
    error = (frame.reconstruct(bands) - c).norm() / c.norm()
    assert error < 2e-8
    assert abs(frame.energies(bands).sum() / c.square().sum() - 1) < 1e-3  # quadrature alone, no iterations


def test_bands_are_sums_over_the_frames_atoms() -> None:
    """√w v_j(x_k) is the inner product with the needlet about x_k, and the atoms rebuild the field."""
    frame, c = NeedletFrame(LMAX), coefficients()
    grid = GaussLegendre(26, 52)
    field = InverseSHT(grid, LMAX)(c).flatten()
    windows = needlet_windows(LMAX)
    for scale in (0, 2, 4):
        points = frame.grids[scale].points
        angle = torch.arccos((points @ grid.points.T).clamp(-1, 1))
        atoms = needlet_profile(windows[scale], angle)
        torch.testing.assert_close(frame(c)[scale].flatten(), atoms @ (grid.areas * field), rtol=0, atol=1e-6)


def test_the_bands_of_a_rotated_field_are_rotated_bands() -> None:
    frame, c = NeedletFrame(LMAX), coefficients()
    rotation = axis_angle((1.0, -2.0, 0.5), 1.1)
    fine = GaussLegendre(LMAX + 1, 2 * LMAX + 2)
    moved = real_harmonics(fine.points @ rotation, LMAX) @ c  # f(R⁻¹ x)
    turned = frame(SHT(fine, LMAX)(moved.reshape(fine.shape)))
    for scale, (grid, top) in enumerate(zip(frame.grids, frame.largest)):
        band = SHT(grid, top)(frame(c)[scale])
        expected = real_harmonics(grid.points @ rotation, top) @ band
        torch.testing.assert_close(turned[scale].flatten(), expected, rtol=0, atol=1e-12)


def test_gradients_and_float32() -> None:
    frame = NeedletFrame(3)
    c = coefficients(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: tuple(b.tanh() for b in frame(x)), (c,))
    bands = [b.detach().requires_grad_() for b in frame(c)]
    assert torch.autograd.gradcheck(lambda *b: frame.reconstruct(b), tuple(bands))
    single = frame.reconstruct(frame(c.detach().float()))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), c.detach(), rtol=0, atol=1e-5)


def test_scales_have_the_freedom_of_their_degrees() -> None:
    """White noise of unit coefficients has energy Σ b²(2l + 1) in a band."""
    frame = NeedletFrame(LMAX)
    assert math.isclose(sum(frame.freedom), (LMAX + 1) ** 2)
    noise = torch.randn(
        2000, (LMAX + 1) ** 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    found = frame.energies(frame(noise)).mean(0)
    torch.testing.assert_close(found, torch.tensor(frame.freedom, dtype=torch.float64), rtol=0.1, atol=0)


def test_what_does_not_fit_is_refused_by_name() -> None:
    frame = NeedletFrame(3)
    with pytest.raises(ValueError, match=r"coefficients has shape \(15,\); expected \(\.\.\., 16\)"):
        frame(torch.zeros(15))
    with pytest.raises(ValueError, match=r"bands holds 2 fields; expected 4"):
        frame.reconstruct([torch.zeros(1, 2)] * 2)
    with pytest.raises(ValueError, match=r"lmax is 2\.5; expected an integer >= 0"):
        NeedletFrame(2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grids holds 1 grids"):
        NeedletFrame(3, grids=[HEALPix(2)])
    with pytest.raises(ValueError, match="grids is 'icosahedral'"):
        NeedletFrame(3, grids="icosahedral")
    with pytest.raises(ValueError, match="windows is 'haar'"):
        NeedletFrame(3, windows="haar")
    with pytest.raises(ValueError, match=r"B is 3\.0; framelets"):
        NeedletFrame(3, 3.0, windows="framelet")
    with pytest.raises(ValueError, match="add up to 1 only within"):
        NeedletFrame(3, windows=torch.ones(2, 4))


# ---- SO(3)


def so3_coefficients(lmax: int, *batch: int) -> Tensor:
    size = sum((2 * degree + 1) ** 2 for degree in range(lmax + 1))
    return torch.randn(*batch, size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("windows", ["needlet", "framelet"])
@pytest.mark.parametrize("lowest", [0, 2])
def test_frames_on_rotations_are_tight(windows: str, lowest: int) -> None:
    lmax = 7
    frame = SO3NeedletFrame(lmax, windows=windows, lowest=lowest)
    c = so3_coefficients(lmax, 2)
    bands = frame(c)
    torch.testing.assert_close(frame.reconstruct(bands), c, rtol=0, atol=1e-12)
    norms = torch.cat(
        [
            torch.full(((2 * d + 1) ** 2,), 8 * math.pi**2 / (2 * d + 1), dtype=torch.float64)
            for d in range(lmax + 1)
        ]
    )
    torch.testing.assert_close(frame.energies(bands).sum(-1), c.square() @ norms, rtol=1e-12, atol=0)


def test_bands_on_rotations_are_sums_over_needlets_of_characters() -> None:
    """v_j(R_k) = ∫ h(R) Σ_l b_j(l) (2l + 1)/8π² χ_l(R_k⁻¹R) dR, with χ_l(ω) = sin((2l + 1)ω/2) / sin(ω/2)."""
    lmax = 3
    frame, c = SO3NeedletFrame(lmax), so3_coefficients(lmax)
    fine = SO3Grid(lmax + 1)
    values = InverseSO3Transform(lmax)(c) * fine.weights[:, None, None]
    rotations = fine.rotations.reshape(-1, 3, 3)
    for scale in (1, 2):
        own = frame.grids[scale].rotations.reshape(-1, 3, 3)
        trace = torch.einsum("kij,nij->kn", own, rotations)  # of R_k⁻¹R
        angle = torch.arccos(((trace - 1) / 2).clamp(-1, 1))
        small = angle < 1e-4
        half = torch.where(small, 1.0, angle / 2)
        atoms = torch.zeros_like(angle)
        for degree, b in enumerate(frame.windows[scale].tolist()):
            size = 2 * degree + 1
            character = torch.where(small, float(size), (size * half).sin() / half.sin())
            atoms = atoms + b * size / (8 * math.pi**2) * character
        torch.testing.assert_close(frame(c)[scale].flatten(), atoms @ values.flatten(), rtol=0, atol=1e-6)


def test_frames_of_tangent_fields_are_tight() -> None:
    frame = NeedletFrame(6, spin=2)
    c = torch.randn(3, 2, 49, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    c[..., :4] = 0  # degrees below the spin
    bands = frame(c)
    assert [tuple(b.shape) for b in bands] == [(3, 2, *g.shape) for g in frame.grids]
    torch.testing.assert_close(frame.reconstruct(bands), c, rtol=0, atol=1e-12)
    torch.testing.assert_close(frame.energies(bands).sum(-1), c.square().sum((-2, -1)), rtol=1e-12, atol=0)
