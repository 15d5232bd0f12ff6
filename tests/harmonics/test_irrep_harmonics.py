"""Harmonics of irreps against e3nn's and their slow twin; derivatives of every order; compiled and exported."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from e3nn import o3
from torch import Tensor

from spheregeo.groups import random_rotations
from spheregeo.harmonics import component_harmonics, wigner_D
from spheregeo.harmonics.irrep_harmonics import NORMALIZATIONS, plain_harmonics


def directions() -> Tensor:
    """Vectors of all lengths: general ones, the poles, and vectors a hair off a pole."""
    special = [[0, 1, 0], [0, -2.0, 0], [1e-9, 3, 0], [1e-5, -1, 1e-5], [1, 0, 0], [0, 0, -1]]
    general = (
        torch.randn(40, 3, dtype=torch.float64) * torch.logspace(-3, 3, 40, dtype=torch.float64)[:, None]
    )
    return torch.cat([torch.tensor(special, dtype=torch.float64), general])


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("normalize", [True, False])
def test_equal_to_e3nn(normalization: str, normalize: bool) -> None:
    v = directions()
    if not normalize:
        v = v / (1 + v.norm(dim=1, keepdim=True))
    expected = o3.spherical_harmonics(list(range(11)), v, normalize, normalization=normalization)
    found = component_harmonics(v, 10, normalization=normalization, normalize=normalize)
    assert (found - expected).abs().max() < 1e-12


def test_low_degrees_in_closed_form() -> None:
    v = directions()
    x, y, z = torch.nn.functional.normalize(v, dim=1).T
    expected = torch.stack(
        [
            torch.ones_like(x), math.sqrt(3) * x, math.sqrt(3) * y, math.sqrt(3) * z,
            math.sqrt(15) * x * z, math.sqrt(15) * x * y, math.sqrt(5) * (y * y - (x * x + z * z) / 2),
            math.sqrt(15) * y * z, math.sqrt(15) / 2 * (z * z - x * x),
        ], -1,
    )  # fmt: skip
    assert (component_harmonics(v, 2) - expected).abs().max() < 4e-15


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_compiled_equals_plain(normalization: str) -> None:
    v = directions()
    v[3] = 0
    grad = torch.randn(len(v), 49, dtype=torch.float64)
    found = []
    for function in (
        lambda v: component_harmonics(v, 6, normalization=normalization),
        lambda v: plain_harmonics(v, 6, normalization),
    ):
        leaf = v.clone().requires_grad_()
        values = function(leaf)
        found.append((values, *torch.autograd.grad(values, leaf, grad)))
    assert (found[0][0] - found[1][0]).abs().max() < 1e-14
    scale = v.norm(dim=1, keepdim=True)  # the gradient is that large over |r|
    assert ((found[0][1] - found[1][1]) * scale).abs().max() < 1e-12


def test_single_precision_is_rounded_once() -> None:
    v = directions().float()
    exact = component_harmonics(v.double(), 8)
    assert (component_harmonics(v, 8) - exact).abs().max() < 4e-7  # of values up to √17
    for low in (torch.bfloat16, torch.float16):
        found = component_harmonics(v.clamp(-100, 100).to(low), 3)
        assert found.dtype == low
        assert (
            found.double() - component_harmonics(v.clamp(-100, 100).to(low).double(), 3)
        ).abs().max() < 0.02


@pytest.mark.parametrize("lmax", [13, 60, 300])
def test_addition_theorem_at_high_degrees(lmax: int) -> None:
    theta = torch.tensor([0.0, 1e-9, 1e-3, 0.1, 1.0, math.pi / 2, 3.1, math.pi], dtype=torch.float64)
    p = torch.stack([theta.sin() * math.cos(2), theta.cos(), theta.sin() * math.sin(2)], -1)
    squares = component_harmonics(p, lmax) ** 2
    for degree in (lmax // 2, lmax):
        total = squares[:, degree**2 : (degree + 1) ** 2].sum(1) / (2 * degree + 1)
        assert (total - 1).abs().max() < 1e-11


def test_equivariance_with_reflections() -> None:
    v = directions()
    rotations = (
        random_rotations(len(v))
        * torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(len(v) // 2)[:, None, None]
    )
    turned = (rotations @ v[:, :, None])[..., 0]
    irreps = o3.Irreps.spherical_harmonics(8)
    for dtype, bound in ((torch.float64, 1e-13), (torch.float32, 2e-6)):
        matrices = wigner_D(irreps, rotations).to(dtype)
        expected = (matrices @ component_harmonics(v.to(dtype), 8)[:, :, None])[..., 0]
        error = (component_harmonics(turned.to(dtype), 8) - expected).abs().max()
        assert error < bound


def test_first_and_second_derivatives() -> None:
    v = directions()[:8]
    v = torch.nn.functional.normalize(v, dim=1).requires_grad_()

    def function(v: Tensor) -> Tensor:
        return component_harmonics(v, 3)

    assert torch.autograd.gradcheck(function, v)
    assert torch.autograd.gradgradcheck(function, v)


def nested(function: Callable[[Tensor], Tensor], v: Tensor) -> list[Tensor]:
    """A value's first to fourth derivatives, each of a nonlinear function of the one before."""
    found = []
    weight = torch.linspace(-1, 1, 16, dtype=torch.float64)
    value = (function(v) ** 2 * weight).sum() + (function(v) * weight).sum()
    for _ in range(4):
        (gradient,) = torch.autograd.grad(value, v, create_graph=True)
        found.append(gradient)
        value = (gradient**3).sum() + (gradient**2).sum()
    return found


def test_derivatives_of_every_order_equal_the_twin() -> None:
    v = torch.nn.functional.normalize(directions()[:12], dim=1).requires_grad_()
    ours = nested(lambda v: component_harmonics(v, 3), v)
    twin = nested(lambda v: plain_harmonics(v, 3, "component"), v)
    for a, b in zip(ours, twin, strict=True):
        assert (a - b).abs().max() < 1e-11 * b.abs().max()


@pytest.mark.parametrize(
    "function", [component_harmonics, lambda v, lmax: plain_harmonics(v, lmax, "component")]
)
def test_a_vector_of_length_zero(function: Callable[[Tensor, int], Tensor]) -> None:
    v = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    values = function(v, 3)
    assert torch.equal(values[:, 0], torch.ones(2, dtype=torch.float64)) and not bool(values[:, 1:].any())
    (gradient,) = torch.autograd.grad((values + values**2).sum(), v, create_graph=True)
    (second,) = torch.autograd.grad((gradient + gradient**2).sum(), v)
    assert torch.equal(gradient, torch.zeros_like(v)) and torch.equal(second, torch.zeros_like(v))


def test_polynomials_are_smooth_at_the_origin() -> None:
    v = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    values = component_harmonics(v, 2, normalize=False)
    (gradient,) = torch.autograd.grad(values[:, 1:4].sum(), v)
    assert (gradient - math.sqrt(3)).abs().max() < 1e-15


def test_lengths_do_not_matter_even_tiny_and_huge() -> None:
    v = torch.nn.functional.normalize(torch.randn(5, 3), dim=1)
    for scale in (1e-30, 1e30, 3e38):
        assert (component_harmonics(v * scale, 3) - component_harmonics(v, 3)).abs().max() < 2e-6


def test_not_a_number_stays_one() -> None:
    v = torch.tensor([[math.nan, 0, 1.0], [0, 1.0, 0]])
    values = component_harmonics(v, 2)
    assert bool(values[0, 1:].isnan().all()) and bool(values[1].isfinite().all())


def test_shapes() -> None:
    assert component_harmonics(torch.randn(0, 3), 2).shape == (0, 9)
    assert component_harmonics(torch.randn(3), 2).shape == (9,)
    assert component_harmonics(torch.randn(2, 4, 3), 0).shape == (2, 4, 1)
    v = torch.randn(3, 7)
    assert torch.equal(component_harmonics(v.T, 3), component_harmonics(v.T.contiguous(), 3))


def test_more_threads_change_nothing() -> None:
    v = torch.randn(40_000, 3)
    one = component_harmonics(v, 4)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(component_harmonics(v, 4), one)
    finally:
        torch.set_num_threads(before)


def test_operators_are_registered_soundly() -> None:
    v = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    along = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    names = torch.ops.spheregeo
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(names.component_harmonics, (v, 1, "component"))
    torch.library.opcheck(names.component_harmonics_gradient, (grad, v, 1, "norm"), test_utils=tests)
    torch.library.opcheck(names.component_harmonics_second, (along, grad, v, 1, "integral"), test_utils=tests)


class Harmonics(torch.nn.Module):
    def forward(self, v: Tensor) -> Tensor:
        return component_harmonics(v, 3)


def test_exported_with_any_number_of_points() -> None:
    points = torch.export.Dim("points", min=2)
    program = torch.export.export(Harmonics(), (torch.randn(20, 3),), dynamic_shapes=({0: points},))
    v = torch.randn(11, 3)
    assert torch.equal(program.module()(v), component_harmonics(v, 3))


def test_compiled_whole_with_backward() -> None:
    def function(v: Tensor) -> Tensor:
        return component_harmonics(v, 3).square().mul(torch.arange(16.0)).sum()

    v = torch.randn(20, 3, requires_grad=True)
    (expected,) = torch.autograd.grad(function(v), v)
    (found,) = torch.autograd.grad(torch.compile(function, fullgraph=True, backend="aot_eager")(v), v)
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((torch.zeros(4, 2), 2), {}, r"expected \(..., 3\)"),
        ((torch.zeros(4, 3), -1), {}, "expected 0 to 300"),
        ((torch.zeros(4, 3), 301), {}, "expected 0 to 300"),
        ((torch.zeros(4, 3, dtype=torch.int64), 2), {}, "floating"),
        ((torch.zeros(4, 3), 2), {"normalization": "unit"}, "expected one of component"),
    ],
)
def test_bad_input_is_named(arguments: tuple[Tensor, int], options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        component_harmonics(*arguments, **options)
