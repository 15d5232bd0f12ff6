"""Synthesis at any points, and lensing: exact sums, rotations, parallel transport, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spheregeo.grids import Equiangular, GaussLegendre, HEALPix
from spheregeo.harmonics import real_harmonics
from spheregeo.spectral import (
    InverseSHT,
    deflection_field,
    displaced,
    lens,
    power_spectrum,
    random_coefficients,
    synthesis_at,
    turn_between,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def directions(count: int) -> Tensor:
    points = torch.nn.functional.normalize(drawn(count, 3, seed=7), dim=-1)
    points[:2] = torch.tensor([[0.0, 0, 1], [0, 0, -1]])
    points[2] = torch.nn.functional.normalize(torch.tensor([1e-9, -1e-9, -1.0]), dim=0)
    return points


@pytest.mark.parametrize("lmax", [0, 1, 6, 21])
def test_synthesis_at_points_is_the_exact_sum(lmax: int) -> None:
    coefficients, points = drawn(2, 3, (lmax + 1) ** 2), directions(60)
    exact = coefficients @ real_harmonics(points, lmax).T
    size = exact.abs().max()
    for accuracy in (1e-4, 1e-8, 1e-12):
        found = synthesis_at(coefficients, points, accuracy=accuracy)
        assert float((found - exact).abs().max() / size) < accuracy, accuracy
    single = synthesis_at(coefficients[0, 0].float(), points)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), exact[0, 0], atol=3e-6 * float(size))
    assert synthesis_at(coefficients, points[:0]).shape == (2, 3, 0)


@pytest.mark.parametrize("spin", [1, 2, 3])
def test_tangent_fields_at_a_grids_points_are_the_grids(spin: int) -> None:
    lmax, coefficients = 9, drawn(2, 2, 100)
    for grid in (HEALPix(3), Equiangular(5, 8)):
        found = synthesis_at(coefficients, grid.points, spin, accuracy=1e-12)
        exact = InverseSHT(grid, lmax, spin)(coefficients)
        exact = exact.reshape(found.shape)
        assert torch.allclose(found, exact, rtol=0, atol=1e-11 * float(exact.abs().max()))


def test_gradients_of_the_synthesis_at_points() -> None:
    coefficients, points = drawn(16).requires_grad_(), directions(8)[3:].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda c, p: synthesis_at(c, p, accuracy=1e-12), (coefficients, points), eps=1e-5, atol=1e-6
    )


def test_gradients_of_lensing_on_a_grid_with_poles() -> None:
    grid, coefficients = Equiangular(5, 8, poles=True), drawn(9)
    deflection = (0.01 * drawn(2, 5, 8, seed=1)).requires_grad_()
    given = torch.ones_like(deflection)
    given[:, [0, -1]] = 0
    lens(coefficients, deflection * given, grid).sum().backward()
    assert deflection.grad is not None and torch.isfinite(deflection.grad).all()
    inner = deflection.detach()[:, 1:-1].requires_grad_()

    def between_the_poles(inner: Tensor) -> Tensor:
        poles = torch.zeros_like(inner[:, :1])
        return lens(coefficients, torch.cat([poles, inner, poles], 1), grid)[1:-1].sum()

    assert torch.autograd.gradcheck(between_the_poles, inner, eps=1e-5, atol=1e-5)
    (slope,) = torch.autograd.grad(between_the_poles(inner), inner)
    assert torch.allclose(deflection.grad[:, 1:-1], slope) and slope.abs().max() > 0.1


def test_points_that_do_not_fit_are_named() -> None:
    assert synthesis_at(torch.zeros(0, 9), torch.eye(3)).shape == (0, 3)
    assert synthesis_at(torch.zeros(2, 0, 2, 9), torch.eye(3), spin=1).shape == (2, 0, 2, 3)
    with pytest.raises(TypeError, match=r"coefficients has dtype torch\.complex64"):
        synthesis_at(torch.zeros(9, dtype=torch.complex64), torch.eye(3))
    with pytest.raises(ValueError, match=r"points have shape \(3,\); expected \(P, 3\)"):
        synthesis_at(torch.zeros(9), torch.zeros(3))
    with pytest.raises(ValueError, match="accuracy is 1"):
        synthesis_at(torch.zeros(9), torch.eye(3), accuracy=1.0)


def test_displaced_points_lie_on_geodesics() -> None:
    grid, deflection = HEALPix(4), 0.3 * drawn(2, 192)
    found = displaced(deflection, grid)
    assert torch.allclose(found.norm(dim=-1), torch.ones(192, dtype=torch.float64))
    assert torch.allclose(torch.acos((found * grid.points).sum(-1)), deflection.norm(dim=0))
    tangent = (grid.frames * deflection.T[:, :, None]).sum(1)
    across = torch.linalg.cross(grid.points, tangent)
    assert float((found * across).sum(-1).abs().max()) < 1e-12  # on the great circle
    assert bool(((found * tangent).sum(-1) > 0).all())  # forwards
    with pytest.raises(ValueError, match=r"expected \(..., 2, 192\)"):
        displaced(torch.zeros(3, 192), grid)


def test_turn_is_that_of_the_least_rotation() -> None:
    """Slow twin: Rodrigues' matrix about the axis perpendicular to both directions."""
    grid = HEALPix(3)
    looked = displaced(0.5 * drawn(2, 108), grid)
    turns = turn_between(looked, grid.points, grid.frames)
    frames = HEALPix(3).frames
    for k in (0, 5, 40, 107):
        a, b = looked[k], grid.points[k]
        axis = torch.linalg.cross(a, b)
        sine, cosine = axis.norm(), a @ b
        x, y, z = (axis / sine).tolist()
        skew = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
        matrix = torch.eye(3, dtype=torch.float64) + sine * skew + (1 - cosine) * skew @ skew
        phi, theta = math.atan2(a[1], a[0]), math.acos(float(a[2]))
        south = torch.tensor(
            [math.cos(theta) * math.cos(phi), math.cos(theta) * math.sin(phi), -math.sin(theta)]
        ).double()
        carried = matrix @ south
        angle = math.atan2(float(frames[k, 1] @ carried), float(frames[k, 0] @ carried))
        assert float(turns[k]) == pytest.approx(angle, abs=1e-7)


def test_lensed_scalars_are_exact_sums_at_displaced_points() -> None:
    grid, lmax = HEALPix(4), 10
    coefficients, potential = drawn(2, (lmax + 1) ** 2), 0.002 * drawn((lmax + 1) ** 2, seed=1)
    deflection = deflection_field(potential, grid)
    exact = coefficients @ real_harmonics(displaced(deflection, grid), lmax).T
    assert torch.allclose(lens(coefficients, deflection, grid, accuracy=1e-12), exact, atol=1e-10)
    each = torch.stack([deflection, 2 * deflection])
    second = coefficients[1] @ real_harmonics(displaced(each[1], grid), lmax).T
    assert torch.allclose(lens(coefficients, each, grid, accuracy=1e-12)[1], second, atol=1e-10)
    with pytest.raises(ValueError, match=r"leading axes \(3,\)"):
        lens(coefficients, deflection.expand(3, 2, 192), grid)


def test_deflection_is_the_gradient() -> None:
    """Against finite differences of the potential along south and east."""
    grid, lmax, step = HEALPix(3), 8, 1e-5
    potential = drawn((lmax + 1) ** 2)
    deflection = deflection_field(potential, grid)
    for k in (0, 1):
        ends = [
            torch.nn.functional.normalize(grid.points + s * step * grid.frames[:, k], dim=-1) for s in (1, -1)
        ]
        values = [potential @ real_harmonics(end, lmax).T for end in ends]
        assert torch.allclose(deflection[k], (values[0] - values[1]) / (2 * step), atol=1e-6)


def test_lensed_polarisation_turns_with_the_sky() -> None:
    """Field and deflection turned by a rotation give the lensed field, turned: components in frames at the turned points."""
    lmax, spin = 6, 2
    grid = HEALPix(2)
    coefficients, potential = drawn(2, (lmax + 1) ** 2), 0.01 * drawn((lmax + 1) ** 2, seed=1)
    # an odd and an even part of the field about the equator: a half turn about x maps HEALPix onto itself
    lensed = lens(coefficients, deflection_field(potential, grid), grid, spin, accuracy=1e-12)
    l = torch.arange(lmax + 1)
    order = torch.cat([torch.arange(-int(d), int(d) + 1) for d in l])
    degree = l.repeat_interleave(2 * l + 1)
    # Y_lm at (x, −y, −z) = (−1)^(l + m) Y_lm for cosines, −(−1)^(l + m) for sines
    sign = torch.where(order >= 0, 1.0, -1.0) * (-1.0) ** (degree + order)
    turned = lens(sign * coefficients, deflection_field(sign * potential, grid), grid, spin, accuracy=1e-12)
    there = grid.points * torch.tensor([1.0, -1.0, -1.0])
    index = torch.cdist(there, grid.points).argmin(1)  # of the pixel that each comes from
    assert torch.allclose(turned, lensed[:, index], atol=1e-9)  # south and east both reverse: order 2 stays


def test_lensing_conserves_the_variance_and_moves_power() -> None:
    grid, lmax = GaussLegendre(41, 82), 40
    l = torch.arange(lmax + 1)
    spectrum = torch.where((l >= 10) & (l <= 14), 1.0, 0.0).double()
    sky = random_coefficients(spectrum, (8,), torch.Generator().manual_seed(3))
    potential = random_coefficients(
        torch.where((l > 1) & (l < 6), 2e-4, 0.0).double(), (8,), torch.Generator().manual_seed(4)
    )
    lensed = lens(sky, deflection_field(potential, grid), grid)
    variance = (lensed.square().flatten(1) @ grid.areas).mean()
    before = sky.square().sum(1).mean()
    assert float(variance / before) == pytest.approx(1, abs=0.03)
    from spheregeo.spectral import SHT

    power = power_spectrum(SHT(grid, lmax)(lensed)).mean(0)
    assert float(power[10:15].sum()) < 0.99 * float(power_spectrum(sky).mean(0).sum())
    assert float(power[6:10].sum() + power[15:20].sum()) > 0.05
