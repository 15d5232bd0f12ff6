from __future__ import annotations

import math

import e3nn.nn
import pytest
import torch
from e3nn.o3 import Irreps
from e3nn.util.test import assert_equivariant

from spheregeo.harmonics import component_harmonics
from spheregeo.nn.irreps.activations import second_moment
from spheregeo.nn.irreps.layout import change_layout
from spheregeo.nn.irreps.sample_grids import (
    grid_for,
    grid_shape,
    rotation_grid,
    sampling_error,
    sampling_matrices,
    sphere_grid,
)
from spheregeo.nn.irreps.sphere_activation import rotation_channels, rotation_irreps, sphere_channels
from spheregeo.nn.space import SeparableSphereActivation, SO3Activation, SphereActivation

RAGGED = "2x1o+4x0e+3x2e+2x0o+3x1e+1x3o"


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def cube(x):
    return x**3


def natural(lmax, mul=1):
    return Irreps([(mul, (l, (-1) ** l)) for l in range(lmax + 1)])


# the table of Gauss-Legendre grids: exact where the table says so, else at most twice its numbers
ACTS = ("square", cube, "relu", "gelu", "tanh", "silu")
ROWS = {
    (5, 9): (3e-1, 3e-1, 2e-1, 2e-1, 1.5e-1, 1.5e-1),
    (7, 13): (None, 6e-2, 5e-2, 2.5e-2, 4e-2, 1.3e-2),
    (9, 17): (None, None, 2e-2, 6e-3, 1.2e-2, 2.5e-3),
    (15, 27): (None, None, 6e-3, 1.5e-4, 7e-4, 3e-5),
    (20, 36): (None, None, 3e-3, 6e-6, 8e-5, 1e-6),
}


@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_errors_on_the_sphere(shape):
    (channels,) = sphere_channels(natural(4))
    for act, known in zip(ACTS, ROWS[shape]):
        error = sampling_error(act, channels.signal, shape)
        assert error < (1e-13 if known is None else 2 * known), act
        assert known is None or error > known / 4, act


@pytest.mark.parametrize(
    "shape, known",
    [((4, 7, 7), (9e-3, 3e-2, 1.2e-2, 4e-2)), ((6, 10, 10), (6e-4, 4e-3, 2e-3, 1.1e-2))],
    ids=str,
)
@pytest.mark.parametrize("reflections", [False, True])
def test_errors_on_so3(shape, known, reflections):
    (channels,) = rotation_channels(rotation_irreps(1, 2, reflections=reflections))
    assert sampling_error("square", channels.signal, shape) < 1e-13
    for act, expected in zip(("silu", "tanh", "elu", "relu"), known):
        assert sampling_error(act, channels.signal, shape) < 2 * expected


@pytest.mark.parametrize("lmax", [1, 2, 5])
def test_square_is_exact_at_the_second_row(lmax):
    """Catches every error of quadrature, layout and normalisation."""
    irreps = natural(lmax, 3)
    layer = SphereActivation(irreps, "square", resolution=(math.ceil((3 * lmax + 1) / 2), 3 * lmax + 1))
    assert layer.error < 1e-13
    assert_equivariant(layer, irreps_in=[irreps], irreps_out=[irreps], tolerance=1e-11)


def test_square_and_cube_equal_e3nn_on_a_fine_grid():
    irreps = natural(3)
    for act in (torch.square, cube):
        theirs = e3nn.nn.S2Activation(irreps, act, 24, lmax_out=3)
        theirs.act.cst = 1.0
        x = torch.randn(5, irreps.dim)
        torch.testing.assert_close(
            SphereActivation(irreps, act, normalize=False)(x), theirs(x), atol=1e-12, rtol=0
        )


def test_output_is_the_projection_of_the_acted_signal():
    """By hand on a random set of directions: the projection's residual is orthogonal to all harmonics of the grid."""
    irreps = natural(2, 2)
    layer = SphereActivation(irreps, cube, normalize=False)
    x = torch.randn(irreps.dim)
    points, weights = sphere_grid(9, 17)
    Y = component_harmonics(points, 2)
    for c in range(2):
        index = torch.tensor([c, *(2 + 3 * c + m for m in range(3)), *(8 + 5 * c + m for m in range(5))])
        share = torch.tensor([3.0] + 3 * [9.0] + 5 * [15.0]).sqrt()  # degrees times components of a degree
        signal = Y @ (x[index] / share)
        torch.testing.assert_close(layer(x)[index], share * (Y.T @ (weights * signal**3)), atol=1e-12, rtol=0)


def test_default_error_is_stated_and_met_by_the_layer():
    irreps = natural(2, 4)
    layer = SphereActivation(irreps)
    assert layer.shapes == [(5, 9)] and 1e-3 < layer.error < 1e-2
    assert f"{layer.error:.1e}" in repr(layer)
    x = torch.randn(400, irreps.dim)
    for parity in (1, -1):
        D = irreps.D_from_matrix(parity * torch.linalg.qr(torch.randn(3, 3))[0])
        difference = layer(x) @ D.T - layer(x @ D.T)
        assert float(difference.norm() / layer(x).norm()) < 2 * layer.error


@pytest.mark.parametrize("act, tolerance", [("silu", 1e-3), ("silu", 1e-6), ("tanh", 1e-3), ("relu", 1e-2)])
def test_tolerance_picks_the_grid(act, tolerance):
    layer = SphereActivation(natural(3), act, tolerance=tolerance)
    assert tolerance / 30 < layer.error < tolerance
    assert SphereActivation(natural(3), act, tolerance=tolerance).shapes == layer.shapes


def test_pseudo_irreps_and_ragged_copies_are_equivariant_under_o3():
    layer = SphereActivation(RAGGED, "square", odd_act=cube, resolution=(8, 13))
    assert_equivariant(layer, irreps_in=[RAGGED], irreps_out=[RAGGED], tolerance=1e-11)
    jacobian = torch.autograd.functional.jacobian(layer, torch.randn(layer.dim))
    assert int((jacobian != 0).any(1).sum()) == layer.dim


@pytest.mark.parametrize("reflections", [False, True])
@pytest.mark.parametrize("lmax", [1, 2])
def test_so3_activation_is_equivariant_under_o3(reflections, lmax):
    irreps = rotation_irreps(2, lmax, reflections=reflections)
    layer = SO3Activation(irreps, cube)
    assert_equivariant(layer, irreps_in=[irreps], irreps_out=[irreps], tolerance=1e-11)
    signal = layer.signals[0]
    band = 3 * lmax
    shape = grid_shape(signal, band, True)
    assert shape == (math.ceil((band + 1) / 2), band + 1, band + 1)
    assert sampling_error("square", signal, shape) < 1e-13


def test_so3_samples_are_orthonormal_columns():
    q, weights = rotation_grid(3, 5, 5)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-14) and q.shape == (75, 4)
    (channels,) = rotation_channels(rotation_irreps(1, 2))
    to, back = sampling_matrices(channels.signal, (3, 5, 5))
    torch.testing.assert_close(back @ to, torch.eye(35), atol=1e-13, rtol=0)
    assert float(to.square().sum(1).mean()) == pytest.approx(1, abs=1e-12)  # unit variance


def test_separable_activation_leaves_scalars_to_themselves():
    plain, layer = SphereActivation(RAGGED), SeparableSphereActivation(RAGGED)
    x = torch.randn(6, layer.dim)
    y, z = layer(x), plain(x)
    even, odd = slice(6, 10), slice(25, 27)
    silu = torch.nn.functional.silu(x[:, even]) / second_moment("silu")
    torch.testing.assert_close(y[:, even], silu, atol=1e-14, rtol=0)
    torch.testing.assert_close(y[:, odd], torch.tanh(x[:, odd]) / second_moment("tanh"), atol=1e-14, rtol=0)
    y[:, even], y[:, odd] = z[:, even], z[:, odd]
    torch.testing.assert_close(y, z, atol=0, rtol=0)
    assert layer.error < 5e-2
    exact = SeparableSphereActivation(RAGGED, cube, odd_act=cube)
    assert_equivariant(exact, irreps_in=[RAGGED], irreps_out=[RAGGED], tolerance=1e-11)


def test_blocks_and_derivatives(monkeypatch):
    layer = SphereActivation(RAGGED)
    x, g = torch.randn(40, layer.dim, requires_grad=True), torch.randn(40, layer.dim)
    whole = layer(x)
    (slope,) = torch.autograd.grad(whole, x, g)
    monkeypatch.setattr("spheregeo.nn.irreps.sampled.BLOCK", 1)
    parts = layer(x)
    torch.testing.assert_close(parts, whole, atol=1e-14, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(parts, x, g)[0], slope, atol=1e-13, rtol=0)
    small = SphereActivation("1x0e+1x1o", resolution=(2, 3))
    x = torch.randn(2, 4, requires_grad=True)
    assert torch.autograd.gradcheck(small, x)
    assert torch.autograd.gradgradcheck(small, x)


def test_layouts_agree():
    x = torch.randn(3, Irreps(RAGGED).dim)
    y = SphereActivation(RAGGED, layout="ir_mul")(change_layout(x, RAGGED, "mul_ir", "ir_mul"))
    y = change_layout(y, RAGGED, "ir_mul", "mul_ir")
    torch.testing.assert_close(y, SphereActivation(RAGGED)(x), atol=1e-14, rtol=0)


def test_float32_and_casts():
    torch.set_default_dtype(torch.float32)
    irreps = natural(3, 2)
    layer = SphereActivation(irreps, cube)
    assert_equivariant(layer, irreps_in=[irreps], irreps_out=[irreps], tolerance=1e-3)
    x = torch.randn(4, irreps.dim)
    exact = layer(x)
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(
        layer.double()(x.double()), SphereActivation(irreps, cube).double()(x.double())
    )
    torch.set_default_dtype(torch.float64)
    fresh = SphereActivation(irreps, cube)(x.double())
    torch.testing.assert_close(layer(x.double()), fresh, atol=1e-14, rtol=0)  # digits were not rounded up
    torch.testing.assert_close(exact.double(), fresh, atol=1e-4, rtol=1e-4)


def test_a_module_with_parameters_is_trained():
    layer = SphereActivation(natural(2), torch.nn.PReLU(), tolerance=0.05)
    layer(torch.randn(5, 9)).square().sum().backward()
    assert [p.grad is not None and bool(p.grad != 0) for p in layer.parameters()] == [True]


def test_compiles_in_one_graph():
    layer, x = SphereActivation(RAGGED), torch.randn(4, Irreps(RAGGED).dim, requires_grad=True)
    y = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(y, layer(x), atol=1e-13, rtol=0)
    (a,), (b,) = torch.autograd.grad(y.sin().sum(), x), torch.autograd.grad(layer(x).sin().sum(), x)
    torch.testing.assert_close(a, b, atol=1e-13, rtol=0)


def test_shapes_without_rows():
    layer = SphereActivation(natural(2))
    assert layer(torch.zeros(0, 9)).shape == (0, 9) and layer(torch.zeros(9)).shape == (9,)
    assert layer.samples == 45


def test_faults_name_what_came(monkeypatch):
    monkeypatch.setattr("spheregeo.nn.irreps.sample_grids.MOST_SAMPLES", 2000)
    with pytest.raises(ValueError, match="odd_act is None"):
        SphereActivation("1x0e+1x1e", odd_act=None)
    with pytest.raises(ValueError, match="odd_act is silu"):
        SphereActivation("1x0e+1x1e", odd_act="silu")
    with pytest.raises(ValueError, match="at least \\(3, 5\\)"):
        SphereActivation(natural(2), resolution=(2, 5))
    with pytest.raises(ValueError, match="both given"):
        SphereActivation(natural(2), resolution=(3, 5), tolerance=1e-3)
    with pytest.raises(ValueError, match="tolerance is 1e-12 for degree 2 and act relu"):
        grid_for("relu", sphere_channels(natural(2))[0].signal, 1e-12, on_group=False)
    with pytest.raises(ValueError, match="tolerance is 0"):
        SphereActivation(natural(2), tolerance=0)
    with pytest.raises(ValueError, match="amplitude"):
        SphereActivation(natural(2), amplitude=0)
    with pytest.raises(ValueError, match="functions on SO\\(3\\)"):
        SO3Activation("1x0e+2x1e")
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 9\)"):
        SphereActivation(natural(2))(torch.zeros(8))
    with pytest.raises(ValueError, match="channels is 0"):
        rotation_irreps(0, 2)
