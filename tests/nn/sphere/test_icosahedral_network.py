"""Icosahedral layers together: networks under all 60 rotations, memory layout, derivatives, precision, compilation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from spheregeo.audit import randomise
from spheregeo.grids import Icosahedral
from spheregeo.nn import (
    FromCharts,
    IcosahedralBatchNorm,
    IcosahedralConv,
    IcosahedralPool,
    IcosahedralUpsample,
    OrientationPool,
    ToCharts,
)

F64 = torch.float64


def scalars(level: int, channels: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, Icosahedral(level).num_points, dtype=F64)


def close(a: Tensor, b: Tensor) -> bool:
    return float(((a - b).norm() / b.norm()).detach()) < 1e-12


def network(level: int, dtype: torch.dtype = F64) -> nn.Module:
    """All kinds of layers, everything random; scalar to scalar on the same grid."""
    model = nn.Sequential(
        ToCharts(level),
        IcosahedralConv(2, 3, level, in_type="scalar"),
        IcosahedralBatchNorm(3, level),
        nn.ReLU(),
        IcosahedralConv(3, 4, level, stride=2),
        IcosahedralBatchNorm(4, level - 1),
        nn.ReLU(),
        IcosahedralPool(4, level - 1, reduce="max"),
        IcosahedralConv(4, 4, level - 2),
        nn.ReLU(),
        IcosahedralUpsample(4, level - 2),
        IcosahedralConv(4, 3, level - 1, out_type="scalar"),
        IcosahedralBatchNorm(3, level - 1, in_type="scalar"),
        IcosahedralUpsample(3, level - 1, in_type="scalar"),
        nn.GELU(),
        IcosahedralConv(3, 3, level, in_type="scalar"),
        OrientationPool(3, level),
        IcosahedralConv(3, 2, level, in_type="scalar", out_type="scalar"),
        FromCharts(level),
    ).to(dtype)
    x = scalars(level, 2).to(dtype)
    return randomise(model, x=x).eval()


@pytest.mark.parametrize("training", [False, True])
def test_a_network_commutes_with_all_60_rotations(training: bool) -> None:
    grid = Icosahedral(3)
    model = network(3).train(training)
    x = scalars(3, 2, batch=1)
    assert grid.symmetry is not None and len(grid.symmetry.permutations) == 60
    y = model(x)
    invariant = y @ grid.areas
    for go in grid.symmetry.permutations:
        turned = model(torch.empty_like(x).index_copy_(2, go, x))
        assert close(turned, torch.empty_like(y).index_copy_(2, go, y))
        assert close(turned @ grid.areas, invariant)


def test_rotations_in_float32() -> None:
    grid = Icosahedral(3)
    model = network(3, torch.float32)
    x = scalars(3, 2, batch=1).float()
    assert grid.symmetry is not None
    go = grid.symmetry.permutations[17]
    turned, y = model(torch.empty_like(x).index_copy_(2, go, x)), model(x)
    assert (turned - torch.empty_like(y).index_copy_(2, go, y)).norm() / y.norm() < 1e-5


def test_second_derivatives() -> None:
    conv = randomise(IcosahedralConv(1, 1, 1).double())
    norm = randomise(IcosahedralBatchNorm(1, 1).double())
    x = torch.randn(1, 6, 5, 2, 4, dtype=F64, requires_grad=True)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = torch.func.functional_call(conv, {"weight": weight, "bias": bias}, (x,))
        return norm(y)

    some = torch.randn(60, dtype=F64)  # a few directions: the whole Jacobian takes long
    arguments = (
        x,
        conv.weight.detach().clone().requires_grad_(),
        conv.bias.detach().clone().requires_grad_(),
    )
    assert torch.autograd.gradcheck(run, arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, arguments, fast_mode=True)
    scalars = some.view(1, 1, 5, 2, 6)[..., :4].contiguous().requires_grad_()
    lift = randomise(IcosahedralConv(1, 1, 1, in_type="scalar").double())
    assert torch.autograd.gradgradcheck(lambda x: lift(x).square(), (scalars,), fast_mode=True)


def test_chart_layout_is_kept_without_a_copy() -> None:
    model = network(3, torch.float32)
    seen = []
    for layer in model[:-1]:
        layer.register_forward_hook(lambda layer, _, y: seen.append((layer, y)))
    model(scalars(3, 2).float())
    for layer, y in seen:
        assert y.ndim == 5 and y.shape[2] == 5 and y.shape[4] == 2 * y.shape[3]
        assert y.is_contiguous(memory_format=torch.channels_last_3d), layer


def test_corner_cells_are_zero_and_take_no_gradient() -> None:
    layer = randomise(IcosahedralConv(1, 2, 2).double())
    x = torch.randn(1, 6, 5, 4, 8, dtype=F64, requires_grad=True)
    y = layer(x)
    assert y[..., -1, ::4].abs().max() == 0
    only = torch.zeros_like(y)
    only[..., -1, ::4] = 1
    y.backward(only)
    assert x.grad is not None and x.grad.abs().max() == 0 and layer.weight.grad.abs().max() == 0


def test_weights_serve_at_another_level_and_hold_no_geometry() -> None:
    small, large = IcosahedralConv(2, 3, 2), IcosahedralConv(2, 3, 4)
    assert set(small.state_dict()) == {"weight", "bias"}
    assert small.weight.numel() == 42 * 6
    large.load_state_dict(small.state_dict())
    norm = IcosahedralBatchNorm(3, 2)
    IcosahedralBatchNorm(3, 3).load_state_dict(norm.state_dict())


# torch's compiler makes an instance of each autograd function, of which torch itself warns
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_autocast_and_compile() -> None:
    model = network(3, torch.float32)
    x = scalars(3, 2).float()
    full = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(x)
    assert (low - full).norm() / full.norm() < 0.05  # 8 bits a number, some ten roundings
    plain = nn.Sequential(
        ToCharts(2),
        IcosahedralConv(1, 2, 2, in_type="scalar"),
        IcosahedralBatchNorm(2, 2),
        FromCharts(2, "regular"),
    )
    torch._dynamo.reset()  # shapes that other tests of this process have compiled would count as varying
    fast = torch.compile(copy.deepcopy(plain), backend="aot_eager", fullgraph=True)
    x = scalars(2, 1).float()
    for run in (plain, fast):
        run(x).pow(3).mean().backward()
    for p, q in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
