"""From images to rotations: each layer beside sums written out, rotated coefficient by coefficient; densities and their
integrals."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spheregeo.grids import HEALPix
from spheregeo.groups import random_rotations, rotation_angle
from spheregeo.harmonics import real_harmonics, unpack_wigner
from spheregeo.nn import (
    FourierDensity,
    FullSpectrum,
    MixtureDensity,
    NearIdentity,
    RotationDensity,
    SO3Correlation,
    SO3Lift,
    SO3Rectifier,
    SphereCoefficients,
    SphereProjection,
)
from spheregeo.nn.sphere.rotations.density import log_normalizer
from spheregeo.spectral import SO3Grid, SO3HEALPix, evaluate_so3
from spheregeo.spectral.so3.evaluation import so3_matrices

LMAX = 3
EVEN = -2 * math.log(math.pi)


def turned_sphere(f: Tensor, rotation: Tensor, lmax: int = LMAX) -> Tensor:
    """Coefficients of the turned functions on the sphere."""
    blocks = unpack_wigner(so3_matrices(rotation, lmax))
    return torch.cat(
        [p @ d.T for d, p in zip(blocks, f.split([2 * k + 1 for k in range(lmax + 1)], -1), strict=True)], -1
    )


def turned_rotations(h: Tensor, rotation: Tensor, lmax: int = LMAX) -> Tensor:
    """Coefficients of h(Q⁻¹ R)."""
    parts = zip(unpack_wigner(so3_matrices(rotation, lmax)), unpack_wigner(h), strict=True)
    return torch.cat([(d @ block).flatten(-2) for d, block in parts], -1)


@pytest.mark.parametrize("points", [HEALPix(2), torch.nn.functional.normalize(torch.randn(9, 3).double())])
def test_the_projection_beside_sums_over_pixels(points: HEALPix | Tensor) -> None:
    layer = SphereProjection(points, width=0.25, coverage=0.8).double()
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    given = points.points if isinstance(points, HEALPix) else points
    rows: list[Tensor] = []
    for p in given:
        polar = math.acos(float(p[2]))
        share = min(1.0, max(0.0, (math.pi / 2 - polar) / math.radians(15)))
        at_x = (2 * torch.arange(6).double() + 1) / 6 - 1
        at_y = 1 - (2 * torch.arange(5).double() + 1) / 5
        distance = (at_x - 0.8 * p[0]) ** 2 + (at_y[:, None] - 0.8 * p[1]) ** 2
        window = torch.exp(-distance / (2 * layer.log_width.exp() ** 2))
        rows.append((window / window.sum() * x).sum((2, 3)) * share)
    slow, fast = torch.stack(rows, 2), layer(x)
    assert (slow - fast).abs().max() < 1e-12
    weight = torch.randn_like(slow)
    grads = [
        torch.autograd.grad((y * weight).sum(), [x, layer.log_width], retain_graph=True) for y in (slow, fast)
    ]
    assert all((a - b).abs().max() < 1e-12 for a, b in zip(*grads, strict=True))
    if isinstance(points, HEALPix):
        assert not bool(fast[..., given[:, 2] < 0].any())


def test_a_turned_map_is_a_turned_sphere_and_a_turned_density() -> None:
    """A quarter turn of the feature map, counter-clockwise, is R_z(90°), through all layers and to rounding."""
    points, lmax = HEALPix(2), 3
    net = nn.Sequential(
        SphereProjection(points), nn.ReLU(), SphereCoefficients(points, lmax), SO3Lift(3, 2, lmax), SO3Rectifier(2, lmax,
        oversampling=1), SO3Correlation(2, 1, lmax),
    ).double()  # fmt: skip
    nn.init.normal_(net[4].threshold)
    maps = torch.randn(2, 3, 7, 7, dtype=torch.float64)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    with torch.no_grad():
        before, after = net(maps), net(maps.rot90(1, (2, 3)))
    expected = turned_rotations(before, quarter, lmax)
    assert (after - expected).abs().max() < 1e-12 * float(expected.abs().max() + 1)
    assert (after - before).abs().max() > 1e-3 * float(before.abs().max())
    rotations = random_rotations(10)
    logs = FourierDensity(before[:, 0], quadrature=4).log_prob(rotations.expand(2, 10, 3, 3))
    turned = FourierDensity(after[:, 0], quadrature=4).log_prob((quarter @ rotations).expand(2, 10, 3, 3))
    assert (logs - turned).abs().max() < 1e-9


@pytest.mark.parametrize("kernel", [NearIdentity(), FullSpectrum()])
def test_layers_on_so3_are_exact(kernel: NearIdentity | FullSpectrum) -> None:
    lift, correlation = SO3Lift(4, 3, LMAX).double(), SO3Correlation(3, 2, LMAX, kernel=kernel).double()
    f = torch.randn(2, 4, 16, dtype=torch.float64)
    for rotation in random_rotations(3):
        with torch.no_grad():
            h, other = correlation(lift(f)), correlation(lift(turned_sphere(f, rotation)))
        assert (other - turned_rotations(h, rotation)).abs().max() < 1e-10


def test_the_lift_beside_its_sum() -> None:
    layer = SO3Lift(2, 3, LMAX).double()
    f = torch.randn(2, 2, 16, dtype=torch.float64, requires_grad=True)
    parts = []
    for degree in range(LMAX + 1):
        at = slice(degree**2, (degree + 1) ** 2)
        parts.append(torch.einsum("bim,oin->bomn", f[..., at], layer.weight[..., at]).flatten(-2))
    _agree(layer, f, torch.cat(parts, -1), layer.weight)


@pytest.mark.parametrize(
    "kernel", [NearIdentity(max_beta=0.5, num_alpha=3, num_beta=2, num_gamma=2), FullSpectrum()]
)
def test_the_correlation_beside_its_sum(kernel: NearIdentity | FullSpectrum) -> None:
    """With point masses w_k at Q_k the correlation is Σ_k w_k h(R Q_k)."""
    layer = SO3Correlation(2, 1, LMAX, kernel=kernel).double()
    h = torch.randn(2, 2, 84, dtype=torch.float64, requires_grad=True)
    filters = unpack_wigner(layer.weight @ layer.table)
    slow = torch.cat(
        [
            torch.einsum("bimn,oink->bomk", a, b).flatten(-2)
            for a, b in zip(unpack_wigner(h), filters, strict=True)
        ],
        -1,
    )
    _agree(layer, h, slow, layer.weight)
    if isinstance(kernel, NearIdentity):
        alpha, beta, gamma = (angle.flatten() for angle in kernel._angles())
        from spheregeo.groups import euler_matrix

        masses, rotations = euler_matrix(alpha, beta, gamma), random_rotations(5)
        values = evaluate_so3(h[:, 0].detach(), (rotations[:, None] @ masses).reshape(1, -1, 3, 3)).view(
            2, 5, -1
        )
        more = evaluate_so3(h[:, 1].detach(), (rotations[:, None] @ masses).reshape(1, -1, 3, 3)).view(
            2, 5, -1
        )
        with torch.no_grad():
            expected = values @ layer.weight[0, 0] + more @ layer.weight[0, 1]
            assert (evaluate_so3(layer(h)[:, 0], rotations[None]) - expected).abs().max() < 1e-12


def _agree(layer: nn.Module, x: Tensor, slow: Tensor, weight: Tensor) -> None:
    fast = layer(x)
    assert (fast - slow).abs().max() < 1e-12
    pull = torch.randn_like(slow)
    grads = [torch.autograd.grad((y * pull).sum(), [x, weight], retain_graph=True) for y in (slow, fast)]
    assert all((a - b).abs().max() < 1e-11 for a, b in zip(*grads, strict=True))


def test_the_rectifier_beside_values_at_rotations_and_what_it_aliases() -> None:
    layer = SO3Rectifier(2, LMAX, oversampling=2).double()
    nn.init.normal_(layer.threshold)
    h = torch.randn(1, 2, 84, dtype=torch.float64, requires_grad=True)
    grid = SO3Grid(8)
    rotations = grid.rotations.reshape(1, -1, 3, 3)
    table = so3_matrices(rotations[0], LMAX)
    share = grid.weights[:, None, None].expand(grid.shape).reshape(-1) / (8 * math.pi**2)
    norm = torch.cat([torch.full(((2 * k + 1) ** 2,), 2.0 * k + 1) for k in range(LMAX + 1)])
    values = torch.stack([evaluate_so3(h[:, k], rotations) + layer.threshold[k] for k in range(2)], 1)
    slow = (values.relu() * share) @ table * norm
    _agree(layer, h, slow, layer.threshold)
    errors = []
    for oversampling in (1, 2):
        layer = SO3Rectifier(1, 6, oversampling=oversampling).double()
        x = torch.randn(2, 1, 455, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        rotation = random_rotations(1, torch.Generator().manual_seed(1))[0]
        with torch.no_grad():
            expected = turned_rotations(layer(x), rotation, 6)
            errors.append(
                float((layer(turned_rotations(x, rotation, 6)) - expected).norm() / expected.norm())
            )
    assert errors[1] < 0.015 < errors[0] < 0.12


def test_coefficients_of_band_limited_functions() -> None:
    """Quadrature on HEALPix is near, not exact."""
    grid, c = HEALPix(8), torch.randn(1, 1, 16, dtype=torch.float64)
    found = SphereCoefficients(grid, LMAX).double()(c @ real_harmonics(grid.points, LMAX).T)
    assert (found - c).abs().max() < 0.03


# ---- densities


def densities() -> list[Callable[[], RotationDensity]]:
    generator = torch.Generator().manual_seed(0)
    h = 0.7 * torch.randn(2, 84, dtype=torch.float64, generator=generator)
    centres = random_rotations(6, generator).view(2, 3, 3, 3)
    numbers = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    return [
        lambda: FourierDensity(h, coarse=4, fine=16, quadrature=16),
        lambda: MixtureDensity(centres, numbers, numbers + 1, centres[0]),
    ]


@pytest.mark.parametrize("kind", [0, 1])
def test_densities_integrate_to_one_and_their_mode_is_the_highest(kind: int) -> None:
    density, grid = densities()[kind](), SO3HEALPix(8)
    rotations = grid.rotations
    logs = density.log_prob(rotations.expand(2, -1, 3, 3))
    assert (logs.exp().sum(1) * grid.volume - 1).abs().max() < 2e-3
    assert (density.log_prob_on(grid) - logs).abs().max() < 2e-3
    best = density.mode()
    assert best.shape == (2, 3, 3) and (best @ best.mT - torch.eye(3)).abs().max() < 1e-10
    assert (density.log_prob(best) >= logs.max(1).values - 1e-9).all()
    nearest = rotations[logs.argmax(1)]
    assert rotation_angle(best, nearest).max() < math.radians(7)


def test_an_even_density() -> None:
    assert float(
        FourierDensity(torch.zeros(1, 455), quadrature=4).log_prob(torch.eye(3)[None])
    ) == pytest.approx(EVEN, abs=1e-6)
    assert round(EVEN, 4) == -2.2895
    eye = torch.eye(3, dtype=torch.float64)
    even = MixtureDensity(
        eye.expand(1, 1, 3, 3), torch.zeros(1, 1).double(), torch.full((1, 1), -30.0).double()
    )
    assert float(even.log_prob(eye[None])) == pytest.approx(EVEN, abs=1e-3)  # concentrations end at e^-8
    assert float(log_normalizer(torch.zeros(()).double())) == pytest.approx(-EVEN, abs=1e-12)
    assert float(FourierDensity(torch.zeros(1, 35)).loss(eye[None].float())) == pytest.approx(-EVEN, abs=1e-5)


def test_a_mixture_s_normaliser_beside_its_integral() -> None:
    """∫ e^{κ cos ω} dR = π² ∫ e^{κ cos ω} (1 − cos ω)/π dω."""
    angle = (torch.arange(20000, dtype=torch.float64) + 0.5) * (math.pi / 20000)
    kappa = torch.tensor([0.0, 1.0, 30.0, 49.9, 50.1, 400.0, 2900.0], dtype=torch.float64)
    values = torch.exp(kappa[:, None] * (angle.cos() - 1)) * (1 - angle.cos())
    expected = torch.log(math.pi * values.sum(1) * (math.pi / 20000))
    assert (log_normalizer(kappa) - expected).abs().max() < 1e-7


def test_the_finest_cells_are_those_of_the_whole_grid() -> None:
    h = 2 * torch.randn(3, 84, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    density = FourierDensity(h, coarse=4, fine=16)
    whole = density.logits_on(SO3HEALPix(16)).topk(8, 1)
    assert (density.leaves.values[:, :8] - whole.values).abs().max() < 1e-10
    assert (density.log_integral(SO3HEALPix(16)) - density.log_normalizer).abs().max() < 1e-12


def test_losses_are_least_at_the_truth_and_reach_all_inputs() -> None:
    truth = random_rotations(2, torch.Generator().manual_seed(3))
    cell = SO3HEALPix(8).nearest(truth)
    h = torch.zeros(2, 84, dtype=torch.float64, requires_grad=True)
    FourierDensity(h).loss(truth).sum().backward()
    assert h.grad is not None
    peak = FourierDensity(-5 * h.grad)  # a step down
    assert rotation_angle(peak.mode(), SO3HEALPix(8).at(cell)).max() < math.radians(3)
    centres, anchors = truth[:, None] @ random_rotations(2)[None], truth
    logits, log = torch.zeros(2, 2).double().requires_grad_(), torch.zeros(2, 2).double().requires_grad_()
    MixtureDensity(centres.requires_grad_(), logits, log, anchors).loss(truth).sum().backward()
    assert all(t.grad is not None and bool(t.grad.any()) for t in (centres, logits, log))


def test_empty_batches_and_wrong_shapes() -> None:
    none = FourierDensity(torch.zeros(0, 35))
    assert none.mode().shape == (0, 3, 3) and none.log_prob(torch.zeros(0, 3, 3)).shape == (0,)
    with pytest.raises(ValueError, match="coefficients has shape"):
        FourierDensity(torch.zeros(35))
    with pytest.raises(ValueError, match="fine is 4 and coarse 8"):
        FourierDensity(torch.zeros(1, 35), fine=4)
    with pytest.raises(ValueError, match="centres has shape"):
        MixtureDensity(torch.eye(3), torch.zeros(1, 1), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="anchors is None for 2"):
        MixtureDensity(torch.eye(3).expand(1, 2, 3, 3), torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="unit vectors"):
        SphereProjection(torch.ones(4, 3))
