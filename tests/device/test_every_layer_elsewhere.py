"""Every public layer on a made-up device: the CPU's numbers, and nothing for which a device would have to wait.

What layers keep of their geometry, and of constants, is made in a first call; a second one is counted.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import spheregeo as sg
from spheregeo.grids import Equiangular
from spheregeo.sampling import farthest_points
from spheregeo.sampling.points import farthest
from spheregeo.sparse import default_engine
from spheregeo.sparse.engines.portable import plans
from spheregeo.testing.subject import Subject, tensors_of

HERE = Path(__file__).parent
for folder in (str(HERE.parent / "testing"), str(HERE)):
    if folder not in sys.path:
        sys.path.insert(0, folder)
for room in (HERE.parent / "testing" / "layer_cases").glob("*.py"):
    importlib.import_module(f"layer_cases.{room.stem}")
CASES: dict[type, Any] = importlib.import_module("layer_cases.common").CASES
Pretend: Any = importlib.import_module("pretend").Pretend

# read once for each new set of positions, unless a geometry is given: whether an edge has length zero
READS = {"SteerableConv": (1, 0)}


def run(layer: Any, inputs: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and the gradients of a sum of squares with respect to inputs and parameters."""
    wanted = [t for value in inputs for t in tensors_of(value)]
    for t in wanted:
        t.requires_grad_()
    wanted += layer.parameters()
    outputs = tensors_of(layer(*inputs))
    total = torch.stack([y.square().sum() for y in outputs]).sum()
    found = torch.autograd.grad(total, wanted, allow_unused=True) if total.requires_grad else ()
    return outputs, [g for g in found if g is not None]


@pytest.mark.parametrize("kind", sorted(CASES, key=lambda kind: kind.__name__), ids=lambda k: k.__name__)
def test_equals_the_cpu_without_waiting(kind: type) -> None:
    case = CASES[kind]()
    subject = Subject(case["layer"], case["inputs"])
    expected = run(subject.layer(), subject.inputs())
    with Pretend() as device:
        layer = device.move(subject.layer())
        there = torch.device(device.name)
        inputs = subject.inputs(device=there)
        run(layer, inputs)
        device.reset()
        found = run(layer, inputs)
        waits, places = (device.syncs, device.copies), dict(device.places)
        assert all(device.on(t) for part in found for t in part)
        with device.host():
            for name, values, others in zip(("outputs", "gradients"), found, expected, strict=True):
                assert len(values) == len(others), name
                for one, other in zip(values, others, strict=True):
                    scale = float(other.detach().abs().max().clamp_min(1e-3)) if other.numel() else 1.0
                    torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=1e-9)
    assert waits == READS.get(kind.__name__, (0, 0)), places


def test_the_device_refuses_what_a_device_would() -> None:
    with Pretend() as device:
        x, host = device.move(torch.arange(4.0)), torch.arange(4.0)
        assert x.device.type == "cuda" and (2 * x[:2]).device == x.device and host.device.type == "cpu"
        with pytest.raises(RuntimeError, match="on the CPU and others on a device"):
            x + host
        with pytest.raises(TypeError, match="copy it to the host first"):
            x.numpy()
        device.reset()
        (x + 1).sum().item()
        x[x > 1]
        x + torch.tensor([1.0, 2, 3, 4], device=x.device)
        x[[0, 1]]
        assert (device.syncs, device.copies) == (2, 2)
        assert x.cpu().device.type == "cpu" and device.syncs == 3
    assert x.device.type == "cpu", "outside its context the device is gone"


def test_farthest_points_are_chosen_by_the_host() -> None:
    """The CPU's choice, for two looks at the device and one copy back; a kernel of the device's own is preferred."""
    points, batch = torch.randn(90, 3), torch.arange(3).repeat_interleave(30)
    expected = farthest_points(points, 9, batch)
    with Pretend() as device:
        there = device.move([points, batch])
        device.reset()
        found = farthest_points(there[0], 9, there[1])
        assert (device.launches, device.syncs, device.copies) == (0, 2, 1)
        calls: list[int] = []

        def kernel(points: Tensor, bounds: Tensor, counts: Tensor, *rest: Tensor) -> Tensor:
            calls.append(len(points))
            return found

        farthest.KERNELS[device.name] = kernel
        try:
            assert torch.equal(farthest_points(there[0], 9, there[1]).cpu(), expected) and calls == [90]
        finally:
            del farthest.KERNELS[device.name]
        with device.host():
            assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "name",
    ["DiscoConv", "SphereAttention", "GaugeConv", "SteerableConv", "ImplicitConv", "SparseInvariantConv"],
)
def test_a_few_rows_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The portable engine in the smallest parts, over rows of 0 to 40 entries, gives what it gives at once; twice alike."""
    kind = next(k for k in CASES if k.__name__ == name)
    subject = Subject(CASES[kind]()["layer"], CASES[kind]()["inputs"])
    results = []
    with default_engine("torch"):
        for size in (1 << 26, 1024, 1024):
            monkeypatch.setattr(plans, "CHUNK_BYTES", size)
            results.append([t for part in run(subject.layer(), subject.inputs()) for t in part])
    for whole, parts, again in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-10)
        assert torch.equal(parts, again)


def test_memory_of_couplings_is_that_of_their_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty neighbours a point, whose features would take twenty times the result and more: four times it at most."""
    monkeypatch.setattr(plans, "CHUNK_BYTES", 1 << 10)
    points, irreps = 600, "8x0e + 8x1o + 8x2e"
    conv = sg.nn.SteerableConv(irreps, irreps, lmax=2, edge_dim=4, depthwise=True)
    target = torch.arange(points).repeat_interleave(20)
    graph = torch.stack([torch.randint(points, (20 * points,)), target])
    with Pretend() as device, torch.no_grad():
        conv = device.move(conv)
        x, positions, weights = device.move(
            [torch.randn(points, 72), torch.randn(points, 3), torch.randn(20 * points, 4)]
        )
        edges = sg.nn.EdgeList.of(device.move(graph), points)
        geometry = sg.nn.EdgeGeometry.of(positions, edges)
        y, pairs = geometry.harmonics(2), edges.pairs
        planar = torch.randn(points * conv.coupling.inputs, device=x.device)
        factor = conv.factor()
        conv.coupling(planar, y, pairs, weights, factor)
        device.reset()
        result = conv.coupling(planar, y, pairs, weights, factor)
        size = result.numel() * result.element_size()
        assert device.peak - size <= 4 * size and (device.syncs, device.copies) == (0, 0)


def test_rows_go_in_few_classes() -> None:
    """At most eight lengths, little padding, every row at least as long as it was."""
    lengths = torch.cat(
        [torch.arange(400), torch.full((3000,), 7), torch.zeros(5, dtype=torch.int64)]
    ).numpy()
    padded = plans.lengths_of_classes(lengths, 1000)
    assert (padded >= lengths).all() and 3 < len(set(padded.tolist())) <= plans.CLASSES
    assert padded.sum() < 1.25 * lengths.sum()
    assert len(set(plans.lengths_of_classes(lengths[:1] + 3).tolist())) == 1


def test_second_derivatives_wait_for_nothing() -> None:
    """Operators are then built anew around the same tensors, which find what was made of these; forces are trained so."""
    grid = Equiangular(16, 32)
    with Pretend() as device:
        disco, steerable = device.move(
            torch.nn.ModuleList(
                [sg.nn.DiscoConv(2, 2, grid), sg.nn.SteerableConv("2x0e", "2x0e + 1x1o", lmax=1)]
            )
        )
        fields, rows, places = device.move([torch.randn(1, 2, 16, 32), torch.randn(8, 2), torch.randn(8, 3)])
        edges = sg.nn.EdgeList.of(device.move(torch.randint(8, (2, 40))), 8)
        for _ in range(2):
            device.reset()
            for run_it, x in ((disco, fields), (lambda p: steerable(rows, p, edges), places)):
                x.requires_grad_()
                (g,) = torch.autograd.grad(run_it(x).square().sum(), x, create_graph=True)
                g.square().sum().backward()
        assert (device.syncs, device.copies) == (0, 0), device.places
