from __future__ import annotations

import math

import e3nn.nn
import pytest
import torch
from e3nn import o3
from e3nn.util.test import assert_equivariant

from spheregeo.audit import randomise
from spheregeo.nn.irreps.activations import NormalizedActivation, parity, second_moment
from spheregeo.nn.irreps.layout import LAYOUTS, change_layout
from spheregeo.nn.space import IrrepsGate, NormActivation


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


MIXED = "4x0e+3x0o+2x1o+3x1e+2x2e"
SCATTERED = "2x1o+4x0e+3x2e+2x0o+1x0e"


@pytest.mark.parametrize("name, square", [("relu", 0.5), ("square", 3.0), ("tanh", None), ("silu", None)])
def test_second_moments(name, square):
    if square is None:
        z = torch.linspace(-12, 12, 200_001)
        f = torch.tanh if name == "tanh" else torch.nn.functional.silu
        square = float((f(z) ** 2 * torch.exp(-z * z / 2)).sum()) * (24 / 200_000) / math.sqrt(2 * math.pi)
    assert second_moment(name) == pytest.approx(math.sqrt(square), rel=1e-12)


def test_parity_is_measured():
    assert [parity(f) for f in ("tanh", "square", "silu", torch.sin, torch.cos)] == [-1, 1, 0, -1, 1]


def test_equals_e3nn_gate():
    """e3nn has its factors from a million samples, hence the functions without factors."""
    ours = IrrepsGate("8x0e+3x0o+4x1o+2x1e+3x2e", normalize=False)
    theirs = e3nn.nn.Gate(
        "8x0e+3x0o", [torch.nn.functional.silu, torch.tanh], "9x0e", [torch.sigmoid], "4x1o+2x1e+3x2e"
    )
    assert ours.irreps_out == theirs.irreps_out and IrrepsGate("8x0e+4x1o").irreps_in == o3.Irreps(
        "12x0e+4x1o"
    )
    for act in (*theirs.act_scalars.acts, *theirs.act_gates.acts):
        act.cst = 1.0
    x = torch.randn(2, 7, theirs.irreps_in.dim)
    sorted_x = torch.cat([x[..., 8:11], x[..., :8], x[..., 11:]], -1)  # theirs are sorted, 0o before 0e
    torch.testing.assert_close(ours(x), theirs(sorted_x), atol=1e-13, rtol=0)


def test_factors_are_those_of_e3nn_to_their_accuracy():
    ours = IrrepsGate("8x0e+4x1o")
    theirs = e3nn.nn.Gate("8x0e", [torch.nn.functional.silu], "4x0e", [torch.sigmoid], "4x1o")
    x = torch.randn(5, 24)
    torch.testing.assert_close(ours(x), theirs(x), atol=0, rtol=3e-3)


@pytest.mark.parametrize("irreps", [MIXED, SCATTERED, "5x0e", "3x1o", "3x0o"])
@pytest.mark.parametrize("odd_act", ["tanh", None])
def test_gate_is_equivariant_under_o3(irreps, odd_act):
    layer = IrrepsGate(irreps, odd_act=odd_act)
    assert_equivariant(layer, irreps_in=[layer.irreps_in], irreps_out=[layer.irreps_out], tolerance=1e-12)


def test_gate_of_float32():
    torch.set_default_dtype(torch.float32)
    layer = IrrepsGate(MIXED)
    assert_equivariant(layer, irreps_in=[layer.irreps_in], irreps_out=[MIXED], tolerance=1e-5)


def test_every_output_of_the_gate_depends_on_its_input():
    layer = IrrepsGate(SCATTERED)
    jacobian = torch.autograd.functional.jacobian(layer, torch.randn(layer.irreps_in.dim))
    assert int((jacobian != 0).any(1).sum()) == layer.irreps_out.dim
    assert int((jacobian != 0).any(0).sum()) == layer.irreps_in.dim


@pytest.mark.parametrize("layer", [IrrepsGate(SCATTERED), NormActivation(SCATTERED)], ids=["gate", "norm"])
def test_layouts_agree(layer):
    other = type(layer)(SCATTERED, layout="ir_mul")
    other.load_state_dict(layer.state_dict())
    into = layer.irreps_in if isinstance(layer, IrrepsGate) else layer.irreps
    x = torch.randn(3, into.dim, dtype=torch.float64)
    y = other.double()(change_layout(x, into, "mul_ir", "ir_mul"))
    torch.testing.assert_close(
        change_layout(y, SCATTERED, "ir_mul", "mul_ir"), layer.double()(x), atol=1e-13, rtol=0
    )


def test_norm_activation_equals_its_formula():
    irreps = o3.Irreps(MIXED)
    layer = randomise(NormActivation(irreps, "tanh", normalization="norm", eps=0.3))
    x = torch.randn(6, irreps.dim)
    parts, first = [], 0
    for (mul, ir), s in zip(irreps, irreps.slices()):
        v, b = x[:, s].reshape(6, mul, ir.dim), layer.bias[first : first + mul]
        n = (v.square().sum(-1) + 0.09).sqrt()
        y = torch.tanh(v + b[:, None]) if str(ir) == "0e" else v * (torch.tanh(n + b) / n)[..., None]
        parts.append(y.flatten(1))
        first += mul
    torch.testing.assert_close(layer(x), torch.cat(parts, 1), atol=1e-13, rtol=0)


@pytest.mark.parametrize("irreps", [MIXED, SCATTERED, "5x0e", "3x1o"])
def test_norm_activation_is_equivariant_under_o3(irreps):
    layer = randomise(NormActivation(irreps))
    assert_equivariant(layer, irreps_in=[irreps], irreps_out=[irreps], tolerance=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_derivatives_of_second_order(layout):
    gate, norm = IrrepsGate("1x0e+2x1o+1x0o+1x2e", layout=layout), NormActivation("1x0e+2x1o", layout=layout)
    x = torch.randn(2, gate.irreps_in.dim, requires_grad=True)
    z = torch.randn(2, 7, requires_grad=True)
    with torch.no_grad():
        z[0].zero_()  # smooth at zero, too
    for f, at in ((gate, x), (norm, z)):
        assert torch.autograd.gradcheck(f, at)
        assert torch.autograd.gradgradcheck(f, at)


@pytest.mark.parametrize("layer", [IrrepsGate(SCATTERED), NormActivation(SCATTERED)], ids=["gate", "norm"])
def test_compiles_in_one_graph(layer):
    layer = layer.double()
    into = layer.irreps_in if isinstance(layer, IrrepsGate) else layer.irreps
    x = torch.randn(4, into.dim, requires_grad=True)
    y = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(y, layer(x), atol=1e-13, rtol=0)
    (a,), (b,) = torch.autograd.grad(y.sin().sum(), x), torch.autograd.grad(layer(x).sin().sum(), x)
    torch.testing.assert_close(a, b, atol=1e-13, rtol=0)


def test_outputs_have_unit_second_moment():
    layer = IrrepsGate("100x0e+100x0o")
    y = layer(torch.randn(3000, layer.irreps_in.dim))
    assert float(y.square().mean()) == pytest.approx(1, abs=0.02)
    assert NormalizedActivation("silu", normalize=False).factor == 1.0


def test_faults_name_what_came():
    with pytest.raises(ValueError, match="odd_act is silu"):
        IrrepsGate("2x0o+1x1o", odd_act="silu")
    IrrepsGate("2x0e+1x1o", odd_act="silu")  # nothing odd to act on
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 6\)"):
        IrrepsGate("2x0e+1x1o")(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="second moment"):
        NormalizedActivation(torch.zeros_like)
    with pytest.raises(ValueError, match="eps"):
        NormActivation("1x1o", eps=0)
    with pytest.raises(ValueError, match="normalization"):
        NormActivation("1x1o", normalization="max")
