"""Wigner matrices: group laws at every angle, agreement with e3nn and with the torch twin, gradients without poles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.linalg import expm
from torch import Tensor

from spheregeo.groups import axis_angle, icosahedral, octahedral, random_rotations, to_quaternion
from spheregeo.harmonics import (
    component_harmonics,
    edge_quaternions,
    gauss_legendre,
    packed_wigner,
    rotation_generators,
    unpack_wigner,
    wigner_D,
    wigner_d,
    wigner_to_y,
)
from spheregeo.harmonics import wigner_forms as forms
from spheregeo.harmonics.wigner_d import wigner_d_rows

LMAX = 8


def rotations() -> Tensor:
    """Random ones, both exceptional groups, and turns by nothing, hardly anything and π about many axes."""
    axes = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, -1], [1, 0, 1], [1, 2, 3], [-3, 1, 1]]
    turns = [axis_angle(axis, angle) for axis in axes for angle in (0.0, 1e-8, 1e-4, math.pi - 1e-9, math.pi)]
    return torch.cat([random_rotations(20), octahedral(), icosahedral(), torch.stack(turns)])


def edges() -> Tensor:
    special = [
        [0, 1, 0],
        [0, -2, 0],
        [1e-9, 1, 0],
        [1e-9, -1, 1e-12],
        [1e-200, -1, 0],
        [0, -1, 1e-5],
        [0, 0, 3],
    ]
    return torch.cat([torch.tensor(special, dtype=torch.float64), torch.randn(30, 3, dtype=torch.float64)])


def acting(blocks: list[Tensor], harmonics: Tensor) -> Tensor:
    parts = [
        (block @ harmonics[:, degree**2 : (degree + 1) ** 2, None])[..., 0]
        for degree, block in enumerate(blocks)
    ]
    return torch.cat(parts, 1)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
def test_group_laws_at_every_angle(dtype: torch.dtype, bound: float) -> None:
    r = rotations().to(dtype)
    blocks = unpack_wigner(packed_wigner(r, LMAX))
    assert (blocks[1] - r).abs().max() < bound
    product = unpack_wigner(packed_wigner(r.double() @ r.double().flip(0), LMAX))
    for degree, block in enumerate(blocks):
        identity = torch.eye(2 * degree + 1, dtype=dtype)
        assert (block @ block.mT - identity).abs().max() < bound
        assert (block @ block.flip(0) - product[degree]).abs().max() < bound
    v = torch.randn(len(r), 3, dtype=dtype)
    turned = (r @ v[:, :, None])[..., 0]
    error = acting(blocks, component_harmonics(v, LMAX)) - component_harmonics(turned, LMAX)
    assert error.abs().max() < bound


def test_equal_to_e3nn_from_angles() -> None:
    # from angles: e3nn's own conversion of matrices and quaternions loses digits
    alpha, beta, gamma = (torch.rand(30, dtype=torch.float64) * 2 * math.pi for _ in range(3))
    r = o3.angles_to_matrix(alpha, beta, gamma)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        for degree, block in enumerate(unpack_wigner(packed_wigner(r, 6))):
            assert (block - o3.wigner_D(degree, alpha, beta, gamma)).abs().max() < 1e-12
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("degree", [16, 40, 60])
def test_high_degrees_stay_orthogonal(degree: int) -> None:
    block = wigner_D(degree, random_rotations(3))
    identity = torch.eye(2 * degree + 1, dtype=torch.float64)
    assert (block @ block.mT - identity).abs().max() < 1e-11


def test_quaternions_of_any_length_and_sign() -> None:
    r = rotations()
    q = to_quaternion(r)
    expected = packed_wigner(r, 4)
    for scale in (1.0, -1.0, 1e-150, -3e200):
        assert (packed_wigner(scale * q, 4) - expected).abs().max() < 1e-13


def test_parities_make_it_a_representation_of_reflections() -> None:
    irreps = o3.Irreps("2x1o+1x1e+1x0e+2x0o+1x3e+1x2o")
    r = random_rotations(6) * torch.tensor([1.0, -1, -1, 1, -1, 1], dtype=torch.float64)[:, None, None]
    d = wigner_D(irreps, r)
    assert (wigner_D(irreps, r @ r.flip(0)) - d @ d.flip(0)).abs().max() < 1e-13
    assert (d[:, :3, :3] - r).abs().max() < 1e-14
    inversion = wigner_D(irreps, -torch.eye(3, dtype=torch.float64))
    parity = torch.cat([torch.full((mul * ir.dim,), float(ir.p)) for mul, ir in irreps]).double()
    assert (inversion - torch.diag(parity)).abs().max() < 1e-14
    assert (d - irreps.D_from_matrix(r)).abs().max() < 1e-5  # e3nn's generators are in single precision


def test_compiled_equals_plain() -> None:
    q = to_quaternion(rotations())
    packed = packed_wigner(q, LMAX)
    assert (forms.plain_matrices(q, LMAX) - packed).abs().max() < 1e-12
    left, vectors = torch.randn_like(packed), torch.randn(len(q), 3, dtype=torch.float64)
    scale = forms.plain_torque(left, packed).abs().max()
    assert (forms.torque(left, packed) - forms.plain_torque(left, packed)).abs().max() < 1e-13 * scale
    assert (forms.turn(vectors, packed) - forms.plain_turn(vectors, packed)).abs().max() < 1e-12


def test_single_precision_is_rounded_once() -> None:
    r = rotations().float()
    q = torch.nn.functional.normalize(torch.randn(30, 4, dtype=torch.float64), dim=1).float()
    v = edges().float()
    for found, exact in (
        (packed_wigner(q, LMAX), packed_wigner(q.double(), LMAX)),
        (packed_wigner(r, LMAX), packed_wigner(r.double(), LMAX)),
        (wigner_to_y(v, LMAX), wigner_to_y(v.double(), LMAX)),
    ):
        assert found.dtype == torch.float32 and (found - exact).abs().max() < 1e-7


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
def test_edges_come_to_the_polar_axis(dtype: torch.dtype, bound: float) -> None:
    v = edges().to(dtype)
    blocks = unpack_wigner(wigner_to_y(v, LMAX))
    y = component_harmonics(torch.tensor([[0.0, 1.0, 0.0]], dtype=dtype), LMAX)
    assert (acting(blocks, component_harmonics(v, LMAX)) - y).abs().max() < bound
    for degree, block in enumerate(blocks):
        assert (block @ block.mT - torch.eye(2 * degree + 1, dtype=dtype)).abs().max() < bound
    assert torch.equal(wigner_to_y(v, LMAX), wigner_to_y(v, LMAX))
    assert (packed_wigner(edge_quaternions(v.double()), LMAX) - wigner_to_y(v, LMAX)).abs().max() < bound


def test_an_edge_of_length_zero_is_left_alone() -> None:
    v = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    packed = wigner_to_y(v, 2)
    for degree, block in enumerate(unpack_wigner(packed)):
        assert torch.equal(block[0], torch.eye(2 * degree + 1, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(packed.sum(), v)
    assert torch.equal(gradient, torch.zeros_like(v))


def test_derivatives_by_quaternions() -> None:
    special = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 2], [0, 1, 1, 0]]
    q = torch.cat([torch.tensor(special, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)])
    q.requires_grad_()
    assert torch.autograd.gradcheck(lambda q: packed_wigner(q, 3), q)
    assert torch.autograd.gradgradcheck(lambda q: packed_wigner(q, 2), q)


def test_derivatives_by_matrices_along_the_group() -> None:
    base = torch.stack(
        [torch.eye(3, dtype=torch.float64), axis_angle([1, 0, 0], math.pi), axis_angle([1, 2, 3], math.pi)]
    )
    omega = torch.zeros(3, 3, dtype=torch.float64)
    omega[2] = torch.tensor([0.3, -0.2, 0.9])
    omega.requires_grad_()

    def turned(omega: Tensor, lmax: int) -> Tensor:
        small = torch.linalg.matrix_exp(torch.einsum("nk,kab->nab", omega, rotation_generators(1)))
        return packed_wigner(small @ base, lmax)

    assert torch.autograd.gradcheck(lambda omega: turned(omega, 3), omega)
    assert torch.autograd.gradgradcheck(lambda omega: turned(omega, 2), omega)


def rotate_mix_back(v: Tensor, x: Tensor, lmax: int) -> Tensor:
    """What a convolution does with an edge's matrices; what commutes with rotations about y is a pair of numbers an order."""
    out = []
    for degree, block in enumerate(unpack_wigner(wigner_to_y(v, lmax))):
        m = torch.arange(-degree, degree + 1)
        cosines, sines = torch.cos(1.0 + m.abs() + degree), torch.sin(2.0 * m) * math.cos(degree)
        mixing = torch.diag(cosines) + torch.fliplr(torch.diag(sines))
        out.append(block.mT @ (mixing.double() @ (block @ x[:, degree**2 : (degree + 1) ** 2])))
    return torch.cat(out, 1) * v.norm(dim=1)[:, None, None]


def test_derivatives_by_edges_at_and_near_the_poles() -> None:
    v = torch.tensor(
        [[0, 1.3, 0], [0, -0.7, 0], [1e-9, -1, 0], [1e-5, -1, 1e-5], [0.3, 0.2, -0.9]], dtype=torch.float64
    ).requires_grad_()
    x = torch.randn(5, 9, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, x: rotate_mix_back(v, x, 2), (v, x))
    assert torch.autograd.gradgradcheck(lambda v, x: rotate_mix_back(v, x, 2), (v, x))


def test_third_derivative_by_edges() -> None:
    v = torch.tensor([[0, -0.7, 0], [0.3, 0.2, -0.9]], dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 4, 1, dtype=torch.float64)

    def gradient(v: Tensor) -> Tensor:
        (found,) = torch.autograd.grad((rotate_mix_back(v, x, 1) ** 3).sum(), v, create_graph=True)
        return found

    assert torch.autograd.gradgradcheck(gradient, v)


def test_the_gradient_does_not_depend_on_the_frame() -> None:
    # the same function through another frame, R_y(roll) R, with autograd through both
    v = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(6, 9, 2, dtype=torch.float64)
    roll = torch.stack([axis_angle([0, 1, 0], angle) for angle in torch.linspace(0, 6, 6).tolist()])
    rolls = unpack_wigner(packed_wigner(roll, 2))
    results = []
    for frames in (None, rolls):
        parts = []
        for degree, block in enumerate(unpack_wigner(wigner_to_y(v, 2))):
            d = block if frames is None else frames[degree] @ block
            m = torch.arange(-degree, degree + 1)
            mixing = torch.diag(torch.cos(m.abs() + 1.0)) + torch.fliplr(torch.diag(torch.sin(m + 0.0)))
            parts.append(d.mT @ (mixing.double() @ (d @ x[:, degree**2 : (degree + 1) ** 2])))
        value = torch.cat(parts, 1)
        results.append((value, *torch.autograd.grad((value**2 * x).sum(), v)))
    for a, b in zip(*results, strict=True):
        assert (a - b).abs().max() < 1e-12


def test_shapes() -> None:
    r = random_rotations(6).unflatten(0, (2, 3))
    assert packed_wigner(r, 2).shape == (2, 3, 35)
    assert packed_wigner(to_quaternion(r), 2).shape == (2, 3, 35)
    assert packed_wigner(r[0, 0], 1).shape == (10,)
    assert packed_wigner(r[:0], 3).shape == (0, 3, 84)
    assert wigner_D(2, r).shape == (2, 3, 5, 5)
    assert wigner_D("1x1o+2x0e", r[0, 0]).shape == (5, 5)
    assert wigner_to_y(torch.zeros(0, 3), 2).shape == (0, 35)
    assert [tuple(block.shape) for block in unpack_wigner(packed_wigner(r, 1))] == [
        (2, 3, 1, 1),
        (2, 3, 3, 3),
    ]
    v = torch.randn(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(wigner_to_y(v, 0).sum(), v)
    assert torch.equal(gradient, torch.zeros(4, 3))


def test_operators_are_registered_soundly() -> None:
    v = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    d = torch.randn(4, 10, dtype=torch.float64, requires_grad=True)
    g = torch.randn(4, 10, dtype=torch.float64, requires_grad=True)
    names = torch.ops.spheregeo
    torch.library.opcheck(names.wigner_matrices, (v, 1))
    torch.library.opcheck(names.wigner_matrices, (torch.randn(4, 4), 1))
    torch.library.opcheck(names.wigner_torque, (g, d))
    torch.library.opcheck(names.wigner_turn, (v, d))


class Edges(torch.nn.Module):
    def forward(self, v: Tensor, x: Tensor) -> Tensor:
        return torch.cat([block @ x[:, None, None] for block in unpack_wigner(wigner_to_y(v, 0))], 1)


def test_exported_and_compiled() -> None:
    number = torch.export.Dim("edges", min=2)
    example = (torch.randn(5, 3), torch.randn(5))
    program = torch.export.export(Edges(), example, dynamic_shapes=({0: number}, {0: number}))
    v, x = torch.randn(7, 3), torch.randn(7)
    assert torch.equal(program.module()(v, x), Edges()(v, x))

    def function(v: Tensor) -> Tensor:
        return sum((block**3).sum() for block in unpack_wigner(wigner_to_y(v, 2)))  # type: ignore[return-value]

    v = v.requires_grad_()
    (expected,) = torch.autograd.grad(function(v), v)
    (found,) = torch.autograd.grad(torch.compile(function, fullgraph=True, backend="aot_eager")(v), v)
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wigner_D(1, torch.zeros(3, 2)), "expected matrices"),
        (lambda: wigner_D(1, torch.eye(3, dtype=torch.int64)), "floating"),
        (lambda: wigner_D(1, -torch.eye(3)), "determinant"),
        (lambda: wigner_D("1x1o", 2 * torch.eye(3)), "not orthogonal"),
        (lambda: wigner_D(2, torch.full((3, 3), math.nan)), "not orthogonal"),
        (lambda: wigner_D(1, torch.zeros(2, 4)), "direction"),
        (lambda: wigner_D(61, torch.eye(3)), "expected 0 to 60"),
        (lambda: packed_wigner(torch.eye(3), -1), "expected 0 to 60"),
        (lambda: wigner_to_y(torch.zeros(3, 4), 2), r"expected \(..., 3\)"),
        (lambda: wigner_to_y(torch.zeros(3, 3, dtype=torch.int32), 2), "floating"),
        (lambda: unpack_wigner(torch.zeros(2, 11)), "11 numbers"),
    ],
)
def test_bad_input_is_named(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


def generator_y(degree: int) -> np.ndarray:
    """J_y of the complex convention. Shape: (2l + 1, 2l + 1)."""
    m = np.arange(-degree, degree)
    raising = np.diag(np.sqrt(degree * (degree + 1) - m * (m + 1.0)), -1)
    return (raising - raising.T) / 2j


def test_small_d_is_an_exponential() -> None:
    beta = torch.tensor(
        [0.0, 1e-3, 0.7, math.pi / 2, 2.9, math.pi - 1e-9, math.pi, -0.4, 4.0], dtype=torch.float64
    )
    blocks = unpack_wigner(wigner_d(beta, 32))
    assert float(blocks[1][2, 1, 2]) == pytest.approx(math.sin(0.7) / math.sqrt(2))
    for degree in (0, 1, 2, 7, 32):
        for d, angle in zip(blocks[degree], beta.tolist(), strict=True):
            wanted = expm(-1j * angle * generator_y(degree))
            assert np.abs(wanted - d.numpy()).max() < 1e-12
    product = unpack_wigner(wigner_d(beta[2:5] + 0.3, 32))[32]
    assert (
        blocks[32][2:5] @ unpack_wigner(wigner_d(beta.new_tensor(0.3), 32))[32] - product
    ).abs().max() < 1e-12


def test_small_d_has_the_values_of_s2fft() -> None:
    # s2fft 1.5.0, recursions.risbo.compute_full: (l, m, n, β) and d
    wanted = {
        (32, 3, -5, 1.0): 0.05803023524849382,
        (32, -20, 11, 1.0): 0.14447974429660143,
        (32, 0, 0, 1.0): 0.14591669991392048,
        (127, 40, 37, 0.3): -0.12560992347325511,
        (127, -3, 9, 0.3): -0.008721343706189738,
    }
    for (degree, m, n, beta), value in wanted.items():
        d = unpack_wigner(wigner_d(torch.tensor(beta, dtype=torch.float64), degree))[degree]
        assert float(d[degree + m, degree + n]) == pytest.approx(value, abs=1e-13)


def test_small_d_at_high_degrees() -> None:
    theta, weights = gauss_legendre(1025)
    for m, n in (
        (0, 0),
        (377, -377),
        (377, 377),
        (377, 5),
        (1000, -20),
    ):  # starts of (377, -377) underflow, d^1024 does not
        values = wigner_d_rows(theta, m, np.array([n]), 1024)[0]
        norms = (values.square() * weights).sum(-1) * (torch.arange(m, 1025) + 0.5)
        assert (norms - 1).abs().max() < 1e-11
