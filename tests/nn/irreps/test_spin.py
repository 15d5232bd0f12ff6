from __future__ import annotations

import math

import pytest
import torch
from e3nn.util.test import assert_equivariant

from spheregeo.audit import randomise
from spheregeo.groups import axis_angle, random_rotations
from spheregeo.harmonics import component_harmonics, wigner_D
from spheregeo.nn import SpinBlock
from spheregeo.nn.irreps.sample_grids import rotation_grid, sphere_grid
from spheregeo.nn.space import (
    SphereActivation,
    SpinActivation,
    SpinLinear,
    SpinType,
    lift,
    project,
    sphere_correlation,
)

TYPES = [("2x0+1x1", 2), ("1x2+2x0", 3), ("1x1", 2), ("1x0+1x1+1x2", 2)]


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def cube(x):
    return x**3


def functions(matrices, lmax, rotations):
    """Values at rotations of functions with given Fourier matrices. Shape: (C, entries), (S, 3, 3) -> (C, S)."""
    basis = [math.sqrt(2 * l + 1) * wigner_D(l, rotations).flatten(1) for l in range(lmax + 1)]
    return matrices @ torch.cat(basis, 1).T


@pytest.mark.parametrize("fields, lmax", TYPES)
def test_lifted_fields_are_mackey_functions(fields, lmax):
    """Order k in the frame's angle, rotations from the left on m alone, inversion from the right."""
    spin = SpinType(fields, lmax)
    x = torch.randn(spin.dim)
    orders = [order for copies, order in spin.terms for _ in range(copies)]
    R, turn, gamma = random_rotations(20), random_rotations(1)[0], 0.7
    F = functions(lift(x, spin), lmax, R)
    spun = functions(lift(x, spin), lmax, R @ axis_angle((0, 1, 0), gamma))
    for field, k in enumerate(orders):
        if k == 0:
            torch.testing.assert_close(spun[field], F[field], atol=1e-12, rtol=0)
            continue
        other = functions(lift(x, spin), lmax, R @ axis_angle((0, 1, 0), math.pi / (2 * k)))[field]
        expected = math.cos(k * gamma) * F[field] + math.sin(k * gamma) * other
        torch.testing.assert_close(spun[field], expected, atol=1e-12, rtol=0)
    rotated = functions(lift(wigner_D(spin.irreps, turn) @ x, spin), lmax, R)
    torch.testing.assert_close(rotated, functions(lift(x, spin), lmax, turn.T @ R), atol=1e-12, rtol=0)
    inverted = functions(lift(wigner_D(spin.irreps, -torch.eye(3)) @ x, spin), lmax, R)
    half = axis_angle((1, 0, 0), math.pi)
    torch.testing.assert_close(inverted, functions(lift(x, spin), lmax, R @ half), atol=1e-12, rtol=0)


@pytest.mark.parametrize("fields, lmax", TYPES)
def test_project_is_the_inverse_and_the_adjoint_of_lift(fields, lmax):
    spin = SpinType(fields, lmax)
    x = torch.randn(3, spin.dim, requires_grad=True)
    y = lift(x, spin)
    torch.testing.assert_close(project(y, spin), x)
    g = torch.randn_like(y)
    torch.testing.assert_close(torch.autograd.grad(y, x, g)[0], project(g, spin))
    assert int((y[0] != 0).sum()) == spin.dim


def test_order_zero_is_a_function_on_the_sphere():
    spin = SpinType("1x0", 3)
    x, R = torch.randn(spin.dim), random_rotations(30)
    values = component_harmonics(R @ torch.tensor([0.0, 1.0, 0.0]), 3) @ x
    torch.testing.assert_close(functions(lift(x, spin), 3, R)[0], values, atol=1e-12, rtol=0)


@pytest.mark.parametrize("act", ["silu", "relu", cube])
def test_activation_of_order_zero_is_that_of_the_sphere(act):
    spin = SpinType("3x0", 4)
    x = torch.randn(5, spin.dim)
    plain = SphereActivation(spin.irreps, act)
    assert SpinActivation(spin, act).shapes == [(9, 17, 1)]
    for n_gamma in (1, 2, 5):
        layer = SpinActivation(spin, act, resolution=(9, 17, n_gamma))
        torch.testing.assert_close(layer(x), plain(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("reflections", [True, False])
@pytest.mark.parametrize("fields, lmax", TYPES)
def test_activation_is_equivariant(fields, lmax, reflections):
    spin = SpinType(fields, lmax, reflections=reflections)
    layer = SpinActivation(spin, cube)
    assert_equivariant(layer, irreps_in=[spin.irreps], irreps_out=[spin.irreps], tolerance=1e-11)
    assert layer.error < 1e-13
    assert SpinActivation(spin, "silu", tolerance=1e-3).error < 1e-3


def test_activation_acts_on_samples_of_the_lifted_field():
    spin = SpinType("1x1+1x0", 2)
    x = torch.randn(spin.dim)
    layer = SpinActivation(spin, cube, normalize=False)
    q, weights = rotation_grid(5, 9, 9)
    from spheregeo.groups import from_quaternion

    share = torch.ones(spin.dim)  # degrees times components of a degree, in the channel
    for column in spin.columns:
        width = 2 * column.degree + 1
        count = 3 * width * (1 if column.degree == 0 else 3)
        share[column.start : column.start + width] = math.sqrt(count)
    R = from_quaternion(q)
    values = functions(lift(x / share, spin), 2, R).sum(0)
    basis = torch.stack([functions(lift(e, spin), 2, R).sum(0) for e in torch.eye(spin.dim)])
    torch.testing.assert_close(layer(x), share * (basis @ (weights * values**3)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("reflections", [True, False])
@pytest.mark.parametrize(
    "source, target", [("1x0", "1x0"), ("1x0", "1x1"), ("1x1", "1x2"), ("1x2", "1x2"), ("2x1", "1x0+1x1")]
)
def test_linear_maps_are_all_there_are(source, target, reflections):
    """Equivariant matrices are the null space of D_out W - W D_in over some elements of the group: count them."""
    a, b = SpinType(source, 2, reflections=reflections), SpinType(target, 2, reflections=reflections)
    layer = SpinLinear(a, b, bias=False)
    elements = random_rotations(3)
    if reflections:
        elements[0] *= -1
    rows = []
    for element in elements:
        D_in, D_out = wigner_D(a.irreps, element), wigner_D(b.irreps, element)
        rows.append(torch.kron(D_out, torch.eye(a.dim)) - torch.kron(torch.eye(b.dim), D_in.T.contiguous()))
    gram = sum(row.T @ row for row in rows)
    dimension = int((torch.linalg.eigvalsh(gram) < 1e-9).sum())
    assert dimension == layer.linear.weight.numel()
    blocks = 0
    for ca, ka in a.terms:
        for cb, kb in b.terms:
            size = (2 if ka else 1) * (2 if kb else 1)
            blocks += ca * cb * (2 - max(ka, kb) + 1) * (max(1, size // 2) if reflections else size)
    assert dimension == blocks


@pytest.mark.parametrize("reflections", [True, False])
def test_linear_is_equivariant(reflections):
    a, b = (SpinType(f, 3, reflections=reflections) for f in ("2x0+2x1", "1x2+3x0+1x1"))
    layer = randomise(SpinLinear(a, b))
    assert_equivariant(layer, irreps_in=[a.irreps], irreps_out=[b.irreps], tolerance=1e-12)


@pytest.mark.parametrize("reflections", [True, False])
def test_block_by_way_of_the_group(reflections):
    """Exact for x²; of order 0 alone it is the block with the sphere's activation; directions enter where orders do."""
    scalars, both = (SpinType(fields, 2, reflections=reflections) for fields in ("2x0", "3x0+3x1"))
    block = randomise(SpinBlock(scalars, both, act=torch.square))
    assert_equivariant(block, irreps_in=[scalars.irreps], irreps_out=[scalars.irreps], tolerance=1e-11)
    x = torch.randn(4, scalars.dim)
    without = x + block.project(
        block.act(block.lift(x) * torch.tensor([c.order == 0 for c in columns(both)]))
    )
    assert (without - block(x)).abs().max() > 1e-3
    plain = randomise(SpinBlock(scalars, scalars, act="silu"))
    on_sphere = (
        SphereActivation(scalars.irreps, "silu")(plain.lift(x)) if reflections else plain.act(plain.lift(x))
    )
    torch.testing.assert_close(plain(x), x + plain.project(on_sphere), atol=1e-12, rtol=0)


def columns(spin):
    """The column that each component of a feature belongs to."""
    return [column for column in spin.columns for _ in range(column.copies * (2 * column.degree + 1))]


def test_correlation_with_the_sphere():
    """Against the integral itself, on a quadrature exact for products."""
    lmax = 3
    f, psi = torch.randn(2, 16), torch.randn(16)
    points, weights = sphere_grid(4, 7)
    R = random_rotations(10)
    moved = component_harmonics(points @ R, lmax) @ psi  # psi(R^-1 p), (10, points)
    expected = (component_harmonics(points, lmax) @ f.T * weights[:, None]).T @ moved.T
    matrices = sphere_correlation(f, psi, lmax)
    basis = torch.cat([wigner_D(l, R).flatten(1) for l in range(lmax + 1)], 1)
    torch.testing.assert_close(matrices @ basis.T, expected, atol=1e-12, rtol=0)


def test_types_are_values():
    spin = SpinType("2x0 + 1x1", 2)
    assert eval(repr(spin)) == spin and hash(eval(repr(spin))) == hash(spin)
    assert spin != SpinType("2x0 + 1x1", 3) and str(spin) == "2x0 + 1x1"
    assert str(spin.irreps) == "2x0e+2x1o+2x2e+1x1o+1x1e+1x2e+1x2o"
    assert str(SpinType("1", 1, reflections=False).irreps) == "1x1e+1x1e"


def test_faults_name_what_came():
    with pytest.raises(ValueError, match="fields is '2y0'"):
        SpinType("2y0", 2)
    with pytest.raises(ValueError, match="lmax ≥ 3"):
        SpinType("1x3", 2)
    spin = SpinType("1x0", 2)
    with pytest.raises(ValueError, match="spin type is '1x0'"):
        SpinActivation("1x0")
    with pytest.raises(ValueError, match="with reflections or both without"):
        SpinLinear(spin, SpinType("1x0", 2, reflections=False))
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 1, 35\)"):
        project(torch.zeros(2, 35), spin)
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 9\)"):
        lift(torch.zeros(2, 8), spin)
    with pytest.raises(ValueError, match=r"psi has shape \(8,\)"):
        sphere_correlation(torch.zeros(9), torch.zeros(8), 2)
