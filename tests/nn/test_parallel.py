"""Two processes act as one: norms and dropout of samples on shares of a batch equal those on the whole, gradients included."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from spheregeo import nn as layers
from spheregeo.grids import Equiangular, Icosahedral
from spheregeo.nn.parallel import leave_constants_alone, synchronize_norms

GRID = Equiangular(4, 8)
AREAS = torch.rand(13, generator=torch.Generator().manual_seed(3)) + 0.1

# name: layer, axis of the samples or points, length of that axis, shape; the first process gets every other index and more
NORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "AreaBatchNorm": (lambda: layers.AreaBatchNorm(3, GRID), (5, 3, 4, 8), 0),
    "FieldBatchNorm": (lambda: layers.FieldBatchNorm("2x0 + 1x1", GRID), (5, 4, 4, 8), 0),
    "FieldBatchNorm with areas": (lambda: layers.FieldBatchNorm("2x0 + 1x1"), (1, 4, 13), 2),
    "RegularBatchNorm": (lambda: layers.RegularBatchNorm("2x0 + 2x1"), (1, 6, 13), 2),
    "IcosahedralBatchNorm": (lambda: layers.IcosahedralBatchNorm(2, Icosahedral(1)), (5, 12, 42), 0),
    "IrrepsBatchNorm": (lambda: layers.IrrepsBatchNorm("3x0e + 2x1o", momentum=None), (13, 9), 0),
    "BatchNorm": (lambda: layers.BatchNorm(3), (5, 3, 4, 8), 0),
    "BatchNorm of rows": (lambda: layers.BatchNorm(4, momentum=None, lone=True), (2, 4), 0),
    "SO3BatchNorm": (lambda: layers.SO3BatchNorm(3, 1), (5, 3, 4, 4, 4), 0),
    "GroupBatchNorm2d": (lambda: layers.GroupBatchNorm2d("2xC2 + 1x0"), (5, 5, 3, 3), 0),
    "VectorBatchNorm": (lambda: layers.VectorBatchNorm(4), (13, 3, 4), 0),
}
SHARES = ("in turns", "one empty")


def made(name: str) -> tuple[nn.Module, Tensor, int]:
    make, shape, axis = NORMS[name]
    torch.manual_seed(0)
    layer = make().double()
    for p in layer.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    x = torch.randn(shape, dtype=torch.float64) * torch.linspace(1, 3, shape[axis]).double().view(
        [-1 if k == axis else 1 for k in range(len(shape))]
    )
    return layer, x.requires_grad_(), axis


def step(layer: nn.Module, x: Tensor, axis: int, rows: Tensor, share: float) -> dict[str, Tensor]:
    """Output, first and second derivatives, and buffers of a layer for some rows of x, of a loss that is a sum over all rows."""
    part = x.index_select(axis, rows)
    areas = () if axis == 0 else (AREAS.double()[rows],)
    y = layer(part, *areas)
    weights = torch.cos(torch.arange(x.numel()).double()).view(x.shape).index_select(axis, rows)
    loss = (y.square() * weights + y).sum() * share
    gradient = torch.autograd.grad(loss, [x, *layer.parameters()], create_graph=True)
    second = torch.autograd.grad(gradient[0].square().sum() * share, [x, *layer.parameters()])
    found = {f"gradient {k}": g.detach() for k, g in enumerate(gradient)}
    found |= {f"second {k}": g for k, g in enumerate(second)}
    return {"y": y.detach(), **found, **{k: v.clone() for k, v in layer.named_buffers() if "running" in k}}


def worker(rank: int, store: str) -> None:
    """What each of the two processes does; all in float64, whose rounding hides no fault."""
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for name in NORMS:
        for shares in SHARES:
            layer, x, axis = made(name)
            every = torch.arange(x.shape[axis])
            synchronize_norms(layer, False)
            alone = step(layer, x, axis, every, 1.0)
            layer, x, _ = made(name)
            rows = every[rank::2] if shares == "in turns" else every[: len(every) * (1 - rank)]
            mine = step(layer, x, axis, rows, 1.0)
            torch.testing.assert_close(mine.pop("y"), alone.pop("y").index_select(axis, rows))
            for key, value in mine.items():
                if "running" not in key:
                    distributed.all_reduce(value)
                torch.testing.assert_close(
                    value, alone[key], msg=lambda m, w=(name, shares, key): f"{w}: {m}"
                )
    dropout = layers.SampleDropout(0.5)
    for counts in ([3, 2], [4, 0], [1, 1]):
        torch.manual_seed(1)
        whole = nn.functional.dropout(torch.ones(sum(counts), 50))
        order = sorted((j, k) for k, n in enumerate(counts) for j in range(n))
        torch.manual_seed(1)
        mine = dropout(torch.ones(counts[rank], 50))
        assert torch.equal(mine, whole[[i for i, (_, k) in enumerate(order) if k == rank]])
    distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_available(), reason="torch was built without distributed")
def test_two_processes_equal_one(tmp_path: Path, programs: Any) -> None:
    running = [programs.start([__file__, str(k), str(tmp_path / "store")]) for k in (0, 1)]
    ended = [programs.finish(number, timeout=120) for number in running]
    assert [process.returncode for process in ended] == [0, 0], "\n".join(p.stderr for p in ended)


def test_every_norm_with_running_statistics_is_tested() -> None:
    """A new norm has to join the table, and with it the comparison."""
    held = {type(part) for make, *_ in NORMS.values() for part in make().modules()}
    kinds = {getattr(layers, name) for name in layers.__all__ if name.endswith("BatchNorm")}
    assert kinds <= held


if __name__ == "__main__":
    worker(int(sys.argv[1]), sys.argv[2])


def test_constants_are_not_broadcast() -> None:
    """Of a network's buffers ``DistributedDataParallel`` sends what training changes, not the geometry."""
    network = nn.Sequential(layers.DiscoConv(2, 2, GRID), layers.AreaBatchNorm(2, GRID))
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        every = nn.parallel.DistributedDataParallel(network).modules_buffers
        sent = nn.parallel.DistributedDataParallel(leave_constants_alone(network)).modules_buffers
    finally:
        distributed.destroy_process_group()
    assert len(sent) < len(every)
    kept = {id(t) for name, t in network.named_buffers() if name in network.state_dict()}
    assert {id(t) for t in sent} == kept
