"""Vector neurons: equivariance with random parameters, slow twins, degenerate input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spheregeo.audit import randomise
from spheregeo.nn.space.vector_neurons import (
    StatisticsNorm,
    VectorBatchNorm,
    VectorEdgeConv,
    VectorInvariants,
    VectorLinearReLU,
    VectorMaxPool,
    VectorMeanPool,
    vector_leaky_relu,
)
from spheregeo.sampling import random_rotations

BOUND = 1e-12
GROUP = torch.tensor([0, 0, 0, 1, 3, 3, 3, 3])


def vectors(n: int, c: int) -> Tensor:
    return torch.randn(n, 3, c, dtype=torch.float64)


def drawn(module: nn.Module, *example: Tensor) -> nn.Module:
    """The module in float64 with random parameters and statistics, in evaluation mode."""
    return randomise(module.double()).eval()


def turn(v: Tensor, r: Tensor) -> Tensor:
    return torch.einsum("ij,...jc->...ic", r, v)


def edges() -> Tensor:
    return torch.stack([torch.randint(0, 8, (30,)), torch.randint(0, 8, (30,)).sort().values])


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Tensor], Tensor], bool]] = {
    "norm": (lambda: VectorBatchNorm(5), lambda m, v: m(v), True),
    "relu": (lambda: VectorLinearReLU(5, 4), lambda m, v: m(v), True),
    "shared": (lambda: VectorLinearReLU(5, 4, share=True, slope=0.0), lambda m, v: m(v), True),
    "edges": (lambda: VectorEdgeConv(5, 4), lambda m, v: m(v, EDGES), True),
    "edges max": (lambda: VectorEdgeConv(5, 4, pool="max"), lambda m, v: m(v, EDGES), True),
    "cross": (lambda: VectorEdgeConv(5, 4, cross=True), lambda m, v: m(v, EDGES), False),
    "mean": (VectorMeanPool, lambda m, v: m(v, GROUP, 4), True),
    "max": (lambda: VectorMaxPool(5), lambda m, v: m(v, GROUP, 4), True),
}
torch.manual_seed(1)
EDGES = edges()


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_layers_turn_with_their_input(name: str) -> None:
    make, call, reflections = CASES[name]
    module, v = drawn(make()), vectors(8, 5)
    y = call(module, v)
    assert float(y.norm()) > 0.1
    for r in random_rotations(3):
        assert float((call(module, turn(v, r)) - turn(y, r)).abs().max()) < BOUND * float(y.abs().max())
        mirrored = float((call(module, turn(v, -r)) - turn(y, -r)).abs().max())
        assert (mirrored < BOUND * float(y.abs().max())) == reflections


@torch.no_grad()
def test_invariants_stay() -> None:
    module, v = drawn(VectorInvariants(5)), vectors(8, 5)
    y = module(v)
    assert y.shape == (8, 15) and float(y.std()) > 0.01
    for r in random_rotations(3):
        assert float((module(turn(v, r)) - y).abs().max()) < BOUND * float(y.abs().max())
        assert float((module(turn(v, -r)) - y).abs().max()) < BOUND * float(y.abs().max())


@pytest.mark.parametrize("cross", [False, True])
def test_edge_convolution_is_its_slow_twin(cross: bool) -> None:
    """Output and gradients are those of the layer on materialised edge features."""
    module = drawn(VectorEdgeConv(4, 3, cross=cross))
    assert isinstance(module, VectorEdgeConv)
    x = vectors(8, 4).requires_grad_()
    source, target = EDGES
    parts = [x[source] - x[target], x[target]]
    parts += [torch.linalg.cross(x[source], x[target], dim=1)] if cross else []
    f = torch.cat(parts, -1)
    q, k = f @ module.feature.weight.T, f @ module.direction.weight.T
    messages = vector_leaky_relu(module.norm(q), k, 0.2)
    slow = torch.stack([messages[target == i].sum(0) / max(1, int((target == i).sum())) for i in range(8)])
    fast = module(x, EDGES)
    assert torch.allclose(fast, slow, atol=1e-13)
    weight = torch.randn_like(slow)
    wanted = [x, module.feature.weight, module.direction.weight, module.norm.norm.weight]
    for a, b in zip(
        torch.autograd.grad((fast * weight).sum(), wanted),
        torch.autograd.grad((slow * weight).sum(), wanted),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-12)


def test_leaky_relu_by_hand() -> None:
    q = torch.tensor([[1.0, 0, 0], [-1, 2, 0]], dtype=torch.float64)[..., None]
    k = torch.tensor([[2.0, 0, 0], [1, 0, 0]], dtype=torch.float64)[..., None]
    found = vector_leaky_relu(q, k, 0.2)[..., 0]
    assert torch.allclose(found, torch.tensor([[1.0, 0, 0], [-0.2, 2, 0]], dtype=torch.float64), atol=1e-5)
    assert float(vector_leaky_relu(q, k, 0.0)[1, 0]) == pytest.approx(0, abs=1e-5)


def test_pools_by_loop() -> None:
    v = vectors(8, 3)
    mean, top = VectorMeanPool()(v, GROUP, 4), drawn(VectorMaxPool(3))
    assert isinstance(top, VectorMaxPool)
    most = top(v, GROUP, 4)
    for g in range(4):
        own = v[GROUP == g]
        if not len(own):
            assert mean[g].abs().max() == 0 == most[g].abs().max()
            continue
        assert torch.allclose(mean[g], own.mean(0))
        reach = (own * top.direction(own)).sum(1)
        for c in range(3):
            assert torch.equal(most[g, :, c], own[int(reach[:, c].argmax()), :, c])
    same = torch.ones(4, 3, 3, dtype=torch.float64)
    assert torch.equal(top(same, torch.zeros(4, dtype=torch.int64), 1), same[:1])  # ties
    with pytest.raises(ValueError, match="pool is 'sum'; expected 'mean' or 'max'"):
        VectorEdgeConv(1, 1, pool="sum")


def test_vectors_of_length_zero_have_finite_gradients() -> None:
    module = VectorEdgeConv(2, 3).double()
    x = torch.zeros(8, 3, 2, dtype=torch.float64, requires_grad=True)
    y = module(x, EDGES)
    y.sum().backward()
    assert torch.equal(y, torch.zeros_like(y)) and x.grad is not None and bool(torch.isfinite(x.grad).all())
    assert all(bool(torch.isfinite(p.grad).all()) for p in module.parameters() if p.grad is not None)


def test_one_row_takes_the_running_statistics() -> None:
    norm = StatisticsNorm(3).double()
    norm(torch.randn(50, 3, dtype=torch.float64) + 2)
    x = torch.randn(1, 3, dtype=torch.float64)
    before = norm.running_mean.clone()
    trained = norm(x)
    assert torch.equal(norm.running_mean, before) and torch.allclose(trained, norm.eval()(x))


def test_means_of_many_in_low_precision() -> None:
    """A sum of ones in bfloat16 ends at 256."""
    group = torch.zeros(1500, dtype=torch.int64)
    found = VectorMeanPool()(torch.full((1500, 3, 2), 0.5, dtype=torch.bfloat16), group, 1)
    assert found.dtype == torch.bfloat16 and torch.equal(found, torch.full_like(found, 0.5))
