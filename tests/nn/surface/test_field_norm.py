"""Norms of tangent fields against their definition, their gradients, areas, running statistics, equivariance."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from spheregeo.audit import randomise
from spheregeo.grids import Equiangular, GaussLegendre, HEALPix
from spheregeo.groups import FieldType
from spheregeo.nn import AreaBatchNorm
from spheregeo.nn.surface import FieldBatchNorm, FieldInstanceNorm, FieldLayerNorm, RegularBatchNorm

NORMS = [FieldBatchNorm, FieldInstanceNorm, FieldLayerNorm, RegularBatchNorm]
TEXTS = ["3x0 + 2x1 + 1x2", "1x1 + 2x0 + 1x3"]


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().double().norm() / b.detach().double().norm())


def angles(n: int) -> Tensor:
    return (torch.rand(n, dtype=torch.float64) * 2 - 1) * math.pi


def fields(kind: FieldType) -> list[tuple[int, list[int]]]:
    return [
        (term.order if term.parity > 0 else -1, list(range(c, c + term.width)))
        for term, (channels, _, _) in zip(kind.terms, kind.blocks)
        for c in range(channels.start, channels.stop, term.width)
    ]


def by_definition(x: Tensor, module: nn.Module, w: Tensor) -> Tensor:
    """One field after another, (B, dim, P); w (P,) with sum 1."""
    out, scalars = torch.zeros_like(x), 0
    for i, (order, channels) in enumerate(fields(module.field_type)):
        for b in (
            [[b] for b in range(len(x))] if isinstance(module, FieldInstanceNorm) else [[*range(len(x))]]
        ):
            part = x[b][:, channels]  # (B, 1 or 2, P)
            if order == 0:
                mean = (part * w).sum(-1).mean()
                var = ((part - mean) ** 2 * w).sum(-1).mean()
                normal = (part - mean) / torch.sqrt(var + module.eps) * module.weight[i] + module.bias[
                    scalars
                ]
            else:
                rms = torch.sqrt((part.square() * w).sum(-1).mean() + module.eps)
                normal = part / rms * module.weight[i]
            out[torch.tensor(b)[:, None], torch.tensor(channels)] = normal
        scalars += order == 0
    return out


@pytest.mark.parametrize("cls", [FieldBatchNorm, FieldInstanceNorm])
@pytest.mark.parametrize("text", [*TEXTS, "2x0o + 2x0 + 1x1"])
@pytest.mark.parametrize("weighted", [True, False])
def test_value_and_gradients_are_those_of_the_definition(
    cls: type[nn.Module], text: str, weighted: bool
) -> None:
    module = randomise(cls(text)).double()
    x = (torch.randn(3, module.field_type.dim, 5, 2, dtype=torch.float64) * 2 + 1).requires_grad_()
    areas = torch.rand(5, 2, dtype=torch.float64) + 0.1 if weighted else None
    w = torch.full((10,), 0.1, dtype=torch.float64) if areas is None else (areas / areas.sum()).flatten()
    g = torch.randn_like(x)
    arguments = [x, module.weight, module.bias]
    got = [y := module(x, areas), *torch.autograd.grad(y, arguments, g)]
    y = by_definition(x.flatten(2), module, w).view_as(x)
    for a, b in zip(got, [y, *torch.autograd.grad(y, arguments, g)], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_scalars_alone_are_torchs_norms() -> None:
    x = torch.randn(3, 4, 20, dtype=torch.float64) + 2
    batch, theirs = randomise(FieldBatchNorm("4x0")).double(), nn.BatchNorm1d(4).double()
    theirs.load_state_dict(batch.state_dict())
    torch.testing.assert_close(batch(x), theirs(x))
    torch.testing.assert_close(batch.running_mean, theirs.running_mean)
    torch.testing.assert_close(FieldInstanceNorm("4x0").double()(x), nn.InstanceNorm1d(4).double()(x))
    layer = randomise(FieldLayerNorm("4x0")).double()
    ours = nn.LayerNorm(4).double()
    ours.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), ours(x.mT).mT)
    grid = Equiangular(4, 5)
    field = randomise(FieldBatchNorm("4x0", grid)).double()
    area = AreaBatchNorm(4, grid).double()
    area.load_state_dict(field.state_dict())
    torch.testing.assert_close(field(x.unflatten(2, (4, 5))), area(x.unflatten(2, (4, 5))))
    torch.testing.assert_close(field.running_var, area.running_var)


def test_unit_components_keep_their_size() -> None:
    kind = FieldType("2x0 + 2x1 + 2x3 + 2x0o")
    x = 7 * torch.randn(4, kind.dim, 5000)
    for cls in (FieldBatchNorm, FieldInstanceNorm, FieldLayerNorm):
        y = cls(kind, affine=False)(x)
        assert (y.square().mean((0, 2)) - 1).abs().max() < (0.03 if cls is not FieldLayerNorm else 0.2)
    y = RegularBatchNorm("2x0 + 2x1", affine=False)(x[:, :6])
    total = y.square().mean((0, 2))  # of the samples, which is the sum over the orders
    torch.testing.assert_close(total[:2] + total[2::2] + total[3::2], torch.ones(2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("cls", NORMS)
def test_layer_norm_and_derivatives(cls: type[nn.Module]) -> None:
    module = randomise(cls("2x0 + 1x1 + 1x2")).double()
    x = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(run, (x, module.weight, module.bias))
    assert torch.autograd.gradgradcheck(run, (x, module.weight, module.bias), atol=1e-6)
    if cls is FieldLayerNorm:
        s, v = x[:, :2], x[:, 2:4]
        scalar = (s - s.mean(1, keepdim=True)) / torch.sqrt(s.var(1, correction=0, keepdim=True) + 1e-5)
        expected = torch.cat(
            [
                scalar * module.weight[:2, None] + module.bias[:, None],
                v / torch.sqrt(v.square().mean(1, keepdim=True) + 1e-5) * module.weight[2],
            ],
            1,
        )
        torch.testing.assert_close(module(x)[:, :4], expected)


@pytest.mark.parametrize("cls", NORMS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_gauge_equivariance(
    cls: type[nn.Module], training: bool, dtype: torch.dtype, tolerance: float
) -> None:
    """Random parameters, biases, statistics, frames and areas; output, statistics, and gradients of parameters."""
    for text in [*TEXTS, "1x0o + 2x0 + 2x1"] if cls is not RegularBatchNorm else TEXTS:
        kind = FieldType(text)
        module = randomise(cls(kind)).to(dtype)
        x, a = torch.randn(3, kind.dim, 7, dtype=dtype) + 0.5, angles(7)
        if hasattr(module, "running_mean") and module.running_mean is not None:
            randomise(module, x=x)
            assert training or (module.running_mean != 0).all()  # those of fields, too: they must not act
        module.train(training)
        areas = () if cls is FieldLayerNorm else (torch.rand(7),)
        state = copy.deepcopy(module.state_dict())
        g = torch.randn_like(x)
        y = module(x, *areas)
        parameters = list(module.parameters())
        before = torch.autograd.grad(y, parameters, g)
        after_state = copy.deepcopy(module.state_dict())
        module.load_state_dict(state)
        turned = module(kind.turn(x, a), *areas)
        assert relative(turned, kind.turn(y, a)) < tolerance
        for name, value in module.state_dict().items():
            torch.testing.assert_close(value, after_state[name], atol=tolerance, rtol=tolerance)
        for p, q in zip(before, torch.autograd.grad(turned, parameters, kind.turn(g, a)), strict=True):
            assert relative(q, p) < 100 * tolerance
        module.load_state_dict(state)
        assert relative(module(kind.reflect(x), *areas), kind.reflect(y)) < tolerance


def test_areas_of_call_grid_and_sample() -> None:
    grid = GaussLegendre(4, 8)
    x = torch.randn(2, 5, 4, 8, dtype=torch.float64)
    on_grid, free = FieldBatchNorm("1x0 + 2x1", grid).double(), FieldBatchNorm("1x0 + 2x1").double()
    torch.testing.assert_close(on_grid(x), free(x, grid.areas))
    torch.testing.assert_close(free(x, grid.areas.view(4, 8) * 3), free(x, grid.areas))
    torch.testing.assert_close(free(x, grid.areas.expand(2, 32)), free(x, grid.areas))
    assert not torch.allclose(free(x), free(x, grid.areas))
    assert not torch.allclose(on_grid(x, torch.rand(4, 8)), on_grid(x))
    # a ragged batch padded with weight zero is the batch without the padding
    areas = torch.rand(2, 9, dtype=torch.float64)
    areas[1, 6:] = 0
    padded = torch.randn(2, 5, 9, dtype=torch.float64)
    instance = FieldInstanceNorm("1x0 + 2x1").double()
    short = instance(padded[1:, :, :6], areas[1:, :6])
    torch.testing.assert_close(instance(padded, areas)[1:, :, :6], short)
    assert on_grid.share is not None and on_grid.share.dtype == torch.float64
    assert torch.equal(on_grid.share, (grid.areas / grid.areas.sum()).flatten())
    for bad in (torch.zeros(5), torch.zeros(8, 4), torch.zeros(3, 4, 8)):
        with pytest.raises(ValueError, match=r"areas have shape .*; expected \(32,\) or \(4, 8\), one"):
            free(x, bad)
    with pytest.raises(ValueError, match=r"x has points \(8, 4\) but the layer was built for GaussLegendre"):
        on_grid(x.transpose(2, 3))
    assert "grid=GaussLegendre" in repr(on_grid)


def test_running_statistics_and_state() -> None:
    kind = FieldType("1x0 + 1x1")
    x = torch.randn(5, 3, 40, dtype=torch.float64) * 3 + 1
    norm = FieldBatchNorm(kind, momentum=None).double()
    for _ in range(3):
        norm(x)
    torch.testing.assert_close(norm.running_mean, torch.stack([x[:, 0].mean(), torch.zeros(()).double()]))
    var = torch.stack([x[:, 0].var(correction=0), x[:, 1:].square().mean()])
    torch.testing.assert_close(norm.running_var, var)
    assert int(norm.num_batches_tracked) == 3
    torch.testing.assert_close(norm.eval()(x), norm.train()(x))
    quick = FieldBatchNorm(kind, momentum=1.0).double()
    quick(x)
    torch.testing.assert_close(quick.running_var, var)
    assert set(norm.state_dict()) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    bare = FieldBatchNorm(kind, affine=False, track_running_stats=False).double().eval()
    assert not bare.state_dict()
    torch.testing.assert_close(bare(x), FieldBatchNorm(kind).double()(x))
    assert FieldBatchNorm("2x1").bias is None
    assert not torch.allclose(FieldBatchNorm(kind, eps=1.0).double()(x), bare(x))


@pytest.mark.parametrize("cls", NORMS)
@pytest.mark.parametrize("training", [True, False])
def test_strides_and_precision(cls: type[nn.Module], training: bool) -> None:
    module = randomise(cls("3x0 + 2x1")).train(training)
    x = torch.randn(3, 192, 7).transpose(1, 2).requires_grad_()
    y = module(x)
    assert y.stride() == x.stride()
    plain = x.detach().contiguous()
    torch.testing.assert_close(module(plain), y.detach(), atol=5e-2, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        half = module(plain.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), module(plain.bfloat16().float()), atol=0.1, rtol=1e-2)
    if training and cls in (FieldBatchNorm, FieldInstanceNorm):  # the variance does not drown in the mean
        far = torch.cat([plain[:, :3] + 1000, plain[:, 3:]], 1)
        torch.testing.assert_close(module(far), module(plain), atol=2e-3, rtol=0)


# Tracing instantiates every autograd function, which torch itself deprecates.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("cls", [FieldBatchNorm, FieldLayerNorm])
def test_compile_and_export(cls: type[nn.Module]) -> None:
    module = randomise(cls("3x0 + 2x1"))
    x = torch.randn(2, 7, 6)
    results = []
    for run in (
        copy.deepcopy(module),
        torch.compile(copy.deepcopy(module), fullgraph=True, backend="aot_eager"),
    ):
        at = x.clone().requires_grad_()
        y = run(at)
        results.append((y, *torch.autograd.grad(y.square().sum(), at)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a)
    module.eval()
    torch.testing.assert_close(torch.export.export(module, (x,), strict=False).module()(x), module(x))


def test_errors() -> None:
    grid = HEALPix(1)
    for module in (
        FieldBatchNorm("2x0 + 1x1", grid),
        FieldLayerNorm("2x0 + 1x1"),
        RegularBatchNorm("2x0 + 1x1"),
    ):
        with pytest.raises(ValueError, match=r"x has shape \(2, 3, 12\); expected \(batch, 4, \*points\)"):
            module(torch.zeros(2, 3, 12))
        assert "2x0 + 1x1" in repr(module)
    with pytest.raises(ValueError, match="expected no odd scalars"):
        RegularBatchNorm("2x0o + 1x1")
