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
