"""The Fourier transform on SO(3): its dense twin, round trips, transposes, derivatives, compilation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spheregeo.groups import random_rotations
from spheregeo.harmonics import real_harmonics, wigner_D, z_polar_matrix
from spheregeo.spectral import InverseSO3Transform, SO3Grid, SO3Transform


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
