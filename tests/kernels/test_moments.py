"""Moment correction: exact moments, bounded on poor neighbourhoods, frame-independent, and a smaller error on harmonics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial import cKDTree
from scipy.special import lpmv, sph_harm_y
from torch import Tensor

from spheregeo.kernels import (
    CircularHarmonics,
    Kernel,
    Morlet,
    Rings,
    continuous_moments,
    correct_moments,
    moment_functions,
)
from spheregeo.testing import small_kernels

KERNELS = small_kernels()


def fibonacci(n: int) -> tuple[Tensor, Tensor]:
    i = torch.arange(n, dtype=torch.float64) + 0.5
    z, phi = 1 - 2 * i / n, math.pi * (1 + math.sqrt(5)) * i
    s = torch.sqrt(1 - z * z)
    return torch.stack([s * phi.cos(), s * phi.sin(), z], -1), torch.full(
        (n,), 4 * math.pi / n, dtype=torch.float64
    )


def latlon(nlat: int, nlon: int) -> tuple[Tensor, Tensor]:
    """Cell-centred grid with the cells' areas."""
    edge = torch.linspace(0, math.pi, nlat + 1, dtype=torch.float64)
    theta, phi = (edge[1:] + edge[:-1]) / 2, torch.arange(nlon, dtype=torch.float64) * (2 * math.pi / nlon)
    s, c = theta.sin()[:, None], theta.cos()[:, None].expand(nlat, nlon)
    area = (edge[:-1].cos() - edge[1:].cos())[:, None].expand(nlat, nlon) * (2 * math.pi / nlon)
    return torch.stack([s * phi.cos(), s * phi.sin(), c], -1).reshape(-1, 3), area.flatten()


def neighbours(target: Tensor, source: Tensor, radius: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """r, phi (from south to east), index and indptr of all sources within the radius, by KD-tree."""
    lists = cKDTree(source.numpy()).query_ball_point(
        target.numpy(), 2 * math.sin(radius / 2), return_sorted=True
    )
    counts = torch.tensor([len(found) for found in lists])
    indptr, index = (
        torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        torch.from_numpy(np.concatenate(lists)).long(),
    )
    p = target.repeat_interleave(counts, 0)
    s = torch.hypot(p[:, 0], p[:, 1])
    east = torch.stack([-p[:, 1] / s, p[:, 0] / s, 0 * s], -1)
    south = torch.linalg.cross(east, p)
    q = source[index]
    u, v = (q * south).sum(-1), (q * east).sum(-1)
    return torch.atan2(torch.hypot(u, v), (p * q).sum(-1)), torch.atan2(v, u), index, indptr


def row_sum(x: Tensor, indptr: Tensor) -> Tensor:
    """(..., nnz) -> (..., P)."""
    row = torch.repeat_interleave(torch.arange(len(indptr) - 1), indptr.diff())
    return x.new_zeros(*x.shape[:-1], len(indptr) - 1).index_add_(-1, row, x)


def random_rows(rows: int, count: int, radius: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """r, phi, weights, indptr of `count` points a row, uniform on the disc, weights within a factor of three."""
    share = torch.rand(3, rows * count, dtype=torch.float64)
    weights = math.pi * radius**2 / count * (0.5 + share[2])
    return radius * share[0].sqrt(), 2 * math.pi * share[1], weights, torch.arange(rows + 1) * count


def moment_error(
    values: Tensor,
    r: Tensor,
    phi: Tensor,
    weights: Tensor,
    indptr: Tensor,
    kernel: Kernel,
    radius: float,
    degree: int,
) -> float:
    """Largest difference of discrete and continuous moments, as a share of the disc's area."""
    functions = moment_functions(r / radius, phi, degree)
    discrete = row_sum(functions[:, None] * values * weights, indptr)  # (m, K, P)
    difference = discrete - continuous_moments(kernel, radius, degree)[0][..., None]
    return float(difference.abs().max()) / (math.pi * radius**2)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_continuous_moments_by_another_quadrature(kernel: Kernel) -> None:
    radius, n = 0.4, 800
    r = (torch.arange(n, dtype=torch.float64) + 0.5) / n * radius
    phi = (torch.arange(240, dtype=torch.float64) + 0.37) / 240 * 2 * math.pi
    r, phi = (a.flatten() for a in torch.meshgrid(r, phi, indexing="ij"))
    weight = torch.sin(r) * radius / n * 2 * math.pi / 240
    expected = (moment_functions(r / radius, phi, 3) * weight) @ kernel(r, phi, radius).T
    moments = continuous_moments(kernel, radius, 3)[0]
    torch.testing.assert_close(
        moments, expected, rtol=0, atol=5e-5 * radius**2
    )  # the midpoint rule's own error
    assert continuous_moments(kernel, radius, 3)[0] is moments


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("where", ["random", "latlon", "fibonacci"])
def test_moments_are_exact(kernel: Kernel, where: str) -> None:
    if where == "random":
        radius = 0.3
        r, phi, weights, indptr = random_rows(200, 40, radius)
    else:
        points, areas = latlon(24, 48) if where == "latlon" else fibonacci(1500)
        radius = 2.2 * math.pi / 24 if where == "latlon" else 2.2 * math.sqrt(4 * math.pi / 1500)
        r, phi, index, indptr = neighbours(points[::7], points, radius)
        weights = areas[index]
        assert int(indptr.diff().min()) >= 13 and int(indptr.diff().max()) > 13
    values = kernel(r, phi, radius)
    corrected = correct_moments(values, r, phi, weights, indptr, kernel, radius, 2)
    assert moment_error(values, r, phi, weights, indptr, kernel, radius, 2) > 1e-3
    assert moment_error(corrected, r, phi, weights, indptr, kernel, radius, 2) < 1e-10


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_few_neighbours_stay_bounded(count: int, degree: int) -> None:
    """Worst of 500 random rows: some 18 times the hat's height; solving regardless reaches 5e5 (six points, degree 3)."""
    kernel, radius = Rings(3), 0.3
    r, phi, weights, indptr = random_rows(500, count, radius)
    values = kernel(r, phi, radius)
    corrected = correct_moments(values, r, phi, weights, indptr, kernel, radius, degree)
    assert corrected.isfinite().all() and float(corrected.abs().max()) < 25
    # the mean survives wherever the neighbours see enough of the disc at all
    seen = row_sum(weights * torch.cos(math.pi * r / radius / 2) ** 2, indptr)
    well = torch.where(seen / continuous_moments(kernel, radius, 0)[1][0, 0] > 0.1)[0]
    zeroth = row_sum(corrected * weights, indptr)[:, well] - continuous_moments(kernel, radius, 0)[0].T
    assert len(well) > 200 and float(zeroth.abs().max()) < 1e-10


def test_empty_rows_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, radius = Morlet(2, 2), 0.3
    counts = torch.tensor([0, 30, 5, 0, 80, 1, 0])
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    r, phi, weights, _ = random_rows(1, int(indptr[-1]), radius)
    weights = weights * len(r) / torch.repeat_interleave(counts, counts)
    values = kernel(r, phi, radius)
    whole = correct_moments(values, r, phi, weights, indptr, kernel, radius, 2)
    monkeypatch.setattr("spheregeo.kernels.moments.CHUNK", 1)
    torch.testing.assert_close(
        correct_moments(values, r, phi, weights, indptr, kernel, radius, 2), whole, rtol=0, atol=1e-12
    )
    for row in (1, 2, 4, 5):
        part = slice(int(indptr[row]), int(indptr[row + 1]))
        ends = torch.tensor([0, int(counts[row])])
        alone = correct_moments(values[:, part], r[part], phi[part], weights[part], ends, kernel, radius, 2)
        torch.testing.assert_close(alone, whole[:, part], rtol=0, atol=1e-12)
    empty = correct_moments(
        values[:, :0], r[:0], phi[:0], weights[:0], torch.zeros(4, dtype=torch.long), kernel, radius, 2
    )
    assert empty.shape == (4, 0)


@pytest.mark.parametrize("count", [2, 4, 7, 30])
def test_frame_does_not_matter(count: int) -> None:
    """Isotropic filters come out the same in every frame, rows that lose moments included."""
    kernel, radius = Rings(3), 0.3
    r, phi, weights, indptr = random_rows(300, count, radius)
    turn = torch.rand(300, dtype=torch.float64).repeat_interleave(count) * 6
    values = kernel(r, phi, radius)
    one = correct_moments(values, r, phi, weights, indptr, kernel, radius, 3)
    other = correct_moments(values, r, phi + turn, weights, indptr, kernel, radius, 3)
    torch.testing.assert_close(other, one, rtol=0, atol=1e-10)


def test_isotropic_eigenvalues() -> None:
    """Funk-Hecke: an isotropic filter R takes Y_lm to (2 pi int R P_l sin r dr) Y_lm."""
    kernel = Rings(3)
    worst = []
    for n in (2000, 8000):
        points, areas = fibonacci(n)
        radius = 3 * math.sqrt(4 * math.pi / n)
        target = points[::5]
        r, phi, index, indptr = neighbours(target, points, radius)
        values = kernel(r, phi, radius)
        corrected = correct_moments(values, r, phi, areas[index], indptr, kernel, radius, 2)
        for lm in ((2, 1), (4, -3), (6, 0)):
            y, exact = harmonic(*lm, points), harmonic(*lm, target)
            scale = [2 * math.pi * radial(kernel, k, radius, 0, lm[0]) for k in range(2)]
            wanted = torch.tensor(scale, dtype=torch.float64)[:, None] * exact
            plain, better = (
                float(
                    (
                        (row_sum(v * areas[index] * y[index], indptr) - wanted).norm(dim=1)
                        / wanted.norm(dim=1)
                    ).max()
                )
                for v in (values, corrected)
            )
            assert better < plain / 10 and better < 2e-3, (n, lm, plain, better)
            worst.append(better)
    # four times the points: the error of degree 2 falls with the fourth power of h, the plain one not at all
    assert all(fine < coarse / 8 for coarse, fine in zip(worst[:3], worst[3:], strict=True)), worst


@pytest.mark.parametrize("m", [1, 2])
def test_directional_eigenvalues(m: int) -> None:
    """Addition theorem: cos(m phi) R(r) takes P_l(a . q) to c P_l^m(a . p) cos(m phi_a),
    c = 2 pi (l - m)!/(l + m)! int R P_l^m sin r dr."""
    kernel, n, degree = CircularHarmonics(1, 2), 6000, 4
    k = kernel.orders.index(m)
    points, areas = fibonacci(n)
    radius = 3 * math.sqrt(4 * math.pi / n)
    axis, target = (
        torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64), dim=0),
        points[::5],
    )
    r, phi, index, indptr = neighbours(target, points, radius)
    distance, angle, _, one = neighbours(target, axis[None], math.pi)
    assert len(distance) == len(target) == int(one[-1])
    signal = torch.from_numpy(lpmv(0, degree, (points @ axis).numpy()))
    factor = (
        2
        * math.pi
        * math.factorial(degree - m)
        / math.factorial(degree + m)
        * radial(kernel, k, radius, m, degree)
    )
    exact = factor * torch.from_numpy(lpmv(m, degree, distance.cos().numpy())) * torch.cos(m * angle)
    values = kernel(r, phi, radius)
    error = []
    for v in (values, correct_moments(values, r, phi, areas[index], indptr, kernel, radius, 2)):
        got = row_sum(v[k] * areas[index] * signal[index], indptr)
        error.append(float((got - exact).norm() / exact.norm()))
    assert error[1] < error[0] / 10 and error[1] < 6e-3, error


def harmonic(degree: int, order: int, points: Tensor) -> Tensor:
    y = sph_harm_y(
        degree, abs(order), torch.acos(points[:, 2]).numpy(), torch.atan2(points[:, 1], points[:, 0]).numpy()
    )
    return torch.from_numpy(np.ascontiguousarray(y.imag if order < 0 else y.real))


def radial(kernel: Kernel, k: int, radius: float, m: int, degree: int) -> float:
    """int R_k(r) P_l^m(cos r) sin r dr along phi = 0, by adaptive quadrature."""

    def integrand(r: float) -> float:
        at = torch.tensor([r], dtype=torch.float64)
        return float(kernel(at, 0 * at, radius)[k]) * float(lpmv(m, degree, math.cos(r))) * math.sin(r)

    return quad(integrand, 0, radius, points=[radius / 2], epsabs=1e-14, epsrel=1e-12)[0]


def test_wrong_arguments() -> None:
    kernel = Rings(3)
    r, phi, weights, indptr = random_rows(3, 5, 0.3)
    values = kernel(r, phi, 0.3)
    with pytest.raises(ValueError, match="degree is -1"):
        correct_moments(values, r, phi, weights, indptr, kernel, 0.3, -1)
    with pytest.raises(ValueError, match="radius is 4"):
        correct_moments(values, r, phi, weights, indptr, kernel, 4.0, 2)
    with pytest.raises(ValueError, match="values, r, phi, weights have shapes"):
        correct_moments(values[:1], r, phi, weights, indptr, kernel, 0.3, 2)
