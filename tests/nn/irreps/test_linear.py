from __future__ import annotations

import pytest
import torch
from e3nn import o3
from e3nn.o3 import Irreps
from e3nn.util.test import assert_equivariant

from spheregeo.audit import randomise
from spheregeo.nn.irreps.layout import LAYOUTS, as_irreps, blocks, change_layout, copy_of, stack_index
from spheregeo.nn.space import IrrepsDropout, IrrepsLinear

PAIRS = [
    ("4x0e+3x0o+2x1o+3x1e+2x2e", "3x0e+2x0o+4x1o+2x1e+3x2e"),
    ("2x1o+4x0e+3x1o+1x0e+2x3o", "3x1o+2x0e+2x0e+1x2e+2x1o"),  # terms apart, one missing, one not used
    ("5x0e", "7x0e"),
    ("3x2e", "2x2e"),
    ("3x1o", "4x0e+2x1o"),  # scalars from the bias alone
]


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("irreps_in, irreps_out", PAIRS[:4])  # e3nn fails on the last
def test_equals_e3nn_with_copied_weights(irreps_in, irreps_out):
    theirs = randomise(o3.Linear(irreps_in, irreps_out, biases=True))
    ours = IrrepsLinear.from_e3nn(theirs)
    x = torch.randn(2, 5, theirs.irreps_in.dim, requires_grad=True)
    g = torch.randn(2, 5, theirs.irreps_out.dim)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-12, rtol=0)
    (mine,) = torch.autograd.grad(ours(x), x, g)
    (yours,) = torch.autograd.grad(theirs(x), x, g)
    torch.testing.assert_close(mine, yours, atol=1e-12, rtol=0)
    assert ours.weight.numel() == sum(
        ours.irreps_in.count(ir) * ours.irreps_out.count(ir) for ir in {ir for _, ir in ours.irreps_out}
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("irreps_in, irreps_out", PAIRS)
def test_fast_product_equals_plain_torch(irreps_in, irreps_out, layout, monkeypatch):
    monkeypatch.setattr("spheregeo.nn.irreps.linear_product.BLOCK_BYTES", 1)  # blocks of 64 rows
    layer = randomise(IrrepsLinear(irreps_in, irreps_out, layout=layout))
    x = torch.randn(150, layer.irreps_in.dim, requires_grad=True)
    g = torch.randn(150, layer.irreps_out.dim)
    wrt = [x, layer.weight, *([] if layer.bias is None else [layer.bias])]
    fast, slow = layer(x), layer.target.join(layer._products(layer.source.split(x)))
    torch.testing.assert_close(fast, slow, atol=1e-12, rtol=0)
    for a, b in zip(torch.autograd.grad(fast, wrt, g), torch.autograd.grad(slow, wrt, g)):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=0)


def test_derivatives_of_second_order():
    layer = IrrepsLinear("2x0e+2x1o+1x2e", "2x1o+1x0e+2x1o+1x1e")
    x = torch.randn(3, layer.irreps_in.dim, requires_grad=True)

    def f(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    inputs = (x, layer.weight, layer.bias)
    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)


@pytest.mark.parametrize("irreps_in, irreps_out", PAIRS)
def test_equivariant_under_o3(irreps_in, irreps_out):
    layer = randomise(IrrepsLinear(irreps_in, irreps_out))
    assert_equivariant(layer, irreps_in=[irreps_in], irreps_out=[irreps_out], tolerance=1e-12)


def test_float32():
    layer = randomise(IrrepsLinear(*PAIRS[0])).float()
    torch.set_default_dtype(torch.float32)
    assert_equivariant(layer, irreps_in=[PAIRS[0][0]], irreps_out=[PAIRS[0][1]], tolerance=1e-5)


def test_layouts_agree():
    plain = randomise(IrrepsLinear(*PAIRS[1]))
    other = IrrepsLinear(*PAIRS[1], layout="ir_mul")
    other.load_state_dict(plain.state_dict())
    x = torch.randn(4, plain.irreps_in.dim)
    y = other(change_layout(x, PAIRS[1][0], "mul_ir", "ir_mul"))
    torch.testing.assert_close(
        change_layout(y, PAIRS[1][1], "ir_mul", "mul_ir"), plain(x), atol=1e-12, rtol=0
    )


def test_output_has_unit_variance():
    layer = IrrepsLinear("64x0e+16x1o+16x1o+8x2e", "200x0e+200x1o+200x2e")
    y = layer(torch.randn(2000, layer.irreps_in.dim)).detach()
    for block in blocks(layer.irreps_out):
        assert float(y[:, block.start : block.stop].square().mean()) == pytest.approx(1, abs=0.1)


def test_shapes_without_rows_or_axes():
    layer = IrrepsLinear("2x0e+1x1o", "1x0e+3x1o")
    assert layer(torch.zeros(0, 5)).shape == (0, 10)
    assert layer(torch.zeros(5)).shape == (10,)
    assert layer(torch.zeros(2, 0, 5)).shape == (2, 0, 10)


def test_compiles_in_one_graph():
    layer = randomise(IrrepsLinear(*PAIRS[1]))
    x = torch.randn(6, layer.irreps_in.dim, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    y = compiled(x)
    torch.testing.assert_close(y, layer(x), atol=1e-12, rtol=0)
    wrt = [x, layer.weight, layer.bias]
    for a, b in zip(torch.autograd.grad(y.sin().sum(), wrt), torch.autograd.grad(layer(x).sin().sum(), wrt)):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_autocast_takes_the_low_type():
    layer = IrrepsLinear("4x0e+2x1o", "4x0e+2x1o").float()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.randn(3, 10, dtype=torch.float32))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32


def test_dropout_takes_whole_copies():
    layer = IrrepsDropout("8x0e+6x1o+5x2e", 0.5)
    x = torch.randn(300, layer.irreps.dim)
    ratio = layer(x) / x
    copies = copy_of(layer.irreps)
    first = torch.tensor([int((copies == c).nonzero()[0]) for c in range(layer.irreps.num_irreps)])
    assert bool((ratio - ratio[:, first[copies]]).abs().max() < 1e-12)
    assert set(ratio.round(decimals=9).flatten().tolist()) == {0.0, 2.0}
    assert float((ratio == 0).double().mean()) == pytest.approx(0.5, abs=0.03)
    assert torch.equal(layer.eval()(x), x)


def test_faults_name_what_came():
    with pytest.raises(ValueError, match="irreps_in is 'abc'"):
        IrrepsLinear("abc", "1x0e")
    with pytest.raises(ValueError, match="no components"):
        IrrepsLinear("0x0e", "1x0e")
    with pytest.raises(ValueError, match="none of which"):
        IrrepsLinear("3x1o", "3x0e")
    with pytest.raises(ValueError, match="layout"):
        IrrepsLinear("3x1o", "3x1o", layout="rows")
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 9\)"):
        IrrepsLinear("3x1o", "3x1o")(torch.zeros(2, 8))
    with pytest.raises(ValueError, match="p is 1"):
        IrrepsDropout("3x1o", 1.0)
    with pytest.raises(ValueError, match="bias"):
        IrrepsLinear("1x0e", "1x0e", bias=False).load_e3nn(o3.Linear("1x0e", "1x0e", biases=True))


def test_stack_index_lists_components_of_all_terms():
    irreps = as_irreps("2x1o + 1x0e + 1x1o")
    assert stack_index(irreps, Irreps("1o")[0].ir).tolist() == [0, 3, 7, 1, 4, 8, 2, 5, 9]
    assert stack_index(irreps, Irreps("1o")[0].ir, "ir_mul").tolist() == [0, 1, 7, 2, 3, 8, 4, 5, 9]
