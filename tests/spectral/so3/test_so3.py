"""The Fourier transform on SO(3): its dense twin, round trips, transposes, derivatives, compilation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spheregeo.grids import Equiangular, GaussLegendre
from spheregeo.groups import random_rotations
from spheregeo.harmonics import real_harmonics, wigner_D, z_polar_matrix
from spheregeo.spectral import (
    SHT,
    InverseSHT,
    InverseSO3Transform,
    SO3Grid,
    SO3Transform,
    characters,
    class_function,
    convolve_so3,
    correlate_so3,
    correlate_sphere,
    integrate_so3,
    project_to_sphere,
    rotate_coefficients,
)


def matrix(degree: int, rotations: Tensor) -> Tensor:
    """D^l in the basis of :func:`real_harmonics`, from the closed form of features."""
    basis = z_polar_matrix(degree)
    return basis @ wigner_D(degree, rotations) @ basis.T


def functions(transform: InverseSO3Transform) -> Tensor:
    """All D^l_mn on the grid: (2b, 2b, num_gamma, coefficients)."""
    columns = []
    for degree in range(transform.lmax + 1):
        top = min(degree, transform.nmax)
        columns.append(
            matrix(degree, transform.grid.rotations)[..., degree - top : degree + top + 1].flatten(-2)
        )
    return torch.cat(columns, -1)


def test_the_basis_turns_harmonics() -> None:
    rotation, points = (
        random_rotations(1)[0],
        torch.nn.functional.normalize(torch.randn(9, 3).double(), dim=1),
    )
    turned, plain = real_harmonics(points @ rotation.T, 3)[:, 9:], real_harmonics(points, 3)[:, 9:]
    assert (turned - plain @ matrix(3, rotation).T).abs().max() < 1e-13


@pytest.mark.parametrize(
    ("lmax", "grid", "nmax"),
    [
        (4, None, None),
        (0, None, None),
        (4, SO3Grid(7, 9), None),
        (4, None, 2),
        (4, None, 0),
        (4, SO3Grid(6, 6), 2),
    ],
)
def test_equal_to_dense_sums(lmax: int, grid: SO3Grid | None, nmax: int | None) -> None:
    inverse, transform = InverseSO3Transform(lmax, grid, nmax), SO3Transform(lmax, grid, nmax)
    dense = functions(inverse)
    c = torch.randn(2, 3, inverse.size, dtype=torch.float64)
    x = inverse(c)
    assert x.shape == (2, 3, *inverse.grid.shape)
    assert (x - torch.einsum("...c,xyzc->...xyz", c, dense)).abs().max() < 1e-12
    assert (transform(x) - c).abs().max() < 1e-12
    y = torch.randn_like(x)
    assert (inverse.adjoint(y) - torch.einsum("...xyz,xyzc->...c", y, dense)).abs().max() < 1e-12
    assert ((transform.adjoint(c) * y).sum() - (transform(y) * c).sum()).abs() < 1e-11
    assert inverse(c.float()).dtype == torch.float32
    assert (inverse(c.float()) - x).abs().max() < 2e-5


def test_round_trip_at_a_higher_degree() -> None:
    inverse, transform = InverseSO3Transform(31), SO3Transform(31)
    c = torch.randn(inverse.size, dtype=torch.float64)
    assert (transform(inverse(c)) - c).abs().max() < 1e-12
    assert (transform(inverse(c.float())) - c).abs().max() < 5e-6


def test_derivatives() -> None:
    inverse, transform = InverseSO3Transform(1), SO3Transform(1)
    c = torch.randn(2, inverse.size, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, *inverse.grid.shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(inverse, c)
    assert torch.autograd.gradgradcheck(inverse, c)
    assert torch.autograd.gradcheck(transform, x)
    mapped = torch.func.vmap(transform)(x)
    assert (mapped - transform(x)).abs().max() < 1e-14


def test_compiled() -> None:
    inverse, transform = InverseSO3Transform(2), SO3Transform(2)

    def there_and_back(c: Tensor) -> Tensor:
        out: Tensor = transform(inverse(c).relu())
        return out

    c = torch.randn(2, inverse.size, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")
    wanted, got = there_and_back(c), compiled(c)
    assert (wanted - got).abs().max() < 1e-13
    (a,), (b,) = torch.autograd.grad(wanted.square().sum(), c), torch.autograd.grad(got.square().sum(), c)
    assert (a - b).abs().max() < 1e-12


def test_errors() -> None:
    with pytest.raises(ValueError, match="bandwidth 3; expected at least lmax"):
        SO3Transform(3, SO3Grid(3))
    with pytest.raises(ValueError, match="4 angles gamma; expected more than"):
        SO3Transform(3, SO3Grid(4, 4))
    with pytest.raises(ValueError, match=r"coefficients has shape \(5,\); expected \(..., 84\)"):
        InverseSO3Transform(3)(torch.zeros(5))
    with pytest.raises(ValueError, match=r"x has shape \(2, 8, 8\); expected"):
        SO3Transform(3)(torch.zeros(2, 8, 8))


def test_the_grid_integrates_over_the_group() -> None:
    grid = SO3Grid(4, 9)
    weights = grid.weights[:, None, None].expand(grid.shape)
    assert abs(float(weights.sum()) - 8 * torch.pi**2) < 1e-12
    assert (torch.einsum("xyz,xyzij->ij", weights, grid.rotations)).abs().max() < 1e-12


def test_correlation_on_the_sphere_is_its_integral() -> None:
    f, psi = torch.randn(2, 16, dtype=torch.float64)
    inverse = InverseSO3Transform(3)
    h = inverse(correlate_sphere(f, psi))
    sphere = GaussLegendre(8, 16)
    picture, areas = InverseSHT(sphere, 3)(f).flatten(), sphere.areas
    for k, a, g in ((0, 0, 0), (2, 5, 1), (7, 3, 6)):
        turned = InverseSHT(sphere, 3)(rotate_coefficients(psi, inverse.grid.rotations[k, a, g])).flatten()
        assert abs(float((picture * turned * areas).sum() - h[k, a, g])) < 1e-12


@pytest.mark.parametrize("function", [convolve_so3, correlate_so3])
def test_products_on_the_group_are_their_integrals(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    inverse = InverseSO3Transform(2)
    h, k = torch.randn(2, inverse.size, dtype=torch.float64)
    grid, turn = inverse.grid, random_rotations(1)[0]
    weights = grid.weights[:, None, None]
    argument = grid.rotations.mT @ turn if function is convolve_so3 else turn.T @ grid.rotations
    basis = torch.cat([matrix(degree, argument).flatten(-2) for degree in range(3)], -1)
    wanted = (inverse(h) * (basis @ k) * weights).sum()
    at_turn = torch.cat([matrix(degree, turn).flatten() for degree in range(3)])
    assert abs(float(wanted - function(h, k) @ at_turn)) < 1e-10


def test_projection_integral_and_characters() -> None:
    inverse = InverseSO3Transform(4)
    h = torch.randn(3, inverse.size, dtype=torch.float64)
    x = inverse(h)
    field = InverseSHT(Equiangular(10, 10), 4)(project_to_sphere(h))
    assert (field - x.mean(-1)).abs().max() < 1e-12
    assert (SHT(Equiangular(10, 10), 4)(x.mean(-1)) - project_to_sphere(h)).abs().max() < 1e-12
    total = (x * inverse.grid.weights[:, None, None]).sum((-3, -2, -1))
    assert (total - integrate_so3(h)).abs().max() < 1e-11
    a = torch.randn(5, dtype=torch.float64)
    angle = torch.acos(((inverse.grid.rotations.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1))
    assert (characters(angle, 4) @ a - inverse(class_function(a))).abs().max() < 1e-10
    assert characters(torch.zeros(1), 4).tolist() == [[1, 3, 5, 7, 9]]
