from __future__ import annotations

import e3nn.nn
import pytest
import torch
from e3nn import o3
from e3nn.util.test import assert_equivariant

from spheregeo.audit import randomise
from spheregeo.nn.irreps.instance_norm import IrrepsInstanceNorm
from spheregeo.nn.irreps.layout import LAYOUTS, change_layout
from spheregeo.nn.space import IrrepsBatchNorm, IrrepsLayerNorm

MIXED = "4x0e+3x0o+2x1o+3x1e+2x2e"
SCATTERED = "2x1o+4x0e+3x2e+2x0o+1x0e"
SHARES = ("each", "separable", "all")


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def signal(irreps, rows=40):
    x = torch.randn(rows, o3.Irreps(irreps).dim)
    return 2 * x + 3 * torch.randn(x.shape[1])


@pytest.mark.parametrize("irreps", [MIXED, SCATTERED, "5x0e", "3x1o"])
def test_batch_norm_equals_e3nn(irreps):
    """Two training steps and evaluation, running statistics and gradients; e3nn counts scalars in another order than copies."""
    ours, theirs = IrrepsBatchNorm(irreps), e3nn.nn.BatchNorm(irreps)
    with torch.no_grad():
        for mine, yours in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
            if mine is not None and mine.numel():
                mine.normal_()
                yours.copy_(mine)
    for _ in range(2):
        x = signal(irreps).requires_grad_()
        a, b = ours(x), theirs(x)
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
        g = torch.randn_like(x)
        (da,), (db,) = torch.autograd.grad(a, x, g), torch.autograd.grad(b, x, g)
        torch.testing.assert_close(da, db, atol=1e-12, rtol=0)
    torch.testing.assert_close(ours.running_var, theirs.running_var, atol=1e-12, rtol=0)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("irreps", [MIXED, SCATTERED, "3x1o"])
def test_batch_norm_is_equivariant_under_o3(irreps, training):
    layer = randomise(IrrepsBatchNorm(irreps)).train(training)
    with torch.no_grad():
        layer.running_mean += 0.7  # of odd irreps too: it must not be used
    x = signal(irreps)
    assert_equivariant(layer, args_in=[x], irreps_in=[irreps], irreps_out=[irreps], tolerance=1e-11)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("irreps", [MIXED, SCATTERED, "3x1o", "4x0e"])
def test_layer_norm_is_equivariant_under_o3(irreps, share):
    layer = randomise(IrrepsLayerNorm(irreps, share=share))
    assert_equivariant(
        layer, args_in=[signal(irreps)], irreps_in=[irreps], irreps_out=[irreps], tolerance=1e-11
    )


@pytest.mark.parametrize("make", [IrrepsBatchNorm, IrrepsLayerNorm])
def test_float32(make):
    torch.set_default_dtype(torch.float32)
    layer = randomise(make(MIXED))
    assert_equivariant(layer, args_in=[signal(MIXED)], irreps_in=[MIXED], irreps_out=[MIXED], tolerance=1e-4)


def by_hand(x, irreps, share):
    """Layer norm, a point and a term at a time."""
    irreps, out = o3.Irreps(irreps), []
    every = list(dict.fromkeys(ir for _, ir in irreps))
    for row in x:
        terms = [row[s].clone() for s in irreps.slices()]
        scalars = torch.cat([t for t, (_, ir) in zip(terms, irreps) if str(ir) == "0e"] or [row.new_zeros(1)])
        if share != "all":
            terms = [t - scalars.mean() if str(ir) == "0e" else t for t, (_, ir) in zip(terms, irreps)]
        square = {
            ir: torch.cat([t for t, (_, other) in zip(terms, irreps) if other == ir]).square().mean()
            for ir in every
        }
        rest = [v for ir, v in square.items() if str(ir) != "0e"]
        for t, (_, ir) in zip(terms, irreps):
            if share == "each" or (share == "separable" and str(ir) == "0e"):
                size = square[ir]
            else:
                size = torch.stack(rest if share == "separable" else list(square.values())).mean()
            out.append(t / (size + 1e-5).sqrt())
    return torch.cat(out).view(x.shape)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("irreps", [MIXED, SCATTERED, "3x1o"])
def test_layer_norm_equals_its_formula(irreps, share):
    layer, x = IrrepsLayerNorm(irreps, share=share), signal(irreps, 3)
    torch.testing.assert_close(layer(x), by_hand(x, irreps, share), atol=1e-12, rtol=0)


@pytest.mark.parametrize("share", SHARES)
def test_layer_norm_makes_no_use_of_the_batch(share):
    layer, x = randomise(IrrepsLayerNorm(MIXED, share=share)), signal(MIXED)
    together = layer(x)
    alone = torch.cat([layer(row[None]) for row in x])
    torch.testing.assert_close(together, alone, atol=1e-13, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_derivatives_of_second_order(layout):
    irreps = "2x0e+1x1o+1x0o"
    x = signal(irreps, 3).requires_grad_()
    batch = IrrepsBatchNorm(irreps, layout=layout, track_running_stats=False)
    for layer in (batch, *(IrrepsLayerNorm(irreps, share=share, layout=layout) for share in SHARES)):
        layer = randomise(layer)

        def f(x, weight, bias, layer=layer):
            return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

        assert torch.autograd.gradcheck(f, (x, layer.weight, layer.bias))
        assert torch.autograd.gradgradcheck(f, (x, layer.weight, layer.bias))


@pytest.mark.parametrize("make", [IrrepsBatchNorm, IrrepsLayerNorm])
def test_layouts_agree(make):
    plain = randomise(make(SCATTERED))
    other = make(SCATTERED, layout="ir_mul")
    other.load_state_dict(plain.state_dict())
    x = signal(SCATTERED)
    y = other(change_layout(x, SCATTERED, "mul_ir", "ir_mul"))
    torch.testing.assert_close(change_layout(y, SCATTERED, "ir_mul", "mul_ir"), plain(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("make", [IrrepsBatchNorm, IrrepsLayerNorm])
@pytest.mark.parametrize("training", [True, False])
def test_compiles_in_one_graph(make, training):
    layer, x = randomise(make(SCATTERED)).train(training), signal(SCATTERED).requires_grad_()
    twin = make(SCATTERED).train(training)
    twin.load_state_dict(layer.state_dict())
    y, z = torch.compile(layer, fullgraph=True, backend="aot_eager")(x), twin(x)
    torch.testing.assert_close(y, z, atol=1e-12, rtol=0)
    (a,), (b,) = torch.autograd.grad(y.sin().sum(), x), torch.autograd.grad(z.sin().sum(), x)
    torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_a_batch_without_points_changes_nothing():
    layer = IrrepsBatchNorm(MIXED)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    assert layer(torch.zeros(0, layer.irreps.dim)).shape == (0, layer.irreps.dim)
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    one = layer(signal(MIXED, 1))
    assert bool(one.isfinite().all())
    assert IrrepsLayerNorm(MIXED)(torch.zeros(0, layer.irreps.dim)).shape == (0, layer.irreps.dim)


def test_low_precision_is_computed_in_float32():
    torch.set_default_dtype(torch.float32)
    x = signal(MIXED)
    for layer in (IrrepsBatchNorm(MIXED), IrrepsLayerNorm(MIXED)):
        exact = layer(x)
        low = layer(x.bfloat16())
        assert low.dtype == torch.bfloat16
        torch.testing.assert_close(low.float(), exact, atol=0.05, rtol=0.02)


def test_faults_name_what_came():
    with pytest.raises(ValueError, match="eps"):
        IrrepsBatchNorm(MIXED, eps=0)
    with pytest.raises(ValueError, match="share is 'l'"):
        IrrepsLayerNorm(MIXED, share="l")
    for layer in (IrrepsBatchNorm("2x1o"), IrrepsLayerNorm("2x1o")):
        with pytest.raises(ValueError, match=r"expected \(\.\.\., 6\)"):
            layer(torch.zeros(3, 7))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_instance_norm_of_many_points_in_low_precision(dtype: torch.dtype) -> None:
    norm = IrrepsInstanceNorm("4x0e + 2x1o")
    randomise(norm)
    x, batch = 2 * torch.randn(3000, 10) + 1, torch.arange(2).repeat_interleave(1500)
    with torch.no_grad():
        y, expected = norm(x.to(dtype), batch, 2), norm(x, batch, 2)
    assert y.dtype == dtype
    assert float((y.float() - expected).abs().max()) < 0.02 * float(expected.abs().max())
