from __future__ import annotations

import pytest
import torch
from e3nn.o3 import Irreps

from spheregeo.audit import randomise
from spheregeo.groups import random_rotations
from spheregeo.harmonics import wigner_D
from spheregeo.nn.space import SphereActivation, SphereMLP


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def cube(x):
    return x**3


def natural(lmax, mul):
    return Irreps([(mul, (l, (-1) ** l)) for l in range(lmax + 1)])


@torch.no_grad()
def assert_exact(layer):
    # with our own matrices: e3nn's lose digits near their poles
    x = torch.randn(4, layer.dim_in)
    for R in random_rotations(10):
        for g in (R, -R):
            y = layer(x) @ wigner_D(layer.irreps_out, g).T
            assert float((y - layer(x @ wigner_D(layer.irreps_in, g).T)).abs().max()) < 1e-11


def test_polynomial_networks_are_exactly_equivariant():
    assert_exact(randomise(SphereMLP(natural(2, 3), (5,), 4, cube)))
    terms_apart = randomise(SphereMLP("2x2e+3x1o+3x0e+1x2e", (5,), 2, cube))
    assert str(terms_apart.irreps_out) == "2x0e+2x1o+2x2e"
    assert_exact(terms_apart)


@pytest.mark.parametrize("lmax, known", [(2, 6e-3), (4, 5e-3)])
@torch.no_grad()
def test_error_at_the_default_grid(lmax, known):
    layer = randomise(SphereMLP(natural(lmax, 8), (16,)))
    x, y, errors = torch.randn(50, layer.dim_in), None, []
    for R in random_rotations(6):
        D = wigner_D(layer.irreps_in, -R)
        y = layer(x) @ D.T
        errors.append(float((y - layer(x @ D.T)).norm() / y.norm()))
    assert known / 4 < max(errors) < 1.5 * known


def test_without_mixing_it_is_the_activation():
    irreps = natural(3, 4)
    layer = SphereMLP(irreps, (4,))
    with torch.no_grad():
        for linear in (layer.network[0], layer.network[2]):
            linear.weight.copy_(torch.eye(4))
    x = torch.randn(2, 3, irreps.dim)
    torch.testing.assert_close(layer(x), SphereActivation(irreps)(x), atol=1e-13, rtol=0)


def test_derivatives_and_compilation():
    layer = randomise(SphereMLP(natural(1, 2), (3,), 1))
    x = torch.randn(2, 8, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x) and torch.autograd.gradgradcheck(layer, x)
    y = torch.compile(layer, fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(y, layer(x))


def test_faults_name_what_came():
    with pytest.raises(ValueError, match="same number of copies"):
        SphereMLP("2x0e+3x1o", (4,))
    with pytest.raises(ValueError, match="same number of copies"):
        SphereMLP("2x0o+2x1e", (4,))
    with pytest.raises(ValueError, match="positive widths"):
        SphereMLP("2x0e+2x1o", (0,))
    with pytest.raises(ValueError, match=r"at least \(3, 5\)"):
        SphereMLP(natural(2, 2), (4,), resolution=(2, 5))
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 8\)"):
        SphereMLP(natural(1, 2), (4,))(torch.zeros(7))
