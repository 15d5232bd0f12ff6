"""Two and four processes that share a sphere, a mesh or a graph equal one: outputs, gradients, second gradients."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh
from torch import Tensor, distributed, nn

from spheregeo import models
from spheregeo import nn as layers
from spheregeo.distributed import (
    Part,
    PartEdges,
    Partition,
    area_mean,
    distribute,
    gather_field,
    measured_traffic,
    scatter_field,
    share_groups,
    stack_over_group,
    sum_gradients,
    sum_over_group,
    work_of,
)
from spheregeo.distributed.distribute import MAPS, TURNED
from spheregeo.grids import Equiangular, Fibonacci, Grid, HEALPix, Icosahedral
from spheregeo.kernels import Morlet
from spheregeo.mesh import TriangleMesh
from spheregeo.nn.irreps import Stacks
from spheregeo.nn.parallel import synchronize_norms

E, H, N, I = Equiangular(8, 16), HEALPix(2), HEALPix(2, order="nested"), Icosahedral(1)
KIND = "2x0 + 1x1"
BALL = trimesh.creation.icosphere(subdivisions=1)
MESH = TriangleMesh(torch.tensor(BALL.vertices), torch.tensor(BALL.faces))

# name: layer, grid of its input, channels, numbers of processes
LAYERS: dict[str, tuple[Callable[[], nn.Module], Grid, int, set[int]]] = {
    "DiscoConv": (lambda: layers.DiscoConv(2, 3, E), E, 2, {2, 4}),
    "DiscoConv down": (lambda: layers.DiscoConv(2, 2, E, H), E, 2, {2}),
    "DiscoConv, rings of HEALPix": (lambda: layers.DiscoConv(2, 2, H, kernel=Morlet(2, 2)), H, 2, {2}),
    "DiscoConv, faces": (lambda: layers.DiscoConv(2, 2, N), N, 2, {4}),
    "DiscoConv, charts": (lambda: layers.DiscoConv(2, 2, I, groups=2), I, 2, {2}),
    "DiscoConv, boxes": (lambda: layers.DiscoConv(2, 2, Fibonacci(40)), Fibonacci(40), 2, {4}),
    "DiscoConvTranspose": (lambda: layers.DiscoConvTranspose(2, 2, H, E), H, 2, {2}),
    "GaugeConv": (lambda: layers.GaugeConv(KIND, KIND, E), E, 4, {2, 4}),
    "GaugeConv, edge bias": (lambda: layers.GaugeConv(KIND, KIND, N, bias="edge"), N, 4, {4}),
    "GaugeConv, mesh": (lambda: layers.GaugeConv(KIND, KIND, MESH), MESH, 4, {2}),
    "SphereAttention": (lambda: layers.SphereAttention(4, H, spacings=2.0, heads=2), H, 4, {2}),
    "ChebConv": (lambda: layers.ChebConv(2, 2, N, order=3, neighbors=6), N, 2, {2}),
    "SphereDilation": (lambda: layers.SphereDilation(2, H), H, 2, {2}),
    "SphereErosion": (lambda: layers.SphereErosion(2, E), E, 2, {4}),
    "SphereDiffusion": (lambda: layers.SphereDiffusion(2, H), H, 2, {2}),
    "HEALPixConv": (lambda: layers.HEALPixConv(2, 2, H, missing="renormalize"), H, 2, {2}),
    "HEALPixFaceConv": (lambda: layers.HEALPixFaceConv(2, 2, N, stride=2), N, 2, {4}),
    "Resample": (lambda: layers.Resample(E, H), E, 2, {2}),
    "Pool": (lambda: layers.Pool(E), E, 2, {2}),
    "Pool, area": (lambda: layers.Pool(I, "area"), I, 2, {4}),
    "Pool, max": (lambda: layers.Pool(E, "max"), E, 2, {2}),
    "Unpool": (lambda: layers.Unpool(N), N, 2, {2}),
    "Unpool, linear": (lambda: layers.Unpool(H, "linear"), H, 2, {2}),
    "AreaBatchNorm": (lambda: layers.AreaBatchNorm(2, E), E, 2, {4}),
    "AreaGroupNorm": (lambda: layers.AreaGroupNorm(1, 2, E), E, 2, {2}),
    "AreaInstanceNorm": (lambda: layers.AreaInstanceNorm(2, E), E, 2, {4}),
    "GroupNorm": (lambda: nn.Sequential(layers.Pool(E), nn.GroupNorm(2, 4)), E, 4, {2}),
    "FieldBatchNorm": (lambda: layers.FieldBatchNorm(KIND, E), E, 4, {2}),
    "FieldInstanceNorm": (lambda: layers.FieldInstanceNorm(KIND, E), E, 4, {2}),
    "GlobalPool": (lambda: layers.GlobalPool(E), E, 2, {2}),
    "GlobalPool, max": (lambda: layers.GlobalPool(E, "max"), E, 2, {4}),
    "SphericalUNet": (lambda: models.SphericalUNet(2, 2, E, width=4, depth=2, position=True), E, 2, {2, 4}),
    "SphericalUNet, group norms": (
        lambda: models.SphericalUNet(2, 2, N, width=4, depth=2, norm="group"), N, 2, {2}
    ),
    "GaugeUNet": (lambda: models.GaugeUNet(2, 2, H, width=2, depth=2), H, 2, {2}),
}  # fmt: skip


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    layer = LAYERS[name][0]()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn(p.shape))
    return layer


def derivatives(loss: Tensor, inputs: list[Tensor]) -> dict[str, Tensor]:
    """First derivatives of a loss, and those of the squared first one by the first input."""
    first = torch.autograd.grad(loss, inputs, create_graph=True)
    again = torch.autograd.grad(first[0].square().sum(), inputs, allow_unused=True)
    found = {f"gradient {k}": g.detach() for k, g in enumerate(first)}
    return found | {f"second {k}": g for k, g in enumerate(again) if g is not None}


def close(found: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> None:
    assert found.keys() == expected.keys(), name
    for key, value in found.items():
        scale = float(expected[key].abs().max()) + 1e-300
        assert float((value - expected[key]).abs().max()) <= 1e-10 * scale, f"{name}: {key}"


def compare(name: str, rank: int, size: int) -> None:
    """A layer on this process's points, built in float32 before it is split, against the whole one."""
    _, grid, channels, _ = LAYERS[name]
    layer = made(name)
    partition = Partition.of(grid, size)
    split = copy.deepcopy(distribute(copy.deepcopy(layer), partition)).double()
    layer.double()
    synchronize_norms(layer, False)
    assert list(split.state_dict()) == list(layer.state_dict())
    x = torch.randn(2, channels, *grid.shape, dtype=torch.float64).requires_grad_()
    part = Part(partition, rank)
    mine = part.of(x.detach()).requires_grad_()
    y, own = layer(x), split(mine)
    pooled = y.ndim == 2
    target = y.new_empty(0) if pooled else y
    grids = [g for m in layer.modules() for g in (getattr(m, "target", None),) if isinstance(g, Grid)]
    out = grids[-1] if len(grids) == 1 else grid
    of = (lambda t: t) if pooled else Part(partition.on(out), rank).of
    factor = torch.cos(torch.arange(y.numel()).double()).view(y.shape)
    assert pooled or target.shape[2:] == out.shape
    expected = {"y": of(y.detach())} | derivatives((y.square() * factor + y).sum(), [x, *layer.parameters()])
    loss = (own.square() * of(factor) + own).sum() / (size if pooled else 1)
    found = {"y": own.detach()} | derivatives(loss, [mine, *split.parameters()])
    for key in ("gradient 0", "second 0"):
        if key in expected:
            expected[key] = part.of(expected[key])
    for part_name, buffer in layer.named_buffers():
        if "running" in part_name:
            expected[part_name], found[part_name] = buffer, split.get_buffer(part_name)
    close(found, expected, f"{name}, process {rank} of {size}")


def edges(rank: int, size: int) -> None:
    """Energies and forces of a steerable network, whose edges reach points of other processes."""
    torch.manual_seed(0)
    positions, types = torch.rand(24, 3).double() * 3, torch.randn(24, 4).double()
    near = ((positions[:, None] - positions).norm(dim=2) < 1.2) & ~torch.eye(24, dtype=torch.bool)
    edge_index = near.nonzero().T.flip(0)
    shift = 0.1 * torch.randn(edge_index.shape[1], 3).double()
    network = nn.ModuleList(
        [
            layers.SteerableConv("4x0e", "4x0e + 2x1o", lmax=1),
            layers.SteerableConv("4x0e + 2x1o", "4x0e", lmax=1, edge_dim=2, depthwise=True),
        ]
    ).double()
    features = torch.randn(edge_index.shape[1], 2).double()
    positions.requires_grad_()
    weights = list(network.parameters())
    geometry = layers.EdgeGeometry.of(positions, layers.EdgeList.of(edge_index, 24, shift=shift))
    y = network[1](network[0](types, geometry), geometry, features)
    expected = {"y": y.detach()} | derivatives(y.square().sum(), [positions, *weights])
    for partition in (
        Partition.of_points(positions, size),
        Partition.of_graph(edge_index, 24, size),
    ):
        own = partition.points_of(rank)
        mine = positions.detach()[own].requires_grad_()
        part = PartEdges(edge_index, partition, shift=shift)
        geometry = part.geometry(mine)
        x = network[0](part(types[own]), geometry)
        stacks = Stacks.from_mul_ir(x, "4x0e + 2x1o")
        y = network[1](part(stacks), geometry, part.of(features)).to_mul_ir()
        found = derivatives(y.square().sum(), [mine, *weights])
        for key in (k for k in found if not k.endswith(" 0")):
            distributed.all_reduce(found[key])
        cut = {k: v[own] if k == "y" or k.endswith(" 0") else v for k, v in expected.items()}
        close({"y": y.detach()} | found, cut, f"edges, process {rank} of {size}")


def traffic(rank: int, size: int) -> None:
    """A layer moves the points of its halo, forward and back, and nothing else but the sums of weights."""
    moved: list[int] = []
    kept = distributed.batch_isend_irecv

    def counted(calls: list[Any]) -> Any:
        moved.append(
            sum(c.tensor.numel() * c.tensor.element_size() for c in calls if c.op is distributed.irecv)
        )
        return kept(calls)

    partition = Partition.of(E, size, work_of(layers.DiscoConv(1, 1, E).map))
    conv = distribute(layers.DiscoConv(3, 5, E).double(), partition)
    rows = Part(partition, rank).shape[0]
    reach = (
        math.ceil(round(conv.radius / (math.pi / E.nlat), 9)) - 1
    )  # rows nearer than the radius, on each side
    halo = reach * ((rank > 0) + (rank < size - 1)) * 16
    assert conv.map.halo.num_halo == halo and conv.map.local.kind == "rings"
    distributed.batch_isend_irecv = counted
    x = torch.randn(2, 3, rows, 16, dtype=torch.float64, requires_grad=True)
    with measured_traffic() as measured:
        y = conv(x)
        assert moved == measured.received == [halo * 2 * 3 * 8] == [conv.map.halo.bytes(6, x.dtype)]
        y.sum().backward()
    distributed.batch_isend_irecv = kept
    back = sum(conv.map.halo.send_counts) * 2 * 3 * 8
    assert moved[1:] == [back] and measured.sent[0] == back and measured.sent[1] == moved[0]
    assert sorted(measured.summed) == sorted(p.numel() * 8 for p in conv.parameters())


def conventions(rank: int, size: int) -> None:
    """Means over the group, fields scattered and gathered, and the three ways of summing gradients."""
    partition, part = Partition.of(E, size), Part(Partition.of(E, size), rank)
    field = torch.randn(2, 3, *E.shape, generator=torch.Generator().manual_seed(1)).double()
    mine = scatter_field(field if rank == size - 1 else None, partition, root=size - 1)
    assert torch.equal(mine, part.of(field)) and torch.equal(gather_field(mine, partition), field)
    mean = field.flatten(2) @ E.areas.flatten() / E.areas.sum()
    torch.testing.assert_close(area_mean(mine, part.areas), mean)
    assert stack_over_group(torch.tensor([float(rank)])).flatten().tolist() == list(range(size))
    layer = made("DiscoConv").double()
    layer(field[:, :2]).square().mean().backward()
    whole = 2 * 3 * E.num_points
    for gradients in ("sum", "mean", None):
        split = distribute(made("DiscoConv").double(), partition, gradients=gradients)
        loss = split(mine[:, :2]).square().sum() / whole
        (sum_over_group(loss) if gradients != "sum" else loss).backward()
        if gradients is None:
            sum_gradients(split, mean=True)
        for a, b in zip(split.parameters(), layer.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)


def two_axes(rank: int, size: int) -> None:
    """Two groups with a sample each, two processes a group: one step of one process with both samples, by DDP over all."""
    group, number, count = share_groups(2)
    assert (number, count) == (rank // 2, 2)
    x = torch.randn(2, 2, *E.shape, generator=torch.Generator().manual_seed(1)).double()
    whole = made("SphericalUNet").double()
    synchronize_norms(whole, False)
    (whole(x).square().flatten(2) @ E.areas.flatten()).mean().backward()
    partition = Partition.of(E, 2)
    part = Part(partition, rank % 2)
    split = distribute(made("SphericalUNet").double(), partition, group, gradients=None)
    model = nn.parallel.DistributedDataParallel(split)
    y = model(part.of(x[number : number + 1]))
    (area_mean(y.square(), part.areas, group).mean() * 4 * math.pi).backward()
    expected = {n: p.grad for n, p in whole.named_parameters()} | dict(whole.named_buffers())
    found = {n: p.grad for n, p in split.named_parameters()} | dict(split.named_buffers())
    names = [
        n for n in found if "num_batches" not in n and (n in dict(split.named_parameters()) or "running" in n)
    ]
    close({n: found[n] for n in names}, {n: expected[n] for n in names}, "two axes")  # type: ignore[misc]


def worker(rank: int, store: str) -> None:
    """What each of four processes does, and then the first two of them."""
    for size in (4, 2):
        if rank >= size:
            return
        distributed.init_process_group(
            "gloo", init_method=f"file://{store}{size}", rank=rank, world_size=size
        )
        for name, (*_, sizes) in LAYERS.items():
            if size in sizes:
                compare(name, rank, size)
        edges(rank, size)
        traffic(rank, size)
        if size == 4:
            two_axes(rank, size)
        else:
            conventions(rank, size)
        distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_available(), reason="torch was built without distributed")
def test_processes_that_share_points_equal_one(tmp_path: Path, programs: Any) -> None:
    running = [programs.start([__file__, str(k), str(tmp_path / "store")]) for k in range(4)]
    ended = [programs.finish(number, timeout=540) for number in running]
    assert [process.returncode for process in ended] == [0] * 4, "\n".join(p.stderr for p in ended)


def test_every_layer_that_can_be_split_is_tested() -> None:
    tested = [getattr(layers, name.split()[0].strip(","), None) for name in LAYERS]
    for kind in (*MAPS, *TURNED):
        assert kind is nn.GroupNorm or any(found and issubclass(found, kind) for found in tested), kind


if __name__ == "__main__":
    worker(int(sys.argv[1]), sys.argv[2])
