"""Published steerable networks on clouds, options of theirs and of their like on molecules, and whether compilers take them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from e3nn.o3 import Irreps
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from spheregeo import models
from spheregeo.models.space import small_blocks, small_network
from spheregeo.models.space.steerable_blocks import PointBlock
from spheregeo.nn import SampleDropout
from spheregeo.sampling import random_rotations

F64 = torch.float64
CLOUDS = ["segnn-points", "tfn-points", "implicit-points"]
MOLECULES = ["steerable-molecule", "segnn", "tfn", "implicit-molecule"]


def randomise(network: torch.nn.Module) -> None:
    """Biases and norms' weights drawn too; matrices are already, at a size that lets geometry matter."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            if p.ndim < 2:
                p.copy_(torch.randn(p.shape, generator=generator) + (p > 0))


def made(name: str, in_channels: int = 0, **options: object) -> Any:
    torch.manual_seed(0)
    network = models.create(name, in_channels, 3, None, **options)
    randomise(network)
    return network.double().eval()


def cloud(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=F64)


def value(network: Any, x: Tensor, features: Tensor | None = None) -> Tensor:
    batch = torch.zeros(len(x), dtype=torch.int64)
    result: Tensor = network(x, features, batch, network.neighbors(x, batch), 1)
    return result


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds_motions_reflections_order_batch(name: str) -> None:
    network = made(name, 4, width=6, depth=2, k=5, feature_irreps="1x0e + 1x1o")
    x, s, v = cloud(12), cloud(12, 1)[:, :1], cloud(12, 2)
    with torch.no_grad():
        y = value(network, x, torch.cat([s, v], 1))
        change = float((value(network, x, torch.cat([s, 1.1 * v], 1)) - y).abs().max())
        assert change > 1e-5 * float(y.abs().max())
        for turn in random_rotations(2, generator=torch.Generator().manual_seed(0)):
            for matrix in (turn, -turn):
                other = value(network, x @ matrix.T + 3, torch.cat([s, v @ matrix.T], 1))
                assert float((other - y).abs().max()) < 1e-8 * change
        order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
        moved = value(network, x[order], torch.cat([s, v], 1)[order])
        assert float((moved - y).abs().max()) < 1e-8 * change
        parts = [cloud(n, n) for n in (9, 1, 3)]
        features = [torch.cat([p[:, :1], p], 1) for p in parts]
        batch = torch.repeat_interleave(torch.arange(3), torch.tensor([9, 1, 3]))
        both = torch.cat(parts)
        together = network(both, torch.cat(features), batch, network.neighbors(both, batch), 3)
        apart = torch.cat([value(network, *p) for p in zip(parts, features, strict=True)])
        assert torch.isfinite(together).all() and torch.allclose(together, apart, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds_train_and_load(name: str) -> None:
    network, x = made(name, width=6, depth=2, k=4).train(), cloud(10)
    value(network, x).square().sum().backward()
    grads = [p.grad for p in network.parameters()]
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in grads)
    again = models.create(name, 0, 3, None, width=6, depth=2, k=4).double()
    again.load_state_dict(network.state_dict())
    assert torch.equal(value(again.eval(), x), value(network.eval(), x))
    assert models.create(f"{name}-base", 0, 3, None).k >= 16
    with pytest.raises(ValueError, match="no periods"):
        network.neighbors(x, None, cell=torch.eye(3))


@pytest.mark.parametrize(("act", "bound"), [("norm", 1e-9), ("gate", 1e-9), ("sphere", 0.5)])
def test_nonlinearities_of_tfn(act: str, bound: float) -> None:
    network = made("tfn", 20, width=6, depth=2, nonlinearity=act)
    x, z = 1.5 * cloud(7), torch.tensor([1, 6, 8, 1, 6, 8, 1])
    with torch.no_grad():
        y = value(network, x, z)
        change = float((value(network, 1.1 * x, z) - y).abs().max())
        for turn in random_rotations(2, generator=torch.Generator().manual_seed(0)):
            assert float((value(network, -x @ turn.T, z) - y).abs().max()) < bound * change
    with pytest.raises(ValueError, match="nonlinearity is 'relu'"):
        models.create("tfn", 20, 1, None, nonlinearity="relu")


@pytest.mark.parametrize("name", ["tfn", "implicit-molecule"])
def test_smooth_at_the_cutoff(name: str) -> None:
    network, z = made(name, 20, width=6, depth=2, cutoff=3.0), torch.tensor([6, 8, 1])

    def at(r: float) -> tuple[Tensor, Tensor]:
        x = torch.tensor([[0.0, 0, 0], [1.1, 0, 0], [0, r, 0]], dtype=F64, requires_grad=True)
        y = value(network, x, z)[0, 0]
        return y.detach(), torch.autograd.grad(y, x)[0][2, 1]

    inside, outside = at(3 - 1e-6), at(3 + 1e-6)
    assert float((inside[0] - outside[0]).abs()) < 1e-10 and float((inside[1] - outside[1]).abs()) < 1e-8


def test_groups_of_implicit_kernels() -> None:
    """Kernels of the rotations of the cube: turned by its elements nothing changes, by others and by reflections it does."""
    network, x = made("implicit-points", width=4, depth=2, lmax=1, k=4, group="octahedral"), cloud(9)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=F64)
    other = random_rotations(1, generator=torch.Generator().manual_seed(0))[0].double()
    with torch.no_grad():
        y = value(network, x)
        size = float(y.abs().max())
        assert float((value(network, x @ quarter.T) - y).abs().max()) < 1e-9 * size
        for matrix in (other, -torch.eye(3, dtype=F64)):
            assert float((value(network, x @ matrix.T) - y).abs().max()) > 1e-3 * size


@pytest.mark.parametrize("name", MOLECULES + CLOUDS)
def test_compiles_and_exports_whole(name: str) -> None:
    atoms = models.domain_of(name) == "molecule"
    network = made(name, 20 if atoms else 0, width=4, depth=1)
    x, batch = 1.5 * cloud(6), torch.tensor([0, 0, 0, 1, 1, 1])
    features = torch.tensor([1, 6, 8, 1, 6, 8]) if atoms else None
    graph = network.neighbors(x, batch)
    y = network(x, features, batch, graph, 2)
    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    again = compiled(x, features, batch, graph, 2)
    assert torch.allclose(again, y, rtol=1e-10, atol=1e-12)
    weight = next(p for p in network.parameters() if p.ndim > 1)
    (got,), (expected,) = (torch.autograd.grad(v.sum(), weight) for v in (again, y))
    assert torch.allclose(got, expected, rtol=1e-10, atol=1e-12)
    exported = torch.export.export(network, (x, features, batch, graph, 2)).module()
    assert torch.allclose(exported(x, features, batch, graph, 2), y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["steerable-molecule", "segnn", "tfn", "implicit-molecule", "segnn-points", "steerable-points"]
)
def test_runs_under_autocast(name: str) -> None:
    is_cloud = name.endswith("points")
    network = made(name, 0 if is_cloud else 10).float()
    x, batch = cloud(20).float(), torch.zeros(20, dtype=torch.int64)
    features = None if is_cloud else torch.randint(1, 9, (20,))
    graph = network.neighbors(x, batch)
    y = network(x, features, batch, graph, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = network(x, features, batch, graph, 1)
    assert float((low - y).detach().abs().max()) < 0.1 * float(y.detach().abs().max())
    low.float().sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)


def test_dropout_of_points_knows_of_several_processes() -> None:
    block = PointBlock(Irreps("4x0e + 2x1o"), 8, dropout=0.5)
    assert [type(part) for part in block.mlp].count(SampleDropout) == 1
    assert not any(type(part) is torch.nn.Dropout for part in block.modules())


class _Count(TorchDispatchMode):
    """Counts operators that reach torch's dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def _slopes(network: Any, x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value, gradient, gradient that is differentiated again, and a product with the Hessian."""
    x = x.detach().requires_grad_()
    y = value(network, x, numbers)[0, 0]
    (g,) = torch.autograd.grad(y, x, retain_graph=True)
    (again,) = torch.autograd.grad(y, x, create_graph=True)
    (h,) = torch.autograd.grad((again * torch.arange(again.numel()).view_as(again)).sum(), x)
    return y.detach(), g, again.detach(), h


@pytest.mark.parametrize(
    "options",
    [{"width": 64}, {"lmax": 0, "depth": 1}, {"lmax": 3, "depth": 2, "element_dim": 0, "out_vectors": 1}],
)
def test_small_systems_in_arrays_equal_plain_operations(
    options: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = made("steerable-molecule", 10, **{"width": 16, **options})
    x, numbers = 1.5 * cloud(7), torch.tensor([1, 6, 6, 8, 1, 7, 1])
    x[6] = 40.0  # an atom by itself
    plain = _slopes(network, x, numbers)  # weights to be learned: plain operations
    assert network._small.small is None
    network.requires_grad_(False)
    if "width" in options:  # matrix products of both kinds
        monkeypatch.setattr(small_blocks, "FEW_PRODUCTS", 1 << 14)
    with _Count() as seen:
        arrays = _slopes(network, x, numbers)
    assert network._small.small is not None and seen.count > 0
    for found, expected in zip(arrays, plain, strict=True):
        assert float((found - expected).abs().max()) < 1e-12 * float(expected.abs().max())
    copied = copy.deepcopy(
        network
    )  # begins with no arrays of its own, and those of the copy follow its weights
    with torch.no_grad():
        for p in copied.parameters():
            p.mul_(1.1)
        changed = value(copied, x, numbers)
        monkeypatch.setattr(small_network, "EDGES", 0)
        assert torch.allclose(changed, value(copied, x, numbers), rtol=1e-12)
        assert not torch.allclose(changed[0, 0], plain[0], rtol=1e-6)


def test_small_systems_dispatch_few_operators_and_fall_back() -> None:
    network = made("steerable-molecule", 10).requires_grad_(False)
    x, numbers = 1.5 * cloud(9), torch.full((9,), 6)
    batch = torch.zeros(9, dtype=torch.int64)
    graph = network.neighbors(x, batch)
    value(network, x, numbers)
    x.requires_grad_()
    with _Count() as seen:
        y = network(x, numbers, batch, graph, 1)
        forward = seen.count
        torch.autograd.grad(y[0, 0], x)
    assert forward <= 130 and seen.count <= 320
    seen_by_hook = []
    handle = network.points[0].register_forward_hook(lambda *_: seen_by_hook.append(1))
    assert torch.allclose(network(x, numbers, batch, graph, 1), y, rtol=1e-12)
    handle.remove()
    assert seen_by_hook
    with pytest.raises(IndexError):
        network(x, -numbers, batch, graph, 1)
    near = x.detach().clone()
    near[1] = near[0] + 1e-3  # where the waves' slopes need a series
    assert bool(value(network, near, numbers).isfinite().all())
    assert bool(network(x * float("nan"), numbers, batch, graph, 1).isnan().all())
