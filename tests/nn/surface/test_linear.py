"""Linear maps, biases and dropout of fields: the whole of what a change of frame permits, and no more."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from spheregeo.audit import randomise
from spheregeo.groups import FieldType, kernel_space_dimension
from spheregeo.nn.surface import FieldBias, FieldDropout, FieldLinear

PAIRS = [
    ("3x0 + 2x1 + 1x2", "2x0 + 3x1 + 2x2"),
    ("1x1 + 2x0 + 1x1 + 1x3", "1x2 + 2x1 + 3x0"),
    ("2x0 + 1x0o + 2x1", "1x0o + 2x0 + 1x1"),
]


def angles(n: int) -> Tensor:
    return (torch.rand(n, dtype=torch.float64) * 2 - 1) * math.pi


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().double().norm() / b.detach().double().norm())


@pytest.mark.parametrize("reflections", [True, False])
@pytest.mark.parametrize(("inside", "outside"), PAIRS)
def test_parameters_are_all_that_the_constraint_allows(inside: str, outside: str, reflections: bool) -> None:
    layer = FieldLinear(inside, outside, reflections=reflections)
    count = kernel_space_dimension(inside, outside, reflections=reflections, centre=True)
    assert layer.weight.numel() == count
    basis = torch.stack(
        [layer.index.eq(i) * layer.sign.double() for i in range(count)]
    )  # each parameter acts, and differently
    assert int(torch.linalg.matrix_rank(basis.flatten(1))) == count
    expected = 1 + 2 * 1
    assert FieldLinear("1x0 + 1x1", "1x0 + 1x1 + 1x2").weight.numel() == expected


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reflections", [True, False])
@pytest.mark.parametrize(("inside", "outside"), PAIRS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_gauge_equivariance(
    inside: str, outside: str, reflections: bool, bias: bool, dtype: torch.dtype, tolerance: float
) -> None:
    """Random parameters and frames; output, and gradients of the parameters. Reflections where asked for, and only there."""
    layer = randomise(FieldLinear(inside, outside, reflections=reflections, bias=bias)).to(dtype)
    kind_in, kind_out = layer.in_type, layer.out_type
    x, a = torch.randn(2, kind_in.dim, 3, 5, dtype=dtype), angles(15).view(3, 5)
    upstream = torch.randn(2, kind_out.dim, 3, 5, dtype=dtype)
    y, turned = layer(x), layer(kind_in.turn(x, a))
    assert relative(turned, kind_out.turn(y, a)) < tolerance
    parameters = list(layer.parameters())
    before = torch.autograd.grad(y, parameters, upstream)
    after = torch.autograd.grad(turned, parameters, kind_out.turn(upstream, a))
    for p, q in zip(before, after, strict=True):
        assert relative(q, p) < 100 * tolerance
    reflected = relative(layer(kind_in.reflect(x)), kind_out.reflect(y))
    assert reflected < tolerance if reflections else reflected > 0.1


def test_value_is_that_of_complex_numbers() -> None:
    layer = FieldLinear("2x0 + 2x1", "1x0 + 1x1").double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([2.0, 3.0, 0.5, -1.0, 4.0, 0.25]))
    x = torch.randn(1, 6, 4, dtype=torch.float64)
    y = layer(x)
    torch.testing.assert_close(y[:, 0], 2 * x[:, 0] + 3 * x[:, 1])
    field = torch.complex(x[:, 2::2], x[:, 3::2])
    z = (0.5 - 1j) * field[:, 0] + (4 + 0.25j) * field[:, 1]
    torch.testing.assert_close(y[:, 1:], torch.stack([z.real, z.imag], 1))
    torch.testing.assert_close(layer.matrix() @ x[0], y[0])


@torch.no_grad()
def test_outputs_without_a_source_are_zero_and_sizes_are_kept() -> None:
    layer = FieldLinear("64x0 + 64x1", "64x0 + 64x1 + 2x2")
    x = torch.randn(1, 192, 500)
    y = layer(x)
    assert y[:, 192:].abs().max() == 0
    assert abs(float(y[:, :64].var().sqrt()) - 1) < 0.1 and abs(float(y[:, 64:192].var().sqrt()) - 1) < 0.1
    real = FieldLinear("64x1", "64x1", reflections=True)
    assert abs(float(real(x[:, 64:]).var().sqrt()) - 1) < 0.1


def test_derivatives_and_layouts() -> None:
    layer = randomise(FieldLinear("2x0 + 1x1", "1x0 + 2x1", bias=True)).double()
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias.bias": bias}, (x,))

    assert layer.bias is not None
    assert torch.autograd.gradcheck(run, (x, layer.weight, layer.bias.bias))
    last = x.detach().transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(layer(last), layer(x))
    assert layer(last).stride(1) == 1
    assert set(layer.state_dict()) == {"weight", "bias.bias"}
    kept = copy.deepcopy(layer.state_dict())
    layer.reset_parameters()
    assert layer.bias.bias.abs().max() == 0 and not torch.equal(layer.weight, kept["weight"])


def test_bias_acts_on_even_scalars_alone() -> None:
    kind = FieldType("1x1 + 2x0 + 1x0o")
    bias = randomise(FieldBias(kind))
    x, a = torch.randn(2, kind.dim, 6), angles(6)
    change = (bias(x) - x).detach()
    torch.testing.assert_close(change[:, 2:4], bias.bias.detach()[:, None].expand(2, 2, 6))
    assert change[:, :2].abs().max() == 0 and change[:, 4].abs().max() == 0
    torch.testing.assert_close(bias(kind.turn(x, a)), kind.turn(bias(x), a))
    torch.testing.assert_close(bias(kind.reflect(x)), kind.reflect(bias(x)))
    with pytest.raises(ValueError, match="expected even scalars, which alone take a bias"):
        FieldBias("2x1 + 1x0o")


def test_dropout_takes_whole_fields() -> None:
    kind = FieldType("2x0 + 2x1")
    drop = FieldDropout(kind, 0.25)
    x, a = torch.randn(3, kind.dim, 4000), angles(4000)
    torch.manual_seed(1)
    y = drop(x)
    torch.manual_seed(1)
    torch.testing.assert_close(drop(kind.turn(x, a)), kind.turn(y, a))
    gone = y == 0
    assert torch.equal(gone[:, 2], gone[:, 3]) and not torch.equal(gone[:, 2], gone[:, 4])
    assert abs(float(gone.float().mean()) - 0.25) < 0.01
    torch.testing.assert_close(y[~gone], x[~gone] / 0.75)
    assert torch.equal(drop.eval()(x), x)
    with pytest.raises(ValueError, match="p is 1"):
        FieldDropout(kind, 1)


def test_errors() -> None:
    with pytest.raises(ValueError, match="keeps the order, and the two share none"):
        FieldLinear("2x0", "2x1")
    with pytest.raises(ValueError, match="keeps the order and the parity, and the two share none"):
        FieldLinear("2x0", "2x0o", reflections=True)
    assert FieldLinear("2x0", "2x0o").weight.numel() == 4
    for module in (FieldLinear("2x0 + 1x1", "2x0"), FieldBias("2x0 + 1x1"), FieldDropout("2x0 + 1x1")):
        with pytest.raises(ValueError, match=r"x has shape \(2, 3, 5\); expected \(batch, 4, \*points\)"):
            module(torch.zeros(2, 3, 5))
        assert "2x0" in repr(module)
    module = FieldLinear("2x0 + 1x1", "2x0 + 1x1", bias=True)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x = torch.randn(1, 4, 5)
    torch.testing.assert_close(compiled(x), module(x))
